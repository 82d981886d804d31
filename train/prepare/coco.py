"""People of COCO 2017 as bodies, with strokes of their parts: `python -m train prepare coco`.

Photos and annotations are published at https://cocodataset.org/#download. The photos belong to their authors on Flickr.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
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
    label_numbers,
    require_empty,
    small_jpeg,
    small_label_map,
)

Point = tuple[float, float]  # x, y in pixels
_VISIBLE = 2  # third number of a key point; 1 is hidden, 0 is missing
_SUBPIXELS = 4  # fractional bits of OpenCV's coordinates


@dataclass(frozen=True)
class Person:
    """One annotation.

    Attributes:
        segmentation: Polygons or runs, as in the file.
        crowd: Whether it is a crowd, annotated as a whole.
        points: Its visible key points by name.
    """

    segmentation: Any
    crowd: bool
    points: Mapping[str, Point]


def prepare(
    images: Sequence[Path],
    annotations: Sequence[Path],
    out: Path,
    keypoints: Sequence[Path] = (),
    ids: Path | None = None,
    nobody: Path | None = None,
) -> list[Report]:
    """Write a data folder of shrunk photos with people and, if requested, one of photos without.

    Args:
        images: Folders of photos, for instance train2017 and val2017.
        annotations: Their files instances_*.json.
        out: A new or empty folder. It gets JPEGImages/ID.jpg, gt_masks/ID.png, labels.json and train_id.txt.
        keypoints: Their files person_keypoints_*.json; without them, masks show only bodies.
        ids: A list of ids, one per line, such as coco_000000000036; None for all photos.
        nobody: Another such folder, for photos without people, without masks. None to leave them out.

    Returns:
        What was written, what was left out and why, for each folder.

    Raises:
        PrepareError: An input is wrong, or an output folder is not empty or cannot be written.
    """
    known, tree = book("coco"), Hierarchy.default()
    photos, people = _read(annotations, keypoints, known["category"])
    names, missing = choose(photos, ids)
    if nobody:
        require_empty(nobody)
    folder = DataFolder(out, tree)
    empty = DataFolder(nobody, None) if nobody else None
    if missing:
        folder.faults["listed photos without an annotation"] = missing
    for name in tqdm(names, unit="photo", disable=None):
        target = folder if name in people else empty
        if target is None:
            folder.left_out["photos without people, left out"].append(name)
            continue
        with target.attempt(name):
            file, size = photos[name]
            path = next((place / file for place in images if (place / file).is_file()), None)
            if path is None:
                raise Fault("annotations without a photo")
            photo = open_photo(path)
            if photo.shape[:2] != size:
                raise Fault("photos of another size than their annotation", f"{photo.shape[:2]}, not {size}")
            mask = small_label_map(label_map(people[name], size, tree, known)) if name in people else None
            target.add("train", name, small_jpeg(photo), mask)
    with_people = sum(name in people for name in names)
    reports = [folder.finish({"train": with_people})]
    return reports + ([empty.finish({"train": len(names) - with_people})] if empty else [])


def label_map(people: Sequence[Person], size: tuple[int, int], tree: Hierarchy, known: Mapping[str, Any]) -> UInt8Map:
    """Draw people as bodies, and strokes of their parts.

    A stroke covers only pixels of its own person and of no other. Where strokes of two parts of a person cross, it is
    unknown which part is in front, so the label stays body. Crowds are void, except where a person is outlined.

    Args:
        people: Annotations.
        size: Height and width of the photo.
        tree: The tree.
        known: The content of coco.yaml.

    Returns:
        Labels, uint8 (height, width).
    """
    numbers = label_numbers(tree)
    drawn = np.full(size, tree.background, dtype=np.uint8)
    for crowd in people:
        if crowd.crowd:
            drawn[segment(crowd.segmentation, size)] = tree.void
    persons = [(person, segment(person.segmentation, size)) for person in people if not person.crowd]
    covering = sum((mask for _, mask in persons), np.zeros(size, dtype=np.int32))
    drawn[covering > 0] = numbers[known["node"]]
    for person, mask in persons:
        if person.points:
            by_node = _strokes(person.points, mask, known)
            sure = mask & (covering == 1) & (np.sum(list(by_node.values()), axis=0) == 1)
            for node, stroke in by_node.items():
                drawn[sure & stroke] = numbers[node]
    return drawn


def segment(segmentation: Any, size: tuple[int, int]) -> BoolMask:
    """Turn a segmentation into a mask.

    Args:
        segmentation: Polygons, each a list x, y, x, y, ... in pixels; or a mapping with "counts", the lengths of
            alternating runs of pixels outside and inside, column by column, beginning outside.
        size: Height and width of the photo.

    Returns:
        bool (height, width).

    Raises:
        Fault: It is damaged.
    """
    try:
        if not segmentation:
            raise ValueError("a person has no outline")
        if isinstance(segmentation, dict):
            counts = segmentation["counts"]
            runs = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
            return runs.reshape(size[::-1]).T
        mask = np.zeros(size, dtype=bool)
        for polygon in segmentation:
            mask |= _inside(np.reshape(polygon, (-1, 2)), size)
    except Exception as error:  # NumPy raises nearly anything on damaged data
        raise Fault("damaged annotations", f"{type(error).__name__}: {error}") from error
    return mask


def _inside(corners: npt.NDArray[np.float64], size: tuple[int, int]) -> BoolMask:
    """Return the pixels with their centre inside a polygon: those with an odd number of its edges to their left."""
    height, width = size
    (x0, y0), (x1, y1) = corners.T[..., None], np.roll(corners, -1, axis=0).T[..., None]
    middles = np.arange(height) + 0.5
    edges, rows = np.nonzero((y0 <= middles) != (y1 <= middles))
    across = (x0 + (middles - y0) * (x1 - x0) / np.where(y0 == y1, 1, y1 - y0))[edges, rows]
    crossed = np.zeros((height, width + 1), dtype=bool)
    np.logical_xor.at(crossed, (rows, np.clip(np.ceil(across - 0.5), 0, width).astype(int)), True)
    return np.logical_xor.accumulate(crossed[:, :width], axis=1)


def _strokes(points: Mapping[str, Point], person: BoolMask, known: Mapping[str, Any]) -> dict[str, BoolMask]:
    strokes = {}
    scale = float(np.sqrt(person.sum()))
    for node, stroke in known["strokes"].items():
        mask = np.zeros(person.shape, dtype=np.uint8)
        thickness = int(stroke["width"] * scale)
        for line in stroke["lines"]:
            ends = [[points.get(name) for name in end.split("+")] for end in line]
            seen = [[point for point in end if point is not None] for end in ends]
            if thickness and seen == ends:
                start, stop = (np.mean(end, axis=0) for end in seen)
                margin = (1 - known["middle"]) / 2 * (stop - start)
                first, last = _fixed_point(np.array([start + margin, stop - margin])).tolist()
                cv2.line(mask, first, last, 1, thickness, shift=_SUBPIXELS)
        strokes[node] = mask.astype(bool)
    return strokes


def _fixed_point(points: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    fixed: npt.NDArray[np.int32] = np.round(points * 2**_SUBPIXELS).astype(np.int32)
    return fixed


def _read(
    annotations: Sequence[Path], keypoints: Sequence[Path], category: str
) -> tuple[dict[str, tuple[str, tuple[int, int]]], dict[str, list[Person]]]:
    """Return the file name and size of each photo and the people in it, by the photo's id."""
    points: dict[int, dict[str, Point]] = {}
    photos: dict[str, tuple[str, tuple[int, int]]] = {}
    people: dict[str, list[Person]] = {}
    for path in keypoints:
        with _opened(path) as content:
            names = {entry["id"]: entry["keypoints"] for entry in content["categories"]}
            for entry in content["annotations"]:
                values = map(float, entry["keypoints"])
                triples = zip(names[entry["category_id"]], values, values, values, strict=True)
                points[entry["id"]] = {name: (x, y) for name, x, y, visible in triples if visible == _VISIBLE}
    for path in annotations:
        with _opened(path) as content:
            (person,) = (entry["id"] for entry in content["categories"] if entry["name"] == category)
            for entry in content["images"]:
                photos[_id(entry["id"])] = str(entry["file_name"]), (int(entry["height"]), int(entry["width"]))
            for entry in content["annotations"]:
                if entry["category_id"] == person:
                    found = Person(entry["segmentation"], bool(entry["iscrowd"]), points.get(entry["id"], {}))
                    people.setdefault(_id(entry["image_id"]), []).append(found)
    return photos, people


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield the content of a JSON file; errors in using the content are reported like errors in reading it."""
    try:
        yield json.loads(path.read_bytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PrepareError(
            f"{path} cannot be read ({type(error).__name__}: {error}). It must be a file of COCO's annotations: "
            "instances_train2017.json or the like, or person_keypoints_train2017.json for key points."
        ) from error


def _id(number: int) -> str:
    return f"coco_{number:012}"
