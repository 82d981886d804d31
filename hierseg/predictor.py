"""A photo in, a `Prediction` out: what the page, the command line and the API are made of."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from hierseg.calibration import Calibration, calibrated
from hierseg.decoding import (
    Scores,
    decode,
    decode_firmly,
    decode_means,
    decode_rounding,
    path_means,
    person_pixels,
    violations,
)
from hierseg.inference import Inference
from hierseg.network import checkpoint
from hierseg.network.checkpoint import Card
from hierseg.network.engines import Network, TorchNetwork, open_network
from hierseg.photo import Letterbox, Photo, open_photo
from hierseg.photo.zoom import Window, windows
from hierseg.risk import RiskControl, certainty_for
from hierseg.tree import BoolMask, Hierarchy, UInt8Map

if TYPE_CHECKING:  # PyTorch takes seconds to import, and an exported network needs none of it
    from torch import nn

_LEAST_CONTRAST = 8  # of 255, in any channel: a photo with less shows nothing, and networks may see things in it
_STRIP_PIXELS = 65_536  # photo pixels worked on at a time: their scores fit into a processor's cache
_MOST_SINGLE = 0.2  # share of pixels beyond which all of them together are faster than these one by one
_Canvas = Callable[[Window, Letterbox, tuple[int, int, int]], Photo]  # part, place and fill to the network's input


@dataclasses.dataclass(frozen=True)
class Area:
    """How much of a photo one node covers.

    Attributes:
        share_of_photo: Its pixels over the photo's, 0 to 1.
        share_of_person: Its pixels over those that are not background, 0 to 1.
        confidence: Mean calibrated score of the node over its pixels, 0 to 1; 0 where it has none.
    """

    share_of_photo: float
    share_of_person: float
    confidence: float


@dataclasses.dataclass(frozen=True)
class WindowScores:
    """What the network says of one window of a photo.

    Attributes:
        window: Which part.
        letterbox: How it lies in the network's input; `letterbox.photo` is its height and width.
        scores: Node scores where the network computed them, float32 (N, h, w), 0 to 1.
        weight: Share of these scores in the mean with those of the whole photo, 0 to 1.
        fade: Part of the window's sides over which that share falls to 0 at edges that are not the photo's.
    """

    window: Window
    letterbox: Letterbox
    scores: Scores
    weight: float = 1.0
    fade: float = 0.0

    def path_means(self, hierarchy: Hierarchy) -> WindowScores:
        """Return the same with the mean scores of the tree's paths in place of the nodes' scores."""
        return dataclasses.replace(self, scores=path_means(self.scores, hierarchy))

    def blend_into(self, scores: Scores, first_row: int, photo: tuple[int, int]) -> None:
        """Mix these scores into some rows of a photo's.

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
        down = self._fading(self.window.top, self.window.bottom, photo[0])[own]
        across = self._fading(self.window.left, self.window.right, photo[1])
        there = scores[:, top - first_row : bottom - first_row, self.window.left : self.window.right]
        change = self.letterbox.restore(self.scores, own)
        change -= there
        change *= np.float32(self.weight) * down[:, None] * across
        there += change

    def blend_into_pixels(
        self, scores: Scores, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], photo: tuple[int, int]
    ) -> None:
        """Mix these scores into those of single pixels of a photo, as `blend_into` does.

        Args:
            scores: Of P pixels, float32 (N, P); changed in place.
            rows: Of the pixels in the photo.
            columns: Of the same.
            photo: Height and width of the photo.
        """
        window = self.window
        inside = (rows >= window.top) & (rows < window.bottom) & (columns >= window.left) & (columns < window.right)
        down = self._fading(window.top, window.bottom, photo[0])
        across = self._fading(window.left, window.right, photo[1])
        rows, columns = rows[inside] - window.top, columns[inside] - window.left
        there = scores[:, inside]
        change = self.letterbox.restore_at(self.scores, rows, columns) - there
        scores[:, inside] = there + change * (np.float32(self.weight) * down[rows] * across[columns])

    def _fading(self, first: int, last: int, length: int) -> npt.NDArray[np.float32]:
        """Return a factor for each pixel along one axis: 1, falling to 0 at edges that are not the photo's."""
        at = np.arange(last - first, dtype=np.float32) + np.float32(0.5)
        fade = max(1.0, self.fade * (last - first))
        factor = np.ones_like(at)
        if first > 0:
            factor = np.minimum(factor, at / fade)
        if last < length:
            factor = np.minimum(factor, (last - first - at) / fade)
        return factor


