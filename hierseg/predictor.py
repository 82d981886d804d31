"""A photo in, a `Prediction` out: the one function behind the page, the command line and the API."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from hierseg.decoding import Decoded, Scores, decode, decode_means, decode_rounding, path_means, violations
from hierseg.network import checkpoint
from hierseg.network.checkpoint import Card
from hierseg.network.engines import Network, open_network
from hierseg.photo import Letterbox, Photo, open_photo
from hierseg.photo.zoom import Window, windows
from hierseg.tree import BoolMask, Hierarchy, UInt8Map

_TRUST = 0.7  # share of a closer look's scores in the mean with what was seen before
_FADE = 0.12  # of a window's sides, over which that share falls to 0 at its edges, so that no seam shows
_LEAST_CONTRAST = 8  # of 255, in any channel: a photo with less shows nothing, and networks may see things in it
_STRIP_PIXELS = 65_536  # photo pixels worked on at a time: their scores fit into a processor's cache


@dataclasses.dataclass(frozen=True)
class Area:
    """How much of a photo one node covers.

    Attributes:
        share_of_photo: Its pixels over the photo's, 0 to 1.
        share_of_person: Its pixels over those that are not background, 0 to 1.
        confidence: Mean score of the node over its pixels, 0 to 1; 0 where it has none.
    """

    share_of_photo: float
    share_of_person: float
    confidence: float


@dataclasses.dataclass(frozen=True)
class Look:
    """What the network says of one window of a photo.

    Attributes:
        window: Which part.
        letterbox: How it lies in the network's input; `letterbox.photo` is its height and width.
        content: Node scores where the network computed them, float32 (N, h, w), 0 to 1.
    """

    window: Window
    letterbox: Letterbox
    content: Scores

    def path_means(self, hierarchy: Hierarchy) -> Look:
        """Return the same look with the mean scores of the tree's paths in place of the nodes' scores."""
        return dataclasses.replace(self, content=path_means(self.content, hierarchy))

    def blend_into(self, scores: Scores, first_row: int, photo: tuple[int, int]) -> None:
        """Mix this look into some rows of a photo's scores.

        Args:
            scores: Scores of whole rows, float32 (N, rows, W); changed in place.
            first_row: Which row of the photo is their first.
            photo: Height and width of the photo.
        """
        top = max(self.window.top, first_row)
        bottom = min(self.window.bottom, first_row + scores.shape[1])
        if top >= bottom:
            return
        own = slice(top - self.window.top, bottom - self.window.top)
        down = _fading(self.window.top, self.window.bottom, photo[0])[own]
        across = _fading(self.window.left, self.window.right, photo[1])
        there = scores[:, top - first_row : bottom - first_row, self.window.left : self.window.right]
        change = self.letterbox.restore(self.content, own)
        change -= there
        change *= np.float32(_TRUST) * down[:, None] * across
        there += change


def _fading(first: int, last: int, length: int) -> npt.NDArray[np.float32]:
    """Return a weight for each pixel of a window along one axis: 1, falling to 0 at edges that are not the photo's."""
    at = np.arange(last - first, dtype=np.float32) + np.float32(0.5)
    fade = max(1.0, _FADE * (last - first))
    weight = np.ones_like(at)
    if first > 0:
        weight = np.minimum(weight, at / fade)
    if last < length:
        weight = np.minimum(weight, (last - first - at) / fade)
    return weight


