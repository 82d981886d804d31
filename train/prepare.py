"""PASCAL-Person-Part from what its authors published: `python -m train prepare`.

Nothing is downloaded. The photos come with the development kit of VOC 2010
(http://host.robots.ox.ac.uk/pascal/VOC/voc2010/#devkit), the masks are PASCAL-Part
(http://roozbehm.info/pascal-parts/pascal-parts.html). The photos are other people's: for research, not to be passed on.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.io import loadmat  # type: ignore[import-untyped]
from tqdm import tqdm

from hierseg.hierarchy import BoolMask, Hierarchy, UInt8Map
from hierseg.image import PhotoError, open_photo
from hierseg.visualize import indexed_png

_SIDES = ("train", "val")
_NAMED = 20  # names of each kind that a report lists one by one


class PrepareError(ValueError):
    """The data folder cannot be made. The message says what to do."""


class _Fault(Exception):
    """One photo cannot be used."""

    def __init__(self, kind: str, reason: str = "") -> None:
        super().__init__(kind)
        self.kind, self.reason = kind, reason


@dataclass(frozen=True)
class Report:
    """What a run wrote, and what it could not.

    Attributes:
        folder: The data folder.
        numbering: Name of its label numbers.
        split: Name of its split.
        written: Photos on each list, by "train" and "val".
        expected: Photos on each list of the complete data set, likewise.
        faults: For each kind of fault its ids, some with a reason; kinds that did not occur are absent.
        unannotated: Photos without an annotation. No fault: VOC 2010 has photos that were never annotated.
    """

    folder: Path
    numbering: str
    split: str
    written: Mapping[str, int]
    expected: Mapping[str, int]
    faults: Mapping[str, Sequence[str]]
    unannotated: Sequence[str]

    @property
    def complete(self) -> bool:
        """Whether no fault was met and each list is as long as it should be."""
        return not self.faults and self.written == self.expected

    def __str__(self) -> str:
        """Return the report as text, with up to 20 names of each kind."""
        lines = [f"Wrote {self.folder} (numbering {self.numbering}, split {self.split})."]
        for side, count in self.written.items():
            lines.append(f"photos on the {side} list: {count} (expected: {self.expected[side]})")
        for kind, names in self.faults.items():
            lines += _listing(kind, names)
        if self.unannotated:
            lines += _listing("photos without an annotation (VOC 2010 has such), left out", self.unannotated)
        lines.append("The data set is complete." if self.complete else "The data set is NOT complete.")
        return "\n".join(lines)


def _listing(kind: str, names: Sequence[str]) -> list[str]:
    more = [f"  ... and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return [f"{kind}: {len(names)}", *(f"  {name}" for name in names[:_NAMED]), *more]


def prepare(
    photos: Path, annotations: Path, out: Path, numbering: str = "seed", split: str = "seed", progress: bool = True
) -> Report:
    """Write a data folder in the layout that `train.dataset` reads.

    A photo belongs to the data set if a person in it has a part of at least one pixel. Persons and their parts are
    painted in the order of the file, later ones over earlier ones (PASCAL-Part orders them so that later ones lie in
    front); pixels in no part of a person are background. A photo with a fault is left out, and the run goes on. The
    id lists are written last, so that training refuses the folder of a run that was stopped.

    Args:
        photos: The folder VOC2010 of the development kit, with JPEGImages/ID.jpg and, for the official split,
            ImageSets/Main/train.txt and val.txt.
        annotations: The folder Annotations_Part of PASCAL-Part, with ID.mat.
        out: A new or empty folder. It gets JPEGImages/ID.jpg (the same bytes), gt_masks/ID.png (8-bit palette images
            of the photos' sizes), labels.json, train_id.txt and val_id.txt.
        numbering: "seed" for the labels of the default tree, "papers" for those of the release that papers train on.
        split: "seed" for the 2,826 training ids that lie beside this module, all other photos being for validation;
            "official" for VOC's lists. A training photo of one may be a validation photo of the other.
        progress: Show a bar.

    Returns:
        What was written, what was left out and why.

    Raises:
        PrepareError: An input is not what it should be, or the output is not empty or cannot be written.
    """
    book = _book()
    if split not in book["splits"]:
        raise PrepareError(f"There is no split {split!r}; use {' or '.join(book['splits'])}.")
    tree = numbered_tree(numbering)
    labels = {part: tree.labels[tree.index(node)] for node, parts in book["parts"].items() for part in parts}
    images = photos / "JPEGImages"
    photographed = _ids_in(images, ".jpg", "the photos' folder must be VOC2010 of the development kit")
    annotated = _ids_in(annotations, ".mat", "the annotations' folder must be Annotations_Part of PASCAL-Part")
    listed = _listed_ids(photos, split)
    seed = split == "seed"  # its training list names photos of the data set only, and the rest validates

    ids: dict[str, list[str]] = {side: [] for side in _SIDES}
    faults: dict[str, list[str]] = defaultdict(list)
    if nameless := listed.keys() - annotated:
        faults["listed photos without an annotation"] = sorted(nameless)
    if unseen := annotated - photographed:
        faults["annotations without a photo"] = sorted(unseen)
    try:
        _claim(out)
        for name in tqdm(sorted(annotated & photographed), unit="photo", disable=not progress):
            photo = images / f"{name}.jpg"
            try:
                label_map = _label_map(annotations / f"{name}.mat", photo, book["class"], labels, tree.background)
                if label_map is None:
                    if seed and name in listed:
                        raise _Fault("listed photos without a part of a person")
                    continue
                side = listed.get(name, "val" if seed else None)
                if side is None:
                    raise _Fault("photos of the data set that are on no list")
            except _Fault as fault:
                faults[fault.kind].append(f"{name}: {fault.reason}" if fault.reason else name)
                continue
            shutil.copyfile(photo, out / "JPEGImages" / photo.name)
            (out / "gt_masks" / f"{name}.png").write_bytes(indexed_png(label_map, tree))
            ids[side].append(name)
        _finish(out, numbering, tree, ids)
    except OSError as error:  # of writing: reading is guarded
        raise PrepareError(f"{out} cannot be written: {error}. Make room or choose another folder.") from error
    written = {side: len(names) for side, names in ids.items()}
    return Report(out, numbering, split, written, book["splits"][split], dict(faults), sorted(photographed - annotated))


def numbered_tree(numbering: str) -> Hierarchy:
    """Return the default tree with the label numbers of one release.

    Args:
        numbering: "seed" or "papers".

    Raises:
        PrepareError: There is no such numbering.
    """
    tree, numberings = Hierarchy.default(), _book()["numberings"]
    if numbering not in numberings:
        raise PrepareError(f"There is no numbering {numbering!r}; use {' or '.join(numberings)}.")
    own = dict(zip(tree.nodes, tree.labels, strict=True))
    return replace(tree, labels=tuple((own | numberings[numbering]).values()))


def _book() -> dict[str, Any]:
    content = (resources.files("train") / "pascal_part.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(content))


def _ids_in(folder: Path, ending: str, advice: str) -> set[str]:
    # Archives made on a Mac hold a ._ID.mat beside each ID.mat.
    ids = {path.stem for path in folder.glob(f"*{ending}") if not path.name.startswith(".")}
    if not ids:
        raise PrepareError(f"{folder} holds no {ending} file: {advice}.")
    return ids


def _listed_ids(photos: Path, split: str) -> dict[str, str]:
    """Return "train" or "val" for each id that a list of the split names."""
    if split == "seed":
        texts = {"train": _read_list(Path(str(resources.files("train") / "splits" / "seed_train_id.txt")))}
    else:
        texts = {side: _read_list(photos / "ImageSets" / "Main" / f"{side}.txt") for side in _SIDES}
    listed: dict[str, str] = {}
    for side, names in texts.items():
        for name in names:
            if listed.setdefault(name, side) != side:
                raise PrepareError(f"Both lists of the split {split} name {name}; unpack the development kit again.")
    return listed


def _read_list(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split()  # with any line ends
    except (OSError, UnicodeDecodeError) as error:
        raise PrepareError(
            f"{path} cannot be read ({error}). It comes with the development kit of VOC 2010."
        ) from error


def _claim(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PrepareError(
            f"{out} is not an empty folder. Data of two runs is never mixed: choose another or empty it."
        )
    for folder in ("JPEGImages", "gt_masks"):
        (out / folder).mkdir(parents=True)


def _label_map(
    annotation: Path, photo: Path, category: str, labels: Mapping[str, int], background: int
) -> UInt8Map | None:
    """Paint one photo's label map; None if no part of a person is in it."""
    parts = _read_parts(annotation, category)
    if unknown := {part for part, _ in parts} - labels.keys():
        raise _Fault("annotations with unknown parts of a person", ", ".join(sorted(unknown)))
    parts = [(part, mask) for part, mask in parts if mask.any()]
    if not parts:
        return None
    try:
        size = open_photo(photo).shape[:2]
    except PhotoError as error:
        raise _Fault("damaged photos", str(error)) from error
    for part, mask in parts:
        if mask.shape != size:
            reason = f"the photo is {size} but {part!r} is {mask.shape} (height, width)"
            raise _Fault("masks of another size than their photo", reason)
    label_map = np.full(size, background, dtype=np.uint8)
    for part, mask in parts:
        label_map[mask] = labels[part]
    return label_map


def _read_parts(annotation: Path, category: str) -> list[tuple[str, BoolMask]]:
    """Read the named masks of all parts of all objects of a class, in the file's order."""
    try:
        content = loadmat(annotation, variable_names=["anno"])["anno"][0, 0]
        name = content["imname"].item()
        # MATLAB keeps one struct, many and none alike as an array of two dimensions; none has no fields.
        parts = [
            (str(part["part_name"].item()), part["mask"].astype(bool))
            for thing in content["objects"].ravel()
            if thing["class"].item() == category
            for part in thing["parts"].ravel()
        ]
    except Exception as error:  # scipy raises nearly anything on damaged data
        raise _Fault("damaged annotations", f"{type(error).__name__}: {error}") from error
    if name != annotation.stem:
        raise _Fault("damaged annotations", f"it is the annotation of {name}")
    return parts


def _finish(out: Path, numbering: str, tree: Hierarchy, ids: Mapping[str, Sequence[str]]) -> None:
    labels = {tree.nodes[leaf]: tree.labels[leaf] for leaf in tree.leaves}
    content = json.dumps({"numbering": numbering, "labels": labels}, indent=1)
    (out / "labels.json").write_text(f"{content}\n", encoding="utf-8", newline="\n")
    for side, names in ids.items():
        lines = "".join(f"{name}\n" for name in names)
        (out / f"{side}_id.txt").write_text(lines, encoding="utf-8", newline="\n")
