"""A photo in, a `Prediction` out: the one function behind the page, the command line and the API."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from hierseg import checkpoint
from hierseg.checkpoint import Card
from hierseg.decoding import Decoded, Scores, decode, decode_rounding, violations
from hierseg.hierarchy import BoolMask, Hierarchy, UInt8Map
from hierseg.image import Letterbox, Photo, open_photo
from hierseg.model import normalize
from hierseg.second_look import Window, windows

_TRUST = 0.7  # share of a closer look's scores in the mean with what was seen before
_FADE = 0.12  # of a window's sides, over which that share falls to 0 at its edges, so that no seam shows
_LEAST_CONTRAST = 8  # of 255, in any channel: a photo with less shows nothing, and networks answer it at random
_STRIP_PIXELS = 1_000_000  # photo pixels decoded at a time, so that memory does not grow with nodes times photo


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
    content: Tensor

    def blend_into(self, scores: Tensor, first_row: int, photo: tuple[int, int]) -> None:
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
        there.lerp_(self.letterbox.restore(self.content, own), _TRUST * down[:, None] * across)


def _fading(first: int, last: int, length: int) -> Tensor:
    """Return a weight for each pixel of a window along one axis: 1, falling to 0 at edges that are not the photo's."""
    at = torch.arange(last - first) + 0.5
    fade = max(1.0, _FADE * (last - first))
    from_first = at / fade if first > 0 else torch.ones_like(at)
    from_last = (last - first - at) / fade if last < length else torch.ones_like(at)
    return torch.minimum(from_first, from_last).clamp(max=1)


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
        return self._rows(0, self.size[0])

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
            strips = [decode(scores, self.hierarchy, *key) for _, scores in self.strips()]
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
            masks = self.hierarchy.node_masks(labels[rows])
            pixels += masks.sum((1, 2))
            sums += np.where(masks, scores, 0).sum((1, 2), dtype=np.float64)
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
        height, width = self.size
        step = max(1, _STRIP_PIXELS // width)
        for top in range(0, height, step):
            bottom = min(top + step, height)
            yield slice(top, bottom), self._rows(top, bottom)

    def _rows(self, top: int, bottom: int) -> Scores:
        """Return the scores of some rows, float32 (N, bottom - top, W)."""
        scores = self.whole.letterbox.restore(self.whole.content, slice(top, bottom))
        for look in self.closer:
            look.blend_into(scores, top, self.size)
        return np.asarray(scores.numpy())


@torch.inference_mode()
def segment(
    model: nn.Module,
    card: Card,
    pixels: Photo,
    input_size: int | None = None,
    flip: bool = True,
    second_look: bool = True,
) -> Prediction:
    """Run a network on one opened photo.

    Args:
        model: The network, in eval mode.
        card: Its spec, tree and threshold.
        pixels: RGB, uint8, shape (H, W, 3).
        input_size: Longest side of the network's input in pixels; None for the spec's own.
        flip: Take the mean of the scores of the photo and of its mirror image. Twice the time.
        second_look: Look again at windows around people who are small, see `second_look.windows`. Up to four times the
            time where there are such people, nothing where there are none.

    Returns:
        The prediction at the photo's own resolution; all scores of a photo without any contrast are 0.
    """
    size = input_size or card.spec.input_size
    height, width = pixels.shape[:2]
    if int(np.ptp(pixels, axis=(0, 1)).max()) < _LEAST_CONTRAST:
        letterbox = Letterbox.fit(height, width, size)
        nothing = torch.zeros(len(card.hierarchy), *letterbox.content)
        return Prediction(card.hierarchy, card.threshold, Look(Window(0, 0, height, width), letterbox, nothing))
    whole = _look(model, card, pixels, Window(0, 0, height, width), size, flip)
    closer: tuple[Look, ...] = ()
    if second_look:
        roots = [node for node, parent in enumerate(card.hierarchy.parents) if parent < 0]
        somebody = whole.content[roots].amax(dim=0).numpy()
        closer = tuple(_look(model, card, pixels, window, size, flip) for window in windows(somebody, (height, width)))
    return Prediction(card.hierarchy, card.threshold, whole, closer)


def _look(model: nn.Module, card: Card, pixels: Photo, window: Window, size: int, flip: bool) -> Look:
    letterbox = Letterbox.fit(*window.size, size)
    part = np.ascontiguousarray(pixels[window.top : window.bottom, window.left : window.right])
    red, green, blue = (round(mean * 255) for mean in card.spec.mean)
    canvas = torch.from_numpy(letterbox.apply(part, (red, green, blue))).permute(2, 0, 1)
    weights = next(model.parameters(), canvas)  # where the network is, the photo must go
    image = normalize(canvas.to(weights.device), card.spec)
    batch = torch.stack([image, image.flip(-1)] if flip else [image])
    scores: Tensor = model(batch.contiguous(memory_format=torch.channels_last)).sigmoid()
    mean = (scores[0] + scores[1].flip(-1)) / 2 if flip else scores[0]
    return Look(window, letterbox, letterbox.crop(mean).float().cpu().contiguous())


class Predictor:
    """A loaded checkpoint."""

    def __init__(self, checkpoint_path: str | Path, device: str | None = None) -> None:
        """Load a checkpoint.

        Args:
            checkpoint_path: A file, or the name of one in `checkpoints/`, such as "ftm".
            device: Where the network runs; None for the graphics card where there is one.

        Raises:
            CheckpointError: It is missing or damaged.
        """
        self.path = checkpoint.find(checkpoint_path)
        model, self.card = checkpoint.load(self.path)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in stubs

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
        return segment(self.model, self.card, open_photo(photo), flip=flip, second_look=second_look)