@dataclasses.dataclass
class Prediction:
    """What the network says of one photo; everything is answered without running it again.

    Attributes:
        hierarchy: The tree.
        threshold: Decoding threshold used where none is given.
        whole: The look at the whole photo.
        closer: Closer looks at windows of it, which do not overlap.
    """

    hierarchy: Hierarchy
    threshold: float
    whole: Look
    closer: tuple[Look, ...] = ()
    _decoded: dict[tuple[float, float], Decoded] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the photo in pixels."""
        return self.whole.window.size

    @property
    def scores(self) -> Scores:
        """Node scores at the photo's resolution, float32 (N, H, W); made anew at each call."""
        return _rows(0, self.size[0], self.whole, *self.closer)

    @property
    def labels(self) -> UInt8Map:
        """The leaf map: label of each pixel's leaf or background, uint8 (H, W)."""
        return self.decoded().labels

    @property
    def confidence(self) -> npt.NDArray[np.float32]:
        """Mean score of each pixel's best path, float32 (H, W)."""
        return self.decoded().confidence

    def decoded(self, threshold: float | None = None, certainty: float = 0.0) -> Decoded:
        """Decode at the photo's resolution; see `decoding.decode`.

        Args:
            threshold: Decoding threshold; None for the checkpoint's own.
            certainty: How sure a node must be for a pixel to go down to it; 0 always reaches a leaf.

        Returns:
            Labels and confidence, both (H, W). The last one asked for is kept.
        """
        key = (self.threshold if threshold is None else threshold, certainty)
        decoded = self._decoded.get(key)
        if decoded is None:
            if certainty > 0:
                strips = [decode(scores, self.hierarchy, *key) for _, scores in self.strips()]
            else:  # the same from fewer maps
                means = [look.path_means(self.hierarchy) for look in (self.whole, *self.closer)]
                strips = [decode_means(rows, self.hierarchy, key[0]) for _, rows in _strips(*means)]
            decoded = Decoded(
                np.concatenate([strip.labels for strip in strips]),
                np.concatenate([strip.confidence for strip in strips]),
            )
            self._decoded = {key: decoded}  # replaced, not changed: another thread may be asking too
        return decoded

    def at_level(self, level: str, threshold: float | None = None, certainty: float = 0.0) -> UInt8Map:
        """Return the label map of one level.

        Args:
            level: Name of the level, for instance "parts".
            threshold: As for `decoded`.
            certainty: As for `decoded`.

        Returns:
            Labels, uint8 (H, W).

        Raises:
            HierarchyError: No level has that name.
        """
        return self.hierarchy.at_level(self.decoded(threshold, certainty).labels, level)

    def areas(self, threshold: float | None = None, certainty: float = 0.0) -> dict[str, Area]:
        """Return for each node how much of the photo it covers; inner nodes count all below them."""
        labels = self.decoded(threshold, certainty).labels
        pixels = np.zeros(len(self.hierarchy), dtype=np.int64)
        sums = np.zeros(len(self.hierarchy))
        for rows, scores in self.strips():
            for node, members in enumerate(self.hierarchy.membership.T):
                mask = cv2.LUT(labels[rows], members.astype(np.uint8))
                covered = cv2.countNonZero(mask)
                pixels[node] += covered
                sums[node] += cv2.mean(scores[node], mask)[0] * covered
        person = int((labels != self.hierarchy.background).sum())
        return {
            name: Area(
                share_of_photo=int(pixels[node]) / labels.size,
                share_of_person=int(pixels[node]) / person if person else 0.0,
                confidence=float(sums[node] / pixels[node]) if pixels[node] else 0.0,
            )
            for node, name in enumerate(self.hierarchy.nodes)
        }

    def summary(self, threshold: float | None = None, certainty: float = 0.0) -> dict[str, Any]:
        """Return size, decoding, areas and the share of tree-breaking raw scores as plain values, ready for JSON."""
        height, width = self.size
        return {
            "width": width,
            "height": height,
            "threshold": self.threshold if threshold is None else threshold,
            "certainty": certainty,
            "areas": {name: dataclasses.asdict(area) for name, area in self.areas(threshold, certainty).items()},
            "raw_violations": float(self.violations().mean()),
            "tree": self.hierarchy.to_dict(),
        }

    def violations(self) -> BoolMask:
        """Tell where the raw scores, each rounded at 0.5, break the tree: bool (H, W)."""
        return np.concatenate(
            [violations(decode_rounding(scores, self.hierarchy), self.hierarchy) for _, scores in self.strips()]
        )

    def strips(self) -> Iterator[tuple[slice, Scores]]:
        """Yield (rows, scores of those rows, float32 (N, rows, W)) from top to bottom, made anew at each call."""
        return _strips(self.whole, *self.closer)


def _strips(whole: Look, *closer: Look) -> Iterator[tuple[slice, Scores]]:
    """Yield what `Prediction.strips` does of what some looks at a photo say."""
    height, width = whole.window.size
    step = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        yield slice(top, bottom), _rows(top, bottom, whole, *closer)


def _rows(top: int, bottom: int, whole: Look, *closer: Look) -> Scores:
    """Return the scores of some rows, float32 (N, bottom - top, W)."""
    scores = whole.letterbox.restore(whole.content, slice(top, bottom))
    for look in closer:
        look.blend_into(scores, top, whole.window.size)
    return scores


