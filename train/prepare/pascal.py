"""Make PASCAL-Person-Part from its published files: `python -m train prepare pascal`.

The photos come with the development kit of VOC 2010 (http://host.robots.ox.ac.uk/pascal/VOC/voc2010/#devkit), the
masks are PASCAL-Part (http://roozbehm.info/pascal-parts/pascal-parts.html). The photos belong to other people: use them
only for research, and do not pass them on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from tqdm import tqdm

from hierseg.photo import open_photo, read_file
from hierseg.tree import BoolMask, Hierarchy, UInt8Map
from train.prepare.common import DataFolder, Fault, PrepareError, Report, book, ids_in, label_numbers, read_list

_SIDES = ("train", "val")


def prepare(
    photos: Path, annotations: Path, out: Path, numbering: str = "predecessor", split: str = "predecessor"
) -> Report:
    """Write a data folder in the layout that `train.dataset` reads.

    A photo belongs to the data set if a person in it has a part of at least one pixel. People and their parts are
    painted in the order of the file, later ones over earlier ones (in PASCAL-Part, later ones are in front). All other
    pixels are background. A photo with a fault is left out, and the run continues.

    Args:
        photos: The folder VOC2010 of the development kit, with JPEGImages/ID.jpg and, for the official split,
            ImageSets/Main/train.txt and val.txt.
        annotations: The folder Annotations_Part of PASCAL-Part, with ID.mat.
        out: A new or empty folder. It gets JPEGImages/ID.jpg (the same bytes), gt_masks/ID.png (8-bit palette images
            of the photos' sizes), labels.json, train_id.txt and val_id.txt.
        numbering: "predecessor" for the labels of the default tree, "papers" for those of the release that papers
            use.
        split: "predecessor" for the 2,826 training ids of `train/splits`, with all other photos for validation;
            "official" for VOC's lists. A training photo of one may be a validation photo of the other.

    Returns:
        What was written, what was left out and why.

    Raises:
        PrepareError: An input is wrong, or the output folder is not empty or cannot be written.
    """
    known = book("pascal")
    tree = numbered_tree(numbering)
    numbers = label_numbers(tree)
    labels = {part: numbers[node] for node, parts in known["parts"].items() for part in parts}
    images = photos / "JPEGImages"
    photographed = ids_in(images, ".jpg", "the photos' folder must be VOC2010 of the development kit")
    annotated = ids_in(annotations, ".mat", "the annotations' folder must be Annotations_Part of PASCAL-Part")
    listed = _listed_ids(photos, split)
    predecessor = split == "predecessor"  # its list has the training photos; all others validate

    folder = DataFolder(out, tree, _SIDES)
    if nameless := listed.keys() - annotated:
        folder.faults["listed photos without an annotation"] = sorted(nameless)
    if unseen := annotated - photographed:
        folder.faults["annotations without a photo"] = sorted(unseen)
    if unannotated := photographed - annotated:
        folder.left_out["photos without an annotation (VOC 2010 has such), left out"] = sorted(unannotated)
    for name in tqdm(sorted(annotated & photographed), unit="photo", disable=None):
        with folder.attempt(name):
            parts = _read_parts(annotations / f"{name}.mat", known["class"], labels)
            if not parts:
                if predecessor and name in listed:
                    raise Fault("listed photos without a part of a person")
                continue
            jpeg = read_file(images / f"{name}.jpg")
            label_map = _paint(parts, open_photo(jpeg).shape[:2], labels, tree.background)
            side = listed.get(name, "val" if predecessor else None)
            if side is None:
                raise Fault("photos of the data set that are on no list")
            folder.add(side, name, jpeg, label_map)
    return folder.finish(known["splits"][split])


def numbered_tree(numbering: str) -> Hierarchy:
    """Return the default tree with the label numbers of one release, "predecessor" or "papers"."""
    tree = Hierarchy.default()
    own = dict(zip(tree.nodes, tree.labels, strict=True))
    return replace(tree, labels=tuple((own | book("pascal")["numberings"][numbering]).values()))


def _listed_ids(photos: Path, split: str) -> dict[str, str]:
    """Return "train" or "val" for each id that a list of the split names."""
    if split == "predecessor":
        paths = {"train": Path(str(resources.files("train") / "splits" / "predecessor_train_id.txt"))}
    else:
        paths = {side: photos / "ImageSets" / "Main" / f"{side}.txt" for side in _SIDES}
    listed: dict[str, str] = {}
    for side, path in paths.items():
        for name in read_list(path, "It comes with the development kit of VOC 2010."):
            if listed.setdefault(name, side) != side:
                raise PrepareError(f"Both lists of the split {split} name {name}; unpack the development kit again.")
    return listed


def _read_parts(annotation: Path, category: str, labels: Mapping[str, int]) -> list[tuple[str, BoolMask]]:
    """Return name and mask of each non-empty part, for all objects of a class, in the file's order."""
    try:
        content = loadmat(annotation, variable_names=["anno"])["anno"][0, 0]
        name = content["imname"].item()
        # MATLAB stores one, many or no structs as an array of two dimensions; without structs, it has no fields.
        parts = [
            (str(part["part_name"].item()), part["mask"].astype(bool))
            for thing in content["objects"].ravel()
            if thing["class"].item() == category
            for part in thing["parts"].ravel()
        ]
    except Exception as error:  # scipy raises nearly anything on damaged data
        raise Fault("damaged annotations", f"{type(error).__name__}: {error}") from error
    if name != annotation.stem:
        raise Fault("damaged annotations", f"it is the annotation of {name}")
    if unknown := {part for part, _ in parts} - labels.keys():
        raise Fault("annotations with unknown parts of a person", ", ".join(sorted(unknown)))
    return [(part, mask) for part, mask in parts if mask.any()]


def _paint(
    parts: list[tuple[str, BoolMask]], size: tuple[int, ...], labels: Mapping[str, int], background: int
) -> UInt8Map:
    label_map = np.full(size, background, dtype=np.uint8)
    for part, mask in parts:
        if mask.shape != size:
            reason = f"the photo is {size} but {part!r} is {mask.shape} (height, width)"
            raise Fault("masks of another size than their photo", reason)
        label_map[mask] = labels[part]
    return label_map
