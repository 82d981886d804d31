"""Helpers of the tests of train.prepare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from hierseg.tree import UInt8Map
from train.__main__ import main
from train.dataset import read_ids
from train.prepare.common import Report


def command(*words: object) -> int:
    """Run `python -m train prepare WORDS`."""
    return main(["prepare", *map(str, words)])


def files(folder: Path) -> set[str]:
    """List all files of a folder, by their paths inside it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def assert_one_left_out(report: Report, kind: str, reason: str, damaged: str, sound: list[str]) -> None:
    """Check that a report tells of one fault, and that its photo alone is not in the data folder."""
    ((found, (told,)),) = report.faults.items()
    assert (found, told.split(":")[0]) == (kind, damaged)
    assert reason in told
    assert not report.complete
    assert f"\n{kind}: 1\n  {told}\n" in str(report)
    assert f"photos on the train list: {len(sound)} (expected: {len(sound) + 1})" in str(report)
    assert read_ids(report.folder, "train") == sound
    assert not any(damaged in file for file in files(report.folder))


def read_mask(folder: Path, name: str) -> UInt8Map:
    """Read a mask that was written."""
    with Image.open(folder / "gt_masks" / f"{name}.png") as image:
        assert image.mode == "P"
        return np.array(image)


def write_photo(path: Path, height: int, width: int, seed: int = 0) -> None:
    """Write a photo of noise; the ending tells its format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