@dataclasses.dataclass(frozen=True)
class DecodedPhoto:
    """What decoding makes of a photo.

    Attributes:
        labels: Label of each pixel's deepest node, or background, uint8 (H, W).
    """

    labels: UInt8Map
    _hierarchy: Hierarchy = dataclasses.field(repr=False)
    _parts: tuple[WindowScores, ...] = dataclasses.field(repr=False)

    @functools.cached_property
    def confidence(self) -> npt.NDArray[np.float32]:
        """Mean score of each pixel's best path, float32 (H, W), 0 to 1; worked out when it is first asked for."""
        means = (part.path_means(self._hierarchy) for part in self._parts)
        strips = [decode_means(rows, self._hierarchy).confidence for _, rows in _strips(*means)]
        return np.concatenate(strips)


@dataclasses.dataclass
class Prediction:
    """What the network says of one photo; everything is answered without running it again.

    Attributes:
        hierarchy: The tree.
        threshold: Decoding threshold used where none is given.
        whole: Scores of the whole photo.
        zoomed: Scores of windows of it, which do not overlap.
        calibration: Makes scores readable as probabilities, see `hierseg.calibration`; None where nothing does.
        risk: Which risks can be promised at this threshold; None where none can.
    """

    hierarchy: Hierarchy
    threshold: float
    whole: WindowScores
    zoomed: tuple[WindowScores, ...] = ()
    calibration: Calibration | None = None
    risk: RiskControl | None = None
    _decoded: dict[tuple[float, float], DecodedPhoto] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the photo in pixels."""
        return self.whole.window.size

    @property
    def scores(self) -> Scores:
        """Node scores at the photo's resolution, float32 (N, H, W); made anew at each call."""
        return _rows(0, self.size[0], self.whole, *self.zoomed)

    @property
    def labels(self) -> UInt8Map:
        """The leaf map: label of each pixel's leaf or background, uint8 (H, W)."""
        return self.decoded().labels

    @property
    def confidence(self) -> npt.NDArray[np.float32]:
        """Mean score of each pixel's best path, float32 (H, W): what the threshold cuts, not calibrated."""
        return self.decoded().confidence

    def decoded(self, threshold: float | None = None, certainty: float = 0.0) -> DecodedPhoto:
        """Decode at the photo's resolution; see `decoding.decode`.

        Args:
            threshold: Decoding threshold; None for the checkpoint's own.
            certainty: Calibrated score above which a pixel goes down to a node; 0 always reaches a leaf.

        Returns:
            Labels and confidence, both (H, W). The last one asked for is kept.
        """
        key = (self.threshold if threshold is None else threshold, certainty)
        decoded = self._decoded.get(key)
        if decoded is None:
            parts = (self.whole, *self.zoomed)
            if certainty > 0:
                strips = [decode(scores, self.hierarchy, *key, self.calibration) for _, scores in self.strips()]
                decoded = DecodedPhoto(np.concatenate([strip.labels for strip in strips]), self.hierarchy, parts)
            else:  # the same from fewer maps
                means = tuple(part.path_means(self.hierarchy) for part in parts)
                decoded = DecodedPhoto(_labels(self.hierarchy, key[0], *means), self.hierarchy, parts)
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
                covered = scores[node][cv2.LUT(labels[rows], members.view(np.uint8)).view(bool)]
                pixels[node] += covered.size
                own = None if self.calibration is None else self.calibration[node : node + 1]
                sums[node] += calibrated(covered[None], own).sum(dtype=np.float64)
        person = int((labels != self.hierarchy.background).sum())
        return {
            name: Area(
                share_of_photo=int(pixels[node]) / labels.size,
                share_of_person=int(pixels[node]) / person if person else 0.0,
                confidence=float(sums[node] / pixels[node]) if pixels[node] else 0.0,
            )
            for node, name in enumerate(self.hierarchy.nodes)
        }

    def certainty(self, risk: float) -> float:
        """Return the least certainty, for `decoded` and its kin, that keeps a risk; see `hierseg.risk`.

        It does so at the checkpoint's own threshold.

        Args:
            risk: Share of the pixels called a person that may have a wrong name, 0 to 1, for instance 1 / 5.

        Raises:
            RiskError: It cannot be promised.
        """
        return certainty_for(self.risk, risk)

    def summary(self, threshold: float | None = None, certainty: float = 0.0) -> dict[str, Any]:
        """Return size, decoding, areas and the share of tree-breaking raw scores as plain values, ready for JSON.

        That share is `raw_violations` of all pixels, and `raw_violations_of_person` of the person's, see
        `decoding.person_pixels`; None where there is nobody.
        """
        height, width = self.size
        broken = self.violations()
        person = person_pixels(self.decoded(threshold, certainty).labels, broken, self.hierarchy).sum()
        return {
            "width": width,
            "height": height,
            "threshold": self.threshold if threshold is None else threshold,
            "certainty": certainty,
            "areas": {name: dataclasses.asdict(area) for name, area in self.areas(threshold, certainty).items()},
            "raw_violations": float(broken.mean()),
            "raw_violations_of_person": float(broken.sum() / person) if person else None,
            "tree": self.hierarchy.to_dict(),
        }

    def violations(self) -> BoolMask:
        """Tell where the raw scores, each rounded at 0.5, break the tree: bool (H, W)."""
        return np.concatenate(
            [violations(decode_rounding(scores, self.hierarchy), self.hierarchy) for _, scores in self.strips()]
        )

    def strips(self) -> Iterator[tuple[slice, Scores]]:
        """Yield (rows, scores of those rows, float32 (N, rows, W)) from top to bottom, made anew at each call."""
        return _strips(self.whole, *self.zoomed)


