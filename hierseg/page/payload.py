"""What the viewer in the browser is given, as plain JSON values: a JPEG, and for each checkpoint packed maps.

The maps say of every pixel all that decoding needs, so that the browser answers every threshold, certainty and level
by itself, with the very pixels that the library gives.
"""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from hierseg import __version__
from hierseg.decoding import best_paths, decode_rounding, violations
from hierseg.photo import Photo
from hierseg.photo.label_map import LabelMapError
from hierseg.predictor import Prediction, Predictor
from hierseg.tree import Hierarchy, UInt8Map
from hierseg.visualize import readable

VIEW_SIZE = 1280  # longest side shown; larger photos are shrunk before anything else is done with them
STEPS = 100  # thresholds are multiples of one over this


def shrink(photo: Photo, size: int = VIEW_SIZE) -> Image.Image:
    """Return a photo as an image whose longest side is at most `size` pixels."""
    height, width = photo.shape[:2]
    scale = min(1.0, size / max(height, width))
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(photo if scale == 1 else cv2.resize(photo, shape, interpolation=cv2.INTER_AREA))


def refusal(sentence: str) -> dict[str, Any]:
    """Return what makes the viewer show a sentence instead of a picture."""
    return {"message": sentence}


def scene(
    shown: Image.Image,
    predictors: Mapping[str, Predictor],
    predictions: Mapping[str, Prediction],
    truth: UInt8Map | None = None,
    note: str = "",
    original: tuple[int, int] | None = None,
    example: bool = False,
) -> dict[str, Any]:
    """Return what makes the viewer show a photo and the masks of every checkpoint.

    Args:
        shown: The photo as it is to be shown.
        predictors: Checkpoints by name; all of one tree.
        predictions: What each says of `shown`.
        truth: Labels that are right, uint8, of the size of `shown`; None if nobody knows.
        note: A sentence about the photo to show with it.
        original: Height and width of the photo as it was sent, the size of saved masks; None for that of `shown`.
        example: Whether it stands there before a visitor has sent one.

    Returns:
        Values for JSON; `viewer/scene.js` names the keys.
    """
    tree = next(iter(predictors.values())).card.hierarchy
    height, width = original or shown.size[::-1]
    with ThreadPoolExecutor() as pool:  # arrays and PNG release the interpreter's lock
        urls = dict(zip(predictions, pool.map(_maps_url, predictions.values()), strict=True))
    return {
        "version": __version__,
        "note": note,
        "example": example,
        "original": [width, height],
        "photo": data_url(shown.convert("RGB"), "JPEG", quality=90),
        "tree": tree.to_dict(),
        "background": tree.background,
        "void": tree.void,
        "levels": list(tree.level_names),
        "nodes": [
            {
                "name": name,
                "title": readable(name),
                "label": tree.labels[node],
                "color": tree.colors[node],
                "path": tree.lineages[node],
            }
            for node, name in enumerate(tree.nodes)
        ],
        "checkpoints": [
            {
                "name": name,
                "title": predictors[name].card.title,
                "threshold": prediction.threshold,
                "maps": urls[name],
            }
            for name, prediction in predictions.items()
        ],
        "truth": None if truth is None else _map_url(truth),
    }


def maps(prediction: Prediction) -> npt.NDArray[np.uint8]:
    """Return what decoding needs to know of every pixel.

    Scores are rounded up to steps of 1 / `STEPS`: a score is above a multiple of that exactly if its map is.

    Args:
        prediction: What a checkpoint says of a photo of H by W pixels.

    Returns:
        Maps, uint8 (3 + D, H, W): index of the best path's leaf, its mean score in steps, the score of its node at each
        of D depths in steps, and 1 where the raw scores break the tree.
    """
    strips = []
    for _, scores in prediction.strips():
        paths = best_paths(scores, prediction.hierarchy)
        broken = violations(decode_rounding(scores, prediction.hierarchy), prediction.hierarchy)
        steps = np.ceil(np.concatenate([paths.confidence[None], paths.scores]) * np.float32(STEPS))
        strips.append(np.concatenate([paths.leaves[None], steps, broken[None]]).astype(np.uint8))
    return np.concatenate(strips, axis=1)


def fit_truth(label_map: UInt8Map, photo: tuple[int, int], measured: tuple[int, int], tree: Hierarchy) -> UInt8Map:
    """Return a ground truth at the size at which it is compared.

    Args:
        label_map: Labels, uint8 (H, W): of the photo's own size, or of its shape and no smaller than `measured`.
        photo: Height and width of the photo as it was sent.
        measured: Height and width at which it is compared.
        tree: The tree whose labels it should have.

    Returns:
        Labels, uint8, of the size `measured`.

    Raises:
        HierarchyError: A label is of no node.
        LabelMapError: It is of another size or shape.
    """
    tree.check_labels(label_map)
    height, width = label_map.shape
    # A photo's shorter side is rounded when it is shrunk; what is further off is the mask of another photo.
    off = abs(height * measured[1] - width * measured[0]) > (max(height, width) + max(measured)) / 2
    if (height, width) != photo and (off or height < measured[0] or width < measured[1]):
        raise LabelMapError(
            f"The ground truth is {width} by {height} pixels and the photo {photo[1]} by {photo[0]}; they must be of "
            "one size. Is it of another photo?"
        )
    return np.asarray(Image.fromarray(label_map).resize(measured[::-1], Image.Resampling.NEAREST))


def _maps_url(prediction: Prediction) -> str:
    return _map_url(maps(prediction))


def _map_url(layers: npt.NDArray[np.uint8]) -> str:
    """Return maps one below the other as zlib's format of the differences to the row above, modulo 256."""
    rows = layers.reshape(-1, layers.shape[-1])
    packer = zlib.compressobj(1, strategy=zlib.Z_RLE)
    packed = packer.compress(np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1])).tobytes()) + packer.flush()
    return f"data:application/zlib;base64,{base64.b64encode(packed).decode()}"


def data_url(image: Image.Image, kind: str, **options: Any) -> str:
    """Return an image as a data URL of a kind that Pillow writes, "JPEG" or "PNG", with Pillow's options for it."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
