"""Load folders of photos and masks into memory; all faults are reported before training starts."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hierseg.errors import UserError
from hierseg.photo import Photo, open_photo
from hierseg.photo.label_map import open_label_map
from hierseg.tree import Hierarchy, UInt8Map
from train.recipe import Source

_NAMED = 20  # faults listed one by one in a message


class DataError(UserError):
    """The data folder has faults. The message lists them."""


@dataclass(frozen=True)
class Example:
    """An annotated photo in memory.

    Attributes:
        id: Its name in the id list.
        photo: RGB, uint8 (H, W, 3).
        label_map: Labels of the data set, uint8 (H, W).
    """

    id: str
    photo: Photo
    label_map: UInt8Map


def read_ids(folder: str | Path, split: str) -> list[str]:
    """Read an id list, with any line endings.

    Args:
        folder: The data folder.
        split: "train" or "val", for `train_id.txt` or `val_id.txt`.

    Returns:
        The ids in the file's order.

    Raises:
        DataError: There is no such list, it is not text, it is empty, or it names an id twice.
    """
    path = Path(folder) / f"{split}_id.txt"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # it may begin with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read; docs/train.md says how the folder is laid out.") from error
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise DataError(f"{path} names no photo.")
    if len(set(ids)) < len(ids):
        twice = sorted({name for name in ids if ids.count(name) > 1})
        raise DataError(f"{path} names {', '.join(twice[:_NAMED])} more than once.")
    return ids


def split_hash(ids: list[str]) -> str:
    """Return a SHA-256 of a list of ids, whatever its order."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


@dataclass(frozen=True)
class TrainingData:
    """The photos of a run, for training and validation.

    Attributes:
        folder: Parent of the sources' folders.
        sources: The folders.
        examples: Training photos of each source.
        validation: Annotated photos of the validation list.
        nobody: Photos without people of validation lists.
        record: Counts of photos and hashes of their ids, for a checkpoint.
    """

    folder: Path
    sources: tuple[Source, ...]
    examples: tuple[list[Example], ...]
    validation: list[Example]
    nobody: list[Example]
    record: dict[str, Any]

    @property
    def annotated(self) -> list[Example]:
        """Training photos of the first source that has masks."""
        return next(own for own, source in zip(self.examples, self.sources, strict=True) if not source.nobody)

    def to_calibrate(self, photos: int) -> list[Example]:
        """Return up to so many training photos of `annotated`, and as many of those that show nobody."""
        empty = [own for own, source in zip(self.examples, self.sources, strict=True) if source.nobody]
        return [*self.annotated[:photos], *itertools.islice(itertools.chain(*empty), photos)]


def load_training_data(
    data: Path, sources: tuple[Source, ...], hierarchy: Hierarchy, validation_photos: int = 0
) -> TrainingData:
    """Open all photos that a recipe names.

    Args:
        data: Parent of the sources' folders.
        sources: The folders. The first one with masks has a validation list; those without people may have one.
        hierarchy: The tree.
        validation_photos: How many photos of a validation list to open; 0 for all.

    Returns:
        The photos.

    Raises:
        DataError: A list or photo is missing or faulty, a folder's lists share an id, or nothing can be measured on
            the validation photos. All sources' lists are read before the first photo.
    """
    train_ids = [read_ids(data / source.folder, "train") for source in sources]
    main = next(index for index, source in enumerate(sources) if not source.nobody)
    val_ids = {
        index: read_ids(data / source.folder, "val")
        for index, source in enumerate(sources)
        if index == main or (data / source.folder / "val_id.txt").is_file()
    }
    for index, own in val_ids.items():
        if both := sorted(set(own) & set(train_ids[index])):
            raise DataError(
                f"Both lists of {data / sources[index].folder} name {', '.join(both[:_NAMED])}. A photo must "
                "not be used for both training and validation: remove it from one list."
            )

    def load(index: int, ids: list[str]) -> list[Example]:
        return load_examples(data / sources[index].folder, ids, hierarchy, masks=not sources[index].nobody)

    several = [
        {
            "folder": source.folder,
            "share": source.share,
            "nobody": source.nobody,
            "train_photos": len(ids),
            "train_ids_sha256": split_hash(ids),
        }
        for source, ids in zip(sources, train_ids, strict=True)
    ]
    most = validation_photos or None
    validation = load(main, val_ids[main][:most])
    if not any(np.isin(example.label_map, hierarchy.labels).any() for example in validation):
        raise DataError(
            f"Nothing can be measured on {data / sources[main].folder}: the {len(validation)} photos from its "
            "val_id.txt show no person. Put photos of people first, or raise validation_photos."
        )
    return TrainingData(
        data,
        sources,
        tuple(load(index, ids) for index, ids in enumerate(train_ids)),
        validation,
        [example for index, ids in val_ids.items() if sources[index].nobody for example in load(index, ids[:most])],
        {
            "train_photos": len(train_ids[main]),
            "train_ids_sha256": split_hash(train_ids[main]),
            "val_photos": len(val_ids[main]),
            "val_ids_sha256": split_hash(val_ids[main]),
            **({"sources": several} if len(sources) > 1 else {}),
        },
    )


