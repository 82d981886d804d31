"""Shared by all sources: a new data folder, its photos and masks, and a report of what could not be used."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from PIL import Image

from hierseg.errors import UserError
from hierseg.photo import Photo, PhotoError
from hierseg.tree import Hierarchy, UInt8Map
from hierseg.visualize import encoded, indexed_png

LONGEST_SIDE = 432  # of a shrunk photo, in pixels; training crops are smaller
_NAMED = 20  # names of each kind that a report lists
_QUALITY = 90  # of the JPEG files


class PrepareError(UserError):
    """The data folder cannot be made. The message says what to do."""


class Fault(Exception):
    """One photo cannot be used.

    Args:
        kind: Kind of fault, as counted in a report.
        reason: What is wrong with this photo.
    """

    def __init__(self, kind: str, reason: str = "") -> None:
        super().__init__(kind)
        self.kind, self.reason = kind, reason


@dataclass(frozen=True)
class Report:
    """What a run wrote, and what it could not write.

    Attributes:
        folder: The data folder.
        written: Photos on each list, by "train" and "val".
        expected: Photos on each list if nothing is missing, by the same keys.
        faults: Ids by kind of fault, some with a reason.
        left_out: Likewise for photos left out on purpose.
    """

    folder: Path
    written: Mapping[str, int]
    expected: Mapping[str, int]
    faults: Mapping[str, Sequence[str]]
    left_out: Mapping[str, Sequence[str]]

    @property
    def complete(self) -> bool:
        """Whether there was no fault and each list has the expected length."""
        return not self.faults and self.written == self.expected

    def __str__(self) -> str:
        """Return the report as text, with up to 20 names of each kind."""
        lines = [f"Wrote {self.folder}."]
        for side, count in self.written.items():
            lines.append(f"photos on the {side} list: {count} (expected: {self.expected[side]})")
        for kind, names in (*self.faults.items(), *self.left_out.items()):
            more = [f"  ... and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
            lines += [f"{kind}: {len(names)}", *(f"  {name}" for name in names[:_NAMED]), *more]
        lines.append("The data set is complete." if self.complete else "The data set is NOT complete.")
        return "\n".join(lines)


class DataFolder:
    """A data folder that is being written.

    Its id lists are written last, so that training refuses the folder of a stopped run.

    Attributes:
        faults: As in the report.
        left_out: As in the report.
    """

    def __init__(self, path: Path, tree: Hierarchy | None, sides: Sequence[str] = ("train",)) -> None:
        """Start a folder.

        Args:
            path: A new or empty folder.
            tree: The tree whose labels the masks use; None for photos without people, which have no masks.
            sides: Its id lists.

        Raises:
            PrepareError: The folder is not empty or cannot be created.
        """
        require_empty(path)
        self.path, self._tree = path, tree
        self._ids: dict[str, list[str]] = {side: [] for side in sides}
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.left_out: dict[str, list[str]] = defaultdict(list)
        with self._writing():
            for folder in ("JPEGImages", "gt_masks") if tree else ("JPEGImages",):
                (path / folder).mkdir(parents=True)

    @contextmanager
    def attempt(self, name: str) -> Iterator[None]:
        """Record a fault of one photo, instead of ending the run."""
        try:
            yield
        except Fault as fault:
            self.faults[fault.kind].append(f"{name}: {fault.reason}" if fault.reason else name)
        except PhotoError as error:
            self.faults["damaged photos"].append(f"{name}: {error}")

    def add(self, side: str, name: str, jpeg: bytes, label_map: UInt8Map | None = None) -> None:
        """Write a photo.

        Args:
            side: Its list.
            name: Its id.
            jpeg: Bytes of the JPEG file.
            label_map: Labels, uint8, of the photo's height and width.

        Raises:
            PrepareError: It cannot be written.
        """
        with self._writing():
            (self.path / "JPEGImages" / f"{name}.jpg").write_bytes(jpeg)
            if label_map is not None and self._tree:
                (self.path / "gt_masks" / f"{name}.png").write_bytes(indexed_png(label_map, self._tree))
        self._ids[side].append(name)

    def finish(self, expected: Mapping[str, int]) -> Report:
        """Write the label numbers and the id lists.

        Args:
            expected: Photos on each list if nothing is missing.

        Returns:
            What was written, what was left out and why.

        Raises:
            PrepareError: They cannot be written.
        """
        texts = {f"{side}_id.txt": "".join(f"{name}\n" for name in names) for side, names in self._ids.items()}
        if self._tree:
            labels = dict(zip(self._tree.nodes, self._tree.labels, strict=True))
            texts = {"labels.json": json.dumps({"labels": labels}, indent=1) + "\n", **texts}
        with self._writing():
            for name, text in texts.items():
                (self.path / name).write_text(text, encoding="utf-8", newline="\n")
        written = {side: len(names) for side, names in self._ids.items()}
        return Report(self.path, written, expected, dict(self.faults), dict(self.left_out))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise PrepareError(
                f"{self.path} cannot be written: {error}. Make room or choose another folder."
            ) from error


def require_empty(path: Path) -> None:
    """Check that a folder is new or empty.

    Raises:
        PrepareError: It is not.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise PrepareError(
            f"{path} is not an empty folder. Data of two runs is never mixed: choose another or empty it."
        )


