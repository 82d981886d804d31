"""Helpers of the tests of train.prepare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from hierseg.tree import UInt8Map
from train.__main__ import main


def command(*words: object) -> int:
    """Run `python -m train prepare WORDS`."""
    return main(["prepare", *map(str, words)])


def files(folder: Path) -> set[str]:
    """List all files of a folder, by their paths inside it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


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
