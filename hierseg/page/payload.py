"""What the viewer in the browser is given: JSON values, and the bytes of a JPEG and of packed maps.

The maps say of every pixel all that decoding needs, so that the browser answers every threshold, certainty and level
by itself, with the very pixels that the library gives.
"""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from hierseg import __version__
from hierseg.about_losses import ABOUT
from hierseg.decoding import best_paths, decode_rounding
from hierseg.network.checkpoint import Card
from hierseg.photo import Photo
from hierseg.photo.label_map import LabelMapError
from hierseg.predictor import Prediction, Predictor
from hierseg.risk import RiskControl
from hierseg.tree import BoolMask, Hierarchy, UInt8Map
from hierseg.visualize import encoded, readable

VIEW_SIZE = 1280  # longest side shown; larger photos are shrunk before anything else is done with them
LEVEL_TITLES = {"upper-lower": "halves"}  # where the page has a word of its own
STEPS = 100  # thresholds are multiples of one over this


def shown_size(height: int, width: int, size: int = VIEW_SIZE) -> tuple[int, int]:
    """Return the height and width at which a photo is shown whose longest side may have `size` pixels."""
    scale = min(1.0, size / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrink(photo: Photo, size: int = VIEW_SIZE) -> Photo:
    """Return a photo whose longest side is at most `size` pixels; a smaller one as it is."""
    height, width, _ = photo.shape
    shape = shown_size(height, width, size)
    if shape == (height, width):
        return photo
    return np.asarray(cv2.resize(photo, shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def message(value: dict[str, Any], *parts: bytes) -> bytes:
    """Return a value for JSON and the bytes that belong to it as `viewer/server.js` reads them from a stream.

    Returns:
        The JSON's length as a big-endian number of 4 bytes; the JSON, in which `parts` lists the parts' lengths; the
        parts.
    """
    head = json.dumps({**value, "parts": [len(part) for part in parts]}).encode()
    return b"".join([len(head).to_bytes(4, "big"), head, *parts])


def scene(
    shown: Photo,
    predictors: Mapping[str, Predictor],
    predictions: Mapping[str, Prediction],
    note: str = "",
    original: tuple[int, int] | None = None,
) -> bytes:
    """Return the message that makes the viewer show a photo and the masks of every checkpoint.

    Args:
        shown: The photo as it is to be shown, RGB, uint8 (H, W, 3).
        predictors: Checkpoints by name; all of one tree.
        predictions: What each, or some of them, say of `shown`.
        note: A sentence about the photo to show with it.
        original: Height and width of the photo as it was sent, the size of saved masks; None for that of `shown`.

    Returns:
        A message whose parts are the photo as a JPEG and each checkpoint's packed maps; `viewer/scene.js` names the
        keys.
    """
    height, width = original or shown.shape[:2]
    with ThreadPoolExecutor() as pool:  # arrays, zlib and JPEG release the interpreter's lock
        packed = pool.map(lambda prediction: pack(maps(prediction)), predictions.values())
        parts = [jpeg(shown, 90), *packed]
    value = described(predictors)
    checkpoints = {each["name"]: each for each in value["checkpoints"]}
    value["checkpoints"] = [
        {**checkpoints[name], "threshold": prediction.threshold, "risk": _promises(prediction.risk)}
        for name, prediction in predictions.items()
    ]
    return message({**value, "note": note, "original": [width, height]}, *parts)


def described(predictors: Mapping[str, Predictor]) -> dict[str, Any]:
    """Return what a scene says of every photo alike: of the tree, and of checkpoints by name, all of one tree."""
    tree = next(iter(predictors.values())).card.hierarchy
    return {
        "version": __version__,
        "tree": tree.to_dict(),
        "background": tree.background,
        "void": tree.void,
        "levels": list(tree.level_names),
        "level_titles": [LEVEL_TITLES.get(level, readable(level)) for level in tree.level_names],
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
                "title": predictor.card.title,
                "threshold": predictor.inference.threshold,
                "risk": _promises(predictor.risk),
                "loss": _loss(predictor.card),
                "figures": _figures(predictor.card),
            }
            for name, predictor in predictors.items()
        ],
        "offered": [{"name": name, "title": predictor.card.title} for name, predictor in predictors.items()],
    }


def _loss(card: Card) -> dict[str, Any] | None:
    """Return what is said of the loss that a checkpoint was trained with; None where it names none of ours."""
    loss = card.record.get("loss")
    about = ABOUT.get(loss) if isinstance(loss, str) else None
    return dataclasses.asdict(about) if about else None


def _figures(card: Card) -> dict[str, Any] | None:
    """Return what a checkpoint's record says of its validation, to be quoted; None where that is not all there.

    Returns:
        `photos`: how many; `split`; `iou` of each level in the data-set sense; `violations_of_person`: median over
        photos, or None.
    """
    try:  # whoever wrote the file decides what is in a record
        found = card.record["figures"]
        levels = {level: float(found["dataset_iou"]["levels"][level]) for level in card.hierarchy.level_names}
        photos, split = int(found["photos"]), str(found["protocol"]["split"])
        broken = found.get("violations_of_person")
        median = None if broken is None or broken["median"] is None else float(broken["median"])
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        return None
    if not all(0 <= share <= 1 for share in (*levels.values(), median or 0.0)):
        return None
    return {"photos": photos, "split": split, "iou": levels, "violations_of_person": median}


def _promises(risk: RiskControl | None) -> dict[str, Any] | None:
    """Return what the viewer needs to know of the risks that a checkpoint can promise."""
    if risk is None:
        return None
    kept = [{"one_in": each.one_in, "certainty": each.certainty, "wrong": each.wrong} for each in risk.promises]
    return {"promises": kept, "held_out": risk.held_out}


def maps(prediction: Prediction) -> npt.NDArray[np.uint8]:
    """Return what decoding needs to know of every pixel.

    Scores are rounded up to steps of 1 / `STEPS`: a score is above a multiple of that exactly if its map is. Those of
    the path's nodes are calibrated before, here and not in the browser, for near 0 and 1 steps that were rounded first
    would tell too little.

    Args:
        prediction: What a checkpoint says of a photo of H by W pixels.

    Returns:
        Maps, uint8 (2 + D + ceil(N / 8), H, W): index of the best path's leaf, its mean score in steps, the calibrated
        score of its node at each of D depths in steps, and which of the N nodes have raw scores above 0.5, see `bits`.
    """
    strips = []
    for _, scores in prediction.strips():
        paths = best_paths(scores, prediction.hierarchy, prediction.calibration)
        on = bits(decode_rounding(scores, prediction.hierarchy))
        steps = np.ceil(np.concatenate([paths.confidence[None], paths.scores]) * np.float32(STEPS))
        strips.append(np.concatenate([paths.leaves[None], steps.astype(np.uint8), on]))
    return np.concatenate(strips, axis=1)


def bits(masks: BoolMask) -> npt.NDArray[np.uint8]:
    """Return masks of N nodes, bool (N, H, W), as uint8 (ceil(N / 8), H, W): node n is bit n % 8 of map n // 8."""
    packed = np.zeros((-(-len(masks) // 8), *masks.shape[1:]), np.uint8)
    for node, mask in enumerate(masks):  # numpy.packbits goes pixel by pixel, and takes several times as long
        packed[node // 8] |= mask.view(np.uint8) << np.uint8(node % 8)
    return packed


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
            f"The ground truth is {width} by {height} pixels and the photo {photo[1]} by {photo[0]}; their "
            "sizes must match. Is it for another photo?"
        )
    return np.asarray(Image.fromarray(label_map).resize(measured[::-1], Image.Resampling.NEAREST))


def pack(layers: npt.NDArray[np.uint8]) -> bytes:
    """Return maps one below the other as zlib's format of the differences to the row above, modulo 256."""
    rows = layers.reshape(-1, layers.shape[-1])
    packer = zlib.compressobj(1, strategy=zlib.Z_RLE)
    return packer.compress(np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1])).tobytes()) + packer.flush()


def jpeg(photo: Photo, quality: int) -> bytes:
    """Return a photo as the file of a JPEG."""
    return encoded(Image.fromarray(photo), "JPEG", quality=quality)