def _strips(whole: WindowScores, *zoomed: WindowScores) -> Iterator[tuple[slice, Scores]]:
    """Yield what `Prediction.strips` does."""
    height, width = whole.window.size
    step = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, step):
        bottom = min(top + step, height)
        yield slice(top, bottom), _rows(top, bottom, whole, *zoomed)


def _labels(hierarchy: Hierarchy, threshold: float, whole: WindowScores, *zoomed: WindowScores) -> UInt8Map:
    """Decode the mean scores of paths: where the network's own pixels agree, all at once; elsewhere, pixel by pixel."""

    def agreed(part: WindowScores) -> UInt8Map:
        return part.letterbox.spread(decode_firmly(part.scores, hierarchy, threshold), hierarchy.void)

    labels = agreed(whole)
    for part in zoomed:  # a mixture of two that agree is between them
        there = labels[part.window.top : part.window.bottom, part.window.left : part.window.right]
        there[there != agreed(part)] = hierarchy.void
    left = np.flatnonzero(labels == hierarchy.void)
    if left.size > labels.size * _MOST_SINGLE:
        strips = [decode_means(means, hierarchy, threshold).labels for _, means in _strips(whole, *zoomed)]
        return np.concatenate(strips)
    for first in range(0, left.size, _STRIP_PIXELS):
        pixels = left[first : first + _STRIP_PIXELS]
        rows, columns = np.divmod(pixels, labels.shape[1])
        means = whole.letterbox.restore_at(whole.scores, rows, columns)
        for part in zoomed:
            part.blend_into_pixels(means, rows, columns, labels.shape)
        labels.reshape(-1)[pixels] = decode_means(means[:, None], hierarchy, threshold).labels[0]
    return labels


def _rows(top: int, bottom: int, whole: WindowScores, *zoomed: WindowScores) -> Scores:
    """Return the scores of some rows, float32 (N, bottom - top, W)."""
    scores = whole.letterbox.restore(whole.scores, slice(top, bottom))
    for part in zoomed:
        part.blend_into(scores, top, whole.window.size)
    return scores