def small_jpeg(photo: Photo) -> bytes:
    """Return a photo as a JPEG file whose longest side is at most `LONGEST_SIDE`, resized by area."""
    small = cv2.resize(photo, _small_size(photo.shape[0], photo.shape[1]), interpolation=cv2.INTER_AREA)
    return encoded(Image.fromarray(small), "JPEG", quality=_QUALITY)


def small_label_map(label_map: UInt8Map) -> UInt8Map:
    """Return a photo's label map at the size of its `small_jpeg`; each label is that of the nearest pixel."""
    small = cv2.resize(label_map, _small_size(*label_map.shape), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(small, np.uint8)


def _small_size(height: int, width: int) -> tuple[int, int]:
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def ids_in(folder: Path, ending: str, advice: str) -> set[str]:
    """Return the names of a folder's files with an ending, without the ending.

    Raises:
        PrepareError: There is none; the message ends with the advice.
    """
    # Archives made on a Mac hold a ._ID.mat beside each ID.mat.
    ids = {path.stem for path in folder.glob(f"*{ending}") if not path.name.startswith(".")}
    if not ids:
        raise PrepareError(f"{folder} holds no {ending} file: {advice}.")
    return ids


def read_list(path: Path, advice: str = "It must be text, one id per line.") -> list[str]:
    """Read a list of ids, with any line endings.

    Raises:
        PrepareError: It cannot be read; the message ends with the advice.
    """
    try:
        return path.read_text(encoding="utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise PrepareError(f"{path} cannot be read ({error}). {advice}") from error


def choose(there: Iterable[str], ids: Path | None) -> tuple[list[str], list[str]]:
    """Return, sorted, the ids to prepare and the listed ids that are missing.

    Args:
        there: All ids of the source.
        ids: A list of ids; None for all.

    Raises:
        PrepareError: The list cannot be read.
    """
    known = set(there)
    listed = known if ids is None else set(read_list(ids))
    return sorted(listed & known), sorted(listed - known)


def book(source: str) -> dict[str, Any]:
    """Read the YAML file about a source, which is beside this module."""
    return dict(yaml.safe_load((resources.files("train.prepare") / f"{source}.yaml").read_text(encoding="utf-8")))


def label_numbers(tree: Hierarchy) -> dict[str, int]:
    """Return the labels of all nodes, "background" and "void"."""
    nodes = zip(tree.nodes, tree.labels, strict=True)
    return {"background": tree.background, "void": tree.void, **dict(nodes)}