def segment(
    network: Network,
    card: Card,
    pixels: Photo,
    input_size: int | None = None,
    flip: bool = True,
    second_look: bool = True,
    canvases: dict[tuple[Any, ...], Photo] | None = None,
) -> Prediction:
    """Run a network on one opened photo.

    Args:
        network: The network.
        card: Its spec, tree and threshold.
        pixels: RGB, uint8, shape (H, W, 3).
        input_size: Longest side of the network's input in pixels; None for the spec's own.
        flip: Take the mean of the scores of the photo and of its mirror image. Twice the time.
        second_look: Look again at windows around people who are small, see `zoom.windows`. Up to four times the
            time where there are such people, nothing where there are none.
        canvases: Letterboxed parts of this photo, by what they depend on; those that are missing are added. Several
            networks that share one do that work once.

    Returns:
        The prediction at the photo's own resolution; all scores of a photo without any contrast are 0.
    """
    size = input_size or card.spec.input_size
    height, width = pixels.shape[:2]
    canvases = {} if canvases is None else canvases

    def look(window: Window) -> Look:
        letterbox = Letterbox.fit(*window.size, size)
        fill = _fill(card)
        if (window, size, fill) not in canvases:
            part = pixels[window.top : window.bottom, window.left : window.right]
            canvases[window, size, fill] = letterbox.apply(part, fill)
        return Look(window, letterbox, _scores(network, card, canvases[window, size, fill], letterbox, flip))

    whole = look(Window(0, 0, height, width))
    closer: tuple[Look, ...] = ()
    if second_look:
        roots = [node for node, parent in enumerate(card.hierarchy.parents) if parent < 0]
        somebody = whole.content[roots].max(axis=0)
        closer = tuple(look(window) for window in windows(somebody, (height, width)))
    return Prediction(card.hierarchy, card.threshold, whole, closer)


def _fill(card: Card) -> tuple[int, int, int]:
    """Return the colour around a letterboxed photo: what becomes 0 when it is normalised."""
    red, green, blue = (round(mean * 255) for mean in card.spec.mean)
    return red, green, blue


def _scores(network: Network, card: Card, canvas: Photo, letterbox: Letterbox, flip: bool) -> Scores:
    """Return the node scores of a letterboxed photo, without what is around it, float32 (N, h, w)."""
    photo = letterbox.crop(canvas.transpose(2, 0, 1)).transpose(1, 2, 0)
    spread = photo.max(axis=0).max(axis=0) - photo.min(axis=0).min(axis=0)
    if spread.max() < _LEAST_CONTRAST:
        return np.zeros((len(card.hierarchy), *letterbox.content), np.float32)
    scores = network(np.stack([canvas, canvas[:, ::-1]]) if flip else canvas[None])
    mean = (scores[0] + scores[1, :, :, ::-1]) / 2 if flip else scores[0]
    return np.ascontiguousarray(letterbox.crop(mean))


class Predictor:
    """A loaded checkpoint."""

    def __init__(self, checkpoint_path: str | Path, device: str | None = None) -> None:
        """Load a checkpoint.

        Args:
            checkpoint_path: A file, or the name of one in `checkpoints/`, such as "ftm".
            device: As for `network.open_network`.

        Raises:
            CheckpointError: It is missing or damaged.
        """
        self.path = checkpoint.find(checkpoint_path)
        self.card = checkpoint.read_card(self.path)
        self.network = open_network(self.path, device)

    @property
    def name(self) -> str:
        """The file's name without its ending, such as "ftm"."""
        return self.path.stem

    def predict(
        self,
        photo: str | Path | bytes | Image.Image | npt.NDArray[Any],
        flip: bool = True,
        second_look: bool = True,
    ) -> Prediction:
        """Segment one photo.

        Args:
            photo: Anything `image.open_photo` takes.
            flip: As for `segment`.
            second_look: As for `segment`.

        Returns:
            The prediction at the photo's own resolution.

        Raises:
            PhotoError: The photo cannot be opened.
        """
        return segment(self.network, self.card, open_photo(photo), flip=flip, second_look=second_look)


def predict_all(
    predictors: Mapping[str, Predictor],
    photo: str | Path | bytes | Image.Image | npt.NDArray[Any],
    flip: bool = True,
    second_look: bool = True,
) -> dict[str, Prediction]:
    """Segment one photo with several checkpoints, which share whatever does not depend on their weights.

    Args:
        predictors: Checkpoints by name.
        photo: Anything `image.open_photo` takes.
        flip: As for `segment`.
        second_look: As for `segment`.

    Returns:
        The prediction of each.

    Raises:
        PhotoError: The photo cannot be opened.
    """
    pixels = open_photo(photo)
    canvases: dict[tuple[Any, ...], Photo] = {}
    return {
        name: segment(each.network, each.card, pixels, flip=flip, second_look=second_look, canvases=canvases)
        for name, each in predictors.items()
    }


def best_first(cards: Mapping[str, Card]) -> list[str]:
    """Order checkpoints by the data-set IoU that their own records give for the validation photos.

    Args:
        cards: What each checkpoint says of itself, by name.

    Returns:
        Their names: the highest mean over levels first, those without recorded figures last, equals by name.
    """
    return sorted(cards, key=lambda name: (-_validation_iou(cards[name]), name))


def _validation_iou(card: Card) -> float:
    """Return the mean over levels of a checkpoint's recorded data-set IoU; minus infinity where it records none."""
    try:
        iou = statistics.fmean(card.record["figures"]["dataset_iou"]["levels"].values())
    except (KeyError, TypeError, AttributeError, ValueError):  # whoever wrote the file decides what is in a record
        return -math.inf
    return iou if math.isfinite(iou) else -math.inf