class Predictor:
    """A loaded checkpoint.

    Attributes:
        name: The file's name without its ending, such as "ftm".
        network: What turns pictures into scores.
        card: What the checkpoint says of itself: spec, tree, title, record.
        inference: How the network is used: as the card says, or as `using` was told.
    """

    name: str
    network: Network
    card: Card
    inference: Inference

    def __init__(self, checkpoint_path: str | Path, device: str | None = None) -> None:
        """Load a checkpoint.

        Args:
            checkpoint_path: A file, or the name of one in `checkpoints/`, such as "ftm".
            device: As for `network.open_network`.

        Raises:
            CheckpointError: It is missing or damaged.
        """
        path = checkpoint.find(checkpoint_path)
        self.name, self.card = path.stem, checkpoint.read_card(path)
        self.network, self.inference = open_network(path, device), self.card.inference

    @classmethod
    def of_model(cls, model: nn.Module, card: Card) -> Predictor:
        """Return a predictor of a network that is in memory, such as one that is being trained.

        Args:
            model: A module from normalised RGB to logits; it stays where it is, and is put into eval mode.
            card: What to say of it.
        """
        predictor = cls.__new__(cls)
        predictor.name, predictor.card, predictor.inference = card.title, card, card.inference
        predictor.network = TorchNetwork(model.eval(), card)
        return predictor

    def using(self, **changes: Any) -> Predictor:
        """Return the same checkpoint used in another way; the network is shared.

        Args:
            changes: Fields of `Inference`; the others stay.
        """
        changed = copy.copy(self)
        changed.inference = dataclasses.replace(self.inference, **changes)
        return changed

    @property
    def risk(self) -> RiskControl | None:
        """Which risks can be promised; None where none was measured for the checkpoint as it is used."""
        measured = self.card.risk
        return measured if measured and measured.inference == self.inference else None

    @property
    def input_size(self) -> int:
        """Longest side of the network's input in pixels."""
        return self.inference.input_size or self.card.spec.input_size

    def predict(self, photo: str | Path | bytes | Image.Image | npt.NDArray[Any]) -> Prediction:
        """Segment one photo.

        Args:
            photo: Anything `photo.open_photo` takes.

        Returns:
            The prediction at the photo's own resolution; all scores of a photo without any contrast are 0.

        Raises:
            PhotoError: The photo cannot be opened.
        """
        return predict_all({self.name: self}, photo)[self.name]

    def _predict(self, size: tuple[int, int], canvas: _Canvas) -> Prediction:
        """Segment a photo of some height and width, given what makes the network's input of a part of it."""
        whole = self._pass(Window(0, 0, *size), canvas)
        zoom, zoomed = self.inference.zoom, []
        if zoom is not None:
            somebody = whole.scores[list(self.card.hierarchy.roots)].max(axis=0)
            for window in windows(somebody, size, zoom):
                seen = self._pass(window, canvas)
                zoomed.append(dataclasses.replace(seen, weight=zoom.weight, fade=zoom.fade))
        card, threshold = self.card, self.inference.threshold
        return Prediction(card.hierarchy, threshold, whole, tuple(zoomed), card.calibration, self.risk)

    def _pass(self, window: Window, canvas: _Canvas) -> WindowScores:
        """Run the network on one window of a photo."""
        letterbox = Letterbox.fit(*window.size, self.input_size)
        red, green, blue = (round(mean * 255) for mean in self.card.spec.mean)  # what becomes 0 when it is normalised
        fill = red, green, blue
        seen = canvas(window, letterbox, fill)
        photo = letterbox.crop(seen.transpose(2, 0, 1)).transpose(1, 2, 0)
        spread = photo.max(axis=0).max(axis=0) - photo.min(axis=0).min(axis=0)
        if spread.max() < _LEAST_CONTRAST:
            scores = np.zeros((len(self.card.hierarchy), *letterbox.content), np.float32)
        elif self.inference.mirror:
            scores = self._with_mirror_image(window, letterbox, seen, canvas, fill)
        else:
            scores = letterbox.crop(self.network(seen[None])[0])
        return WindowScores(window, letterbox, np.ascontiguousarray(scores))

    def _with_mirror_image(
        self, window: Window, letterbox: Letterbox, seen: Photo, canvas: _Canvas, fill: tuple[int, int, int]
    ) -> Scores:
        """Return the mean of the scores of a window and of its mirror image, float32 (N, h, w)."""
        mirrored = Letterbox.fit(*window.size, self.inference.mirror_size or self.input_size)
        if mirrored == letterbox:
            one, other = self.network(np.stack([seen, seen[:, ::-1]]))
            return letterbox.crop((one + other[..., ::-1]) / 2)
        one = letterbox.crop(self.network(seen[None])[0])
        image = np.ascontiguousarray(canvas(window, mirrored, fill)[:, ::-1])
        other = mirrored.crop(self.network(image[None])[0, ..., ::-1])
        return np.asarray((one + dataclasses.replace(mirrored, photo=letterbox.content).restore(other)) / 2, np.float32)


def predict_all(
    predictors: Mapping[str, Predictor], photo: str | Path | bytes | Image.Image | npt.NDArray[Any]
) -> dict[str, Prediction]:
    """Segment one photo with several checkpoints, which share whatever does not depend on their weights.

    Args:
        predictors: Checkpoints by name.
        photo: Anything `photo.open_photo` takes.

    Returns:
        The prediction of each.

    Raises:
        PhotoError: The photo cannot be opened.
    """
    pixels = open_photo(photo)

    @functools.cache
    def canvas(window: Window, letterbox: Letterbox, fill: tuple[int, int, int]) -> Photo:
        return letterbox.apply(pixels[window.top : window.bottom, window.left : window.right], fill)

    return {name: each._predict(pixels.shape[:2], canvas) for name, each in predictors.items()}


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
