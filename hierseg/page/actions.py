"""What the page, its API and its MCP tools do with a photo; `app.py` connects them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hierseg import __version__
from hierseg.comparison import differences
from hierseg.errors import UserError
from hierseg.metrics import count, iou, level_means
from hierseg.page import payload
from hierseg.page.gpu import on_gpu
from hierseg.photo import Photo, is_animated, open_photo, read_file
from hierseg.photo.label_map import open_label_map
from hierseg.predictor import Prediction, Predictor, best_first, predict_all
from hierseg.tree import UInt8Map
from hierseg.visualize import difference_picture, indexed_image, overlay

GONE = "{} are deleted ten minutes after they were sent, and this one is gone. Send it again."
_log = logging.getLogger(__name__)

_FRAME_INPUT = 320  # longest side of a live frame in the network: a third less time than 384


class Actions:
    """Everything that can be asked of some checkpoints of one tree.

    Attributes:
        predictors: The checkpoints by name, the best on validation first; it is the one that is shown first, and the
            first two are compared, where nobody names others.
        tree: Their tree.
    """

    def __init__(self, predictors: Mapping[str, Predictor]) -> None:
        """Serve these checkpoints, by name."""
        names = best_first({name: predictor.card for name, predictor in predictors.items()})
        self.predictors = {name: predictors[name] for name in names}
        self.tree = next(iter(predictors.values())).card.hierarchy
        self._run = on_gpu(self._predict)

    def show(self, photo: bytes, names: tuple[str, ...] = (), thorough: bool = True) -> bytes:
        """Return what the viewer shows of a photo, see `payload.scene`.

        Args:
            photo: The bytes of its file.
            names: Of the checkpoints to run; none for all.
            thorough: Whether size, mirror image and zoom are as the checkpoints say, and not those of a live frame.

        Raises:
            PhotoError: It cannot be opened.
            UserError: There is no such checkpoint.
        """
        for name in names:
            self._check(name)
        shown, size = _to_show(open_photo(photo))
        note = "This photo is animated; its first picture is shown." if is_animated(photo) else ""
        return payload.scene(shown, self.predictors, self._run(shown, names, thorough=thorough), note, size)

    def fit_truth(self, truth: bytes, height: int, width: int) -> bytes:
        """Return a message with the packed map of a ground truth, as the viewer compares it, and a note about it.

        Args:
            truth: The bytes of a file, see `open_label_map`.
            height: Of its photo in pixels, as that was sent.
            width: The same.

        Raises:
            UserError: It is no label map, or of another photo.
        """
        shown = payload.shown_size(height, width)
        labels = payload.fit_truth(open_label_map(truth, self.tree), (height, width), shown, self.tree)
        note = f"The ground truth is compared at {shown[1]} by {shown[0]} pixels." if shown != (height, width) else ""
        return payload.message({"note": note}, payload.pack(labels))

    def segment(
        self, photo: str | None, checkpoint: str, level: str, opacity: float | None
    ) -> tuple[Image.Image, Image.Image, dict[str, Any]]:
        """Segment the people in a photo along the tree body, upper and lower body, parts.

        Args:
            photo: The photo, a file in JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP or TIFF.
            checkpoint: Which network, named after the loss that it was trained with: bce for binary cross-entropy, ftm
                for Focal-Tree-Min, leaf for a softmax over the tree's leaves.
            level: How far down the tree: body, upper-lower or parts.
            opacity: Opacity of the colours in the overlay, 0 to 1.

        Returns:
            The photo with its parts laid over it, the mask as a PNG of label numbers with a palette, and as JSON for
            every node its share of the photo and of the person and its mean confidence, with the tree that names the
            labels.
        """
        pixels = open_photo(_sent(photo, "Photos"))
        self._check(checkpoint)
        self._check_level(level)
        if opacity is None:
            raise UserError("Name an opacity from 0 to 1.")
        prediction = self._run(pixels, (checkpoint,))[checkpoint]
        labels = prediction.at_level(level)
        picture = overlay(pixels, labels, self.tree, opacity)
        mask = indexed_image(labels, self.tree)
        return _one_answer(Image.fromarray(picture)), _one_answer(mask), self._summary(checkpoint, prediction)

    def compare(
        self,
        photo: str | None,
        level: str,
        truth: str | None = None,
        first: str | None = None,
        second: str | None = None,
    ) -> tuple[Image.Image, dict[str, Any]]:
        """Compare what two networks, trained with different losses, say of the people in a photo.

        Args:
            photo: The photo, a file in JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP or TIFF.
            level: How far down the tree they are compared: body, upper-lower or parts.
            truth: The right label map of this photo, an indexed PNG or a .npy file, if there is one.
            first: One checkpoint, as for `segment`; without a name, the best on validation that is not the second.
            second: The other; without a name, the best on validation that is not the first.

        Returns:
            The darkened photo with what differs laid over it (orange: only the first, blue: only the second, white:
            another part), and as JSON how much differs, the areas and confidences of both and, with a ground truth, the
            intersection over union of every node and level, or a note that says why the ground truth was left out.
        """
        pixels = open_photo(_sent(photo, "Photos"))
        names = self._pair(first, second)
        self._check_level(level)
        labels, note = self._truth(truth, pixels.shape[:2])
        predictions = self._run(pixels, names)
        one, other = (predictions[name].at_level(level) for name in names)
        found = differences(one, other, self.tree)
        figures: dict[str, Any] = {
            "level": level,
            "differ": {
                "share_of_photo": found.of_photo,
                "share_of_people": found.of_people,
                f"only_{names[0]}": found.only_first,
                f"only_{names[1]}": found.only_second,
                "another_part": found.another_node,
            },
            "checkpoints": {
                name: self._summary(name, prediction) | ({} if labels is None else self._agreement(prediction, labels))
                for name, prediction in predictions.items()
            },
        }
        if note:
            figures["note"] = note
        return _one_answer(Image.fromarray(difference_picture(pixels, found))), figures

    def _predict(self, photo: Photo, names: tuple[str, ...] = (), thorough: bool = True) -> dict[str, Prediction]:
        """Run some checkpoints, or all, on a photo; not thorough is one small pass, without mirror image or zoom."""
        wanted = {name: self.predictors[name] for name in names or self.predictors}
        if not thorough:
            wanted = {
                name: each.using(mirror=False, zoom=None, input_size=min(_FRAME_INPUT, each.input_size))
                for name, each in wanted.items()
            }
        return predict_all(wanted, photo)

    def _truth(self, truth: str | None, size: tuple[int, int]) -> tuple[UInt8Map | None, str]:
        """Return a ground truth that fits a photo's height and width, or None and a note that says why."""
        if truth is None:
            return None, ""
        try:
            labels = open_label_map(_sent(truth, "Ground truths"), self.tree)
            return payload.fit_truth(labels, size, size, self.tree), ""
        except UserError as error:
            return None, str(error)
        except Exception:
            _log.exception("a ground truth could not be compared")
            return None, "The ground truth failed on the server. Try another file."

    def _pair(self, first: str | None, second: str | None) -> tuple[str, str]:
        """Return the names of two checkpoints to compare: those that are named, and else the best of the others."""
        if len(self.predictors) < 2:
            raise UserError("There is only one checkpoint here, and nothing to compare it with.")
        first = first or next(name for name in self.predictors if name != second)
        second = second or next(name for name in self.predictors if name != first)
        for name in (first, second):
            self._check(name)
        if first == second:
            raise UserError(f"To be compared, two checkpoints must differ; both are {first!r}.")
        return first, second

    def _check(self, checkpoint: str) -> None:
        if checkpoint not in self.predictors:
            raise UserError(f"There is no checkpoint {checkpoint!r}. There are: {', '.join(self.predictors)}.")

    def _check_level(self, level: str) -> None:
        if level not in self.tree.level_names:
            raise UserError(f"There is no level {level!r}. There are: {', '.join(self.tree.level_names)}.")

    def _summary(self, name: str, prediction: Prediction) -> dict[str, Any]:
        return {"version": __version__, "checkpoint": name, **prediction.summary()}

    def _agreement(self, prediction: Prediction, truth: UInt8Map) -> dict[str, Any]:
        """Return the photo's intersection over union, None for what is in neither."""
        ious = iou(count({"path": prediction.labels}, truth, self.tree), "path")
        kinds = {"levels": level_means(ious, self.tree), "nodes": dict(zip(self.tree.nodes, ious, strict=False))}
        return {
            "iou": {
                kind: {name: None if np.isnan(value) else float(value) for name, value in values.items()}
                for kind, values in kinds.items()
            }
        }


def _one_answer(image: Image.Image) -> Image.Image:
    """Make an image's file unlike every other by a comment that says nothing.

    Gradio names a file by its content and writes it in place: of two visitors who send the same photo at once, one
    could fetch the file while it is written anew for the other, and get a part of it.
    """
    image.info["comment"] = uuid.uuid4().hex
    return image


def _sent(path: str | None, what: str) -> bytes:
    """Return the content of a file that was uploaded."""
    if path is None:
        raise UserError("Send a photo.")
    if not Path(path).exists():
        raise UserError(GONE.format(what))
    return read_file(Path(path))


def _to_show(photo: Photo) -> tuple[Photo, tuple[int, int]]:
    """Return a photo as it is shown, and its own height and width; a large photo can then be freed."""
    return payload.shrink(photo), photo.shape[:2]