def load_examples(folder: str | Path, ids: Sequence[str], hierarchy: Hierarchy, masks: bool = True) -> list[Example]:
    """Open photos and masks and check every one.

    Args:
        folder: Holds JPEGImages/ID.jpg and gt_masks/ID.png or ID.npy.
        ids: Ids of the photos.
        hierarchy: The tree whose labels the masks use.
        masks: Whether there are masks; without, photos show no person and every pixel is background.

    Returns:
        One example per id, in their order. The whole data set takes about 2.2 GB.

    Raises:
        DataError: A file is missing or damaged, differs in size or holds an unknown label; all such faults are named.
            Or the folder numbers its labels differently from the tree.
    """
    if masks:
        check_numbering(folder, hierarchy)

    def attempt(name: str) -> Example | str:
        try:
            return _load_example(Path(folder), name, hierarchy, masks)
        except (UserError, OSError) as error:
            return f"{name}: {error}"

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(attempt, ids))
    faults = [result for result in results if isinstance(result, str)]
    if faults:
        more = f"\n... and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
        listed = "\n".join(faults[:_NAMED])
        raise DataError(f"{len(faults)} of {len(ids)} examples in {folder} cannot be used:\n{listed}{more}")
    return [result for result in results if isinstance(result, Example)]


def check_numbering(folder: str | Path, hierarchy: Hierarchy) -> None:
    """Check that a folder made by `train.prepare` has the label numbers of a tree.

    A folder without labels.json is assumed to have them; the masks cannot tell.

    Args:
        folder: The data folder.
        hierarchy: The tree.

    Raises:
        DataError: labels.json is damaged, or gives a node another number than the tree does.
    """
    path = Path(folder) / "labels.json"
    if not path.exists():
        return
    try:
        labels = dict(json.loads(path.read_text(encoding="utf-8"))["labels"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged. Make the folder again with `python -m train prepare`.") from error
    nodes = zip(hierarchy.nodes, hierarchy.aliases, hierarchy.labels, strict=True)
    own = {name: label for node, aliases, label in nodes for name in (node, *aliases)}
    other = [f"{node} is {label}, not {own.get(node)}" for node, label in labels.items() if own.get(node) != label]
    if other:
        raise DataError(
            f"{path} numbers parts differently from the tree {hierarchy.name}: {'; '.join(other)}. Make the folder "
            "again with another --numbering, or use a tree with its labels."
        )


def _load_example(folder: Path, name: str, hierarchy: Hierarchy, masks: bool) -> Example:
    photo = open_photo(folder / "JPEGImages" / f"{name}.jpg")
    if not masks:
        return Example(name, photo, np.broadcast_to(np.uint8(hierarchy.background), photo.shape[:2]))
    files = [folder / "gt_masks" / f"{name}{ending}" for ending in (".png", ".npy")]
    mask = next((file for file in files if file.is_file()), None)
    if mask is None:
        raise DataError(f"there is no mask {' or '.join(file.name for file in files)}.")
    label_map = open_label_map(mask, hierarchy)
    if label_map.shape != photo.shape[:2]:
        raise DataError(f"the mask is {label_map.shape} but the photo is {photo.shape[:2]} (height, width).")
    hierarchy.check_labels(label_map)
    return Example(name, photo, label_map)
