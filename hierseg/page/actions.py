"""What the page, its API and its MCP tools do with a photo; `page.py` says which control calls what."""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import logging
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import anyio.to_thread
import gradio as gr
import numpy as np
from PIL import Image

from hierseg import __version__
from hierseg.comparison import differences
from hierseg.errors import UserError
from hierseg.metrics import count, iou, level_means
from hierseg.page import payload
from hierseg.page.blocks import FAILED
from hierseg.page.gpu import on_gpu
from hierseg.photo import Photo, PhotoError, is_animated, open_photo
from hierseg.photo.label_map import open_label_map
from hierseg.predictor import Prediction, Predictor, best_first, predict_all
from hierseg.tree import UInt8Map
from hierseg.visualize import difference_picture, indexed_image, overlay

_LARGEST_FRAME = 1_500_000  # bytes of a live frame
_LARGEST_FILE = 15_000_000  # of a whole photo, as for uploads; intake.js says so before it is sent
_MOST_WAITING = 32  # whole photos
EXAMPLE = "An example. Drop a photo of your own."
GONE = "{} are deleted ten minutes after they were sent, and this one is gone. Send it again."
_log = logging.getLogger(__name__)
Arguments = ParamSpec("Arguments")
Scene = TypeVar("Scene")


def _answered(function: Callable[Arguments, Scene]) -> Callable[Arguments, Scene | dict[str, Any]]:
    """Make a function give the viewer a sentence where it fails: Gradio would leave the viewer at work for ever."""

    @functools.wraps(function)
    def answer(*arguments: Arguments.args, **options: Arguments.kwargs) -> Scene | dict[str, Any]:
        try:
            return function(*arguments, **options)
        except UserError as error:
            return payload.refusal(str(error))
        except Exception:
            _log.exception("a photo could not be segmented")
            return payload.refusal(FAILED)

    return answer


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
        self._live = threading.Lock()
        self._turn = asyncio.Lock()
        self._waiting = 0

    @_answered
    def show(self, photo: str | None, truth: str | None) -> dict[str, Any] | None:
        """Return what the viewer shows of a photo file and, where there is one, its ground truth's file."""
        if photo is None:
            return None
        shown, size = _to_show(_opened(photo))
        labels, note = self._truth(truth, size, shown.size[::-1])
        if is_animated(photo):
            note = f"This photo is animated; its first picture is shown. {note}".strip()
        return payload.scene(shown, self.predictors, self._run(shown), labels, note, size)

    def show_truth(self, photo: str | None, truth: str | None) -> Any:
        """Do as `show` when the ground truth changes; where there is no photo any more, what is shown stays."""
        if photo is None:
            return gr.skip()
        if not Path(photo).exists():
            gr.Warning(GONE.format("Photos"))
            return gr.skip()
        return self.show(photo, truth)

    def example(self, photo: Path) -> dict[str, Any] | None:
        """Return what the viewer shows before a visitor has sent a photo; None where that cannot be made.

        A card that only requests may use, as on a ZeroGPU Space, cannot make it; the page does without.
        """
        try:
            shown, size = _to_show(open_photo(photo))
            predictions = self._predict(shown)
        except Exception:
            _log.exception("the example could not be segmented")
            return None
        return payload.scene(shown, self.predictors, predictions, note=EXAMPLE, original=size, example=True)

    @_answered
    def segment_frame(self, frame: str) -> dict[str, Any]:
        """Return what the viewer shows of a camera's frame, a JPEG as a data URL, or {"busy": True}.

        One frame is worked on at a time, whoever sends it. A camera that finds the network at work sends a newer frame
        later, so nothing queues up. One look a frame, for speed: neither mirror image nor second look.
        """
        if not self._live.acquire(blocking=False):
            return {"busy": True}
        try:
            shown = payload.shrink(open_photo(_content(frame, _LARGEST_FRAME)))
            predictions = self._run(shown, thorough=False)
            return payload.scene(shown, self.predictors, predictions)
        finally:
            self._live.release()

    async def segment_file(self, file: str) -> dict[str, Any]:
        """Return what the viewer shows of a photo file, sent as a data URL, which is never written to a disk.

        One photo is worked on at a time: others wait their turn, and hold no thread meanwhile. Where too many wait, the
        answer is {"busy": True}.
        """
        if self._waiting >= _MOST_WAITING:
            return {"busy": True}
        self._waiting += 1
        try:
            async with self._turn:
                return await anyio.to_thread.run_sync(self._segment_file, file)
        finally:
            self._waiting -= 1

    @_answered
    def _segment_file(self, file: str) -> dict[str, Any]:
        shown, size = _to_show(open_photo(_content(file, _LARGEST_FILE)))
        return payload.scene(shown, self.predictors, self._run(shown), original=size)

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
        pixels = _opened(photo)
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
        pixels = _opened(photo)
        names = self._pair(first, second)
        self._check_level(level)
        labels, note = self._truth(truth, pixels.shape[:2], pixels.shape[:2])
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

    def _predict(
        self, photo: Photo | Image.Image, names: tuple[str, ...] | None = None, thorough: bool = True
    ) -> dict[str, Prediction]:
        """Run some checkpoints, or all, on a photo; not thorough is one look, without mirror image or second look."""
        wanted = {name: self.predictors[name] for name in names or self.predictors}
        return predict_all(wanted, photo, flip=thorough, second_look=thorough)

    def _truth(
        self, truth: str | None, size: tuple[int, int], measured: tuple[int, int]
    ) -> tuple[UInt8Map | None, str]:
        """Return a ground truth at the height and width at which it is compared, and a sentence about it.

        The photo is answered whatever the ground truth is.
        """
        if truth is None:
            return None, ""
        try:
            if not Path(truth).exists():
                raise UserError(GONE.format("Ground truths"))
            labels = payload.fit_truth(open_label_map(truth, self.tree), size, measured, self.tree)
        except UserError as error:
            return None, str(error)
        except Exception:
            _log.exception("a ground truth could not be compared")
            return None, "The ground truth failed on the server. Try another file."
        if size == measured:
            return labels, ""
        return labels, f"The ground truth is compared at {measured[1]} by {measured[0]} pixels."

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


def _opened(photo: str | None) -> Photo:
    if photo is None:
        raise UserError("Send a photo.")
    try:
        return open_photo(photo)
    except PhotoError:
        if Path(photo).exists():
            raise
        raise UserError(GONE.format("Photos")) from None


def _to_show(photo: Photo) -> tuple[Image.Image, tuple[int, int]]:
    """Return a photo as it is shown, and the height and width it had; the photo itself need not be kept meanwhile."""
    return payload.shrink(photo), photo.shape[:2]


def _content(url: Any, largest: int) -> bytes:
    """Return the bytes in a data URL, no more than `largest`."""
    if not isinstance(url, str):
        raise PhotoError("This is not a photo. It must be sent as a data URL.")
    encoded = url.partition(",")[2]
    if len(encoded) > largest / 3 * 4:
        raise PhotoError(f"This photo is larger than {largest / 1e6:g} MB.")
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise PhotoError("The photo did not arrive whole. Send it again.") from error
