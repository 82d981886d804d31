"""People in the street from Clothing Co-Parsing: `python -m train prepare clothing`.

Photos and annotations are published at https://github.com/bearpaw/clothing-co-parsing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.io import loadmat
from tqdm import tqdm

from hierseg.photo import open_photo
from hierseg.tree import BoolMask, Hierarchy, UInt8Map
from train.prepare.common import (
    DataFolder,
    Fault,
    PrepareError,
    Report,
    book,
    choose,
    ids_in,
    label_numbers,
    small_jpeg,
    small_label_map,
)


def prepare(photos: Path, annotations: Path, out: Path, ids: Path | None = None) -> Report:
    """Write a data folder of shrunk photos of people, with parts derived from their clothes.

    Args:
        photos: The published folder photos, with NUMBER.jpg; label_list.mat is beside it.
        annotations: The published folder annotations/pixel-level, with NUMBER.mat.
        out: A new or empty folder. It gets JPEGImages/ID.jpg, gt_masks/ID.png, labels.json and train_id.txt.
        ids: A list of ids, one per line, such as ccp_0001; None for all photos with an annotation.

    Returns:
        What was written, what was left out and why.

    Raises:
        PrepareError: An input is wrong, or the output folder is not empty or cannot be written.
    """
    known, tree = book("clothing"), Hierarchy.default()
    things = _read_names(photos.parent / "label_list.mat", known)
    annotated = ids_in(annotations, ".mat", "it must be annotations/pixel-level of Clothing Co-Parsing")
    numbers = {f"ccp_{number}": number for number in annotated}
    names, missing = choose(numbers, ids)
    folder = DataFolder(out, tree)
    if missing:
        folder.faults["listed photos without an annotation"] = missing
    for name in tqdm(names, unit="photo", disable=None):
        with folder.attempt(name):
            path = photos / f"{numbers[name]}.jpg"
            if not path.is_file():
                raise Fault("annotations without a photo")
            photo = open_photo(path)
            worn = _read_things(annotations / f"{numbers[name]}.mat", len(things))
            if worn.shape != photo.shape[:2]:
                raise Fault("masks of another size than their photo", f"{worn.shape}, not {photo.shape[:2]}")
            mask = label_map(worn, things, tree, known)
            if mask is None:
                folder.left_out["photos in which nobody is annotated, left out"].append(name)
            else:
                folder.add("train", name, small_jpeg(photo), small_label_map(mask))
    return folder.finish({"train": len(names) - sum(map(len, folder.left_out.values()))})


def label_map(things: UInt8Map, names: Sequence[str], tree: Hierarchy, known: Mapping[str, Any]) -> UInt8Map | None:
    """Turn labels of clothes into labels of a tree.

    Args:
        things: Number of the thing in each pixel, uint8 (H, W).
        names: Names of the things, by number.
        tree: The tree.
        known: The content of clothing.yaml.

    Returns:
        Labels, uint8 (H, W); None if no person is annotated.
    """
    numbers = label_numbers(tree)
    nodes = [_nodes(known)[name] for name in names]
    drawn = np.array([numbers[node] for node in nodes], dtype=np.uint8)[things]
    person = np.array([node in tree.nodes for node in nodes])[things]
    if not person.any():
        return None
    whole = known["whole"]
    if _stands_whole(person, drawn == numbers[whole["top"]], drawn == numbers[whole["bottom"]], whole):
        top, bottom = _extent(person, axis=1)
        heights = (np.arange(len(things)) + 0.5 - top) / (bottom - top)
        for start, end, node, clothes in known["heights"]:
            band = (start <= heights) & (heights < end)
            drawn[band[:, None] & np.isin(names, clothes)[things]] = numbers[node]
    unlabelled = things == names.index(known["unlabelled"])
    distances = cv2.distanceTransform(unlabelled.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    drawn[distances > known["near"] * max(things.shape)] = tree.void
    return drawn


def _nodes(known: Mapping[str, Any]) -> dict[str, str]:
    return {name: node for node, names in known["nodes"].items() for name in names}


def _stands_whole(person: BoolMask, head: BoolMask, feet: BoolMask, rule: Mapping[str, Any]) -> bool:
    if not (head.any() and feet.any()):
        return False
    (top, bottom), (left, right) = _extent(person, axis=1), _extent(person, axis=0)
    height = bottom - top
    gap = max(_extent(head, axis=1)[0] - top, bottom - _extent(feet, axis=1)[1])
    return bool(gap <= rule["margin"] * height and right - left <= rule["width"] * height)


def _extent(mask: BoolMask, axis: int) -> tuple[int, int]:
    """Return the first row or column of a mask, and the one after its last."""
    filled = np.flatnonzero(mask.any(axis=axis))
    return int(filled[0]), int(filled[-1]) + 1


def _read_names(path: Path, known: Mapping[str, Any]) -> list[str]:
    try:
        names = [str(name.item()) for name in loadmat(path)["label_list"].ravel()]
    except Exception as error:  # scipy raises nearly anything on damaged data
        raise PrepareError(
            f"{path} cannot be read ({type(error).__name__}: {error}). It is published beside the folder photos."
        ) from error
    if odd := sorted({*names} ^ _nodes(known).keys()):
        raise PrepareError(f"{path} is not that of Clothing Co-Parsing, because of {', '.join(odd)}.")
    return names


def _read_things(path: Path, count: int) -> UInt8Map:
    try:
        things = loadmat(path, variable_names=["groundtruth"])["groundtruth"]
        if things.ndim != 2 or not np.isin(things, np.arange(count)).all():
            raise ValueError(f"it must hold one number below {count} per pixel")
    except Exception as error:  # scipy raises nearly anything on damaged data
        raise Fault("damaged annotations", f"{type(error).__name__}: {error}") from error
    return np.asarray(things, np.uint8)
