"""A tiny data set of drawn people, so that no test needs a real photo, and what must never be unpickled."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from hierseg.photo import Photo
from hierseg.tree import UInt8Map

BACKGROUND, LOWER_ARM, TORSO, LOWER_LEG, HEAD, UPPER_LEG, UPPER_ARM = range(7)
VOID = 255

# Far apart, so that the nearest colour still tells the label after resizing and JPEG.
COLORS = np.array(
    [(40, 90, 40), (250, 160, 180), (220, 30, 40), (60, 220, 220), (250, 220, 60), (30, 50, 200), (120, 30, 140)],
    dtype=np.uint8,
)

# (label, left, top, right, bottom) as shares of the person's box, later ones over earlier ones.
_SHAPES = (
    (UPPER_LEG, 0.30, 0.50, 0.70, 0.78),
    (LOWER_LEG, 0.30, 0.74, 0.70, 1.00),
    (UPPER_ARM, 0.08, 0.22, 0.30, 0.45),
    (UPPER_ARM, 0.70, 0.22, 0.92, 0.45),
    (LOWER_ARM, 0.00, 0.42, 0.22, 0.68),
    (LOWER_ARM, 0.78, 0.42, 1.00, 0.68),
    (TORSO, 0.28, 0.20, 0.72, 0.54),
    (HEAD, 0.34, 0.00, 0.66, 0.22),
)


def draw_person(height: int, width: int, seed: int) -> tuple[Photo, UInt8Map]:
    """Draw one person somewhere in a photo.

    Args:
        height: Height of the photo; from 48 pixels on, all six parts show.
        width: Width of the photo; likewise.
        seed: Same seed, same photo.

    Returns:
        Photo (H, W, 3), each pixel in the colour of its label, and label map (H, W).
    """
    random = np.random.default_rng(seed)
    box_height, box_width = random.uniform(0.7, 0.95) * height, random.uniform(0.6, 0.9) * width
    top, left = random.uniform(0, height - box_height), random.uniform(0, width - box_width)
    canvas = Image.new("L", (width, height), BACKGROUND)
    pencil = ImageDraw.Draw(canvas)
    for label, west, north, east, south in _SHAPES:
        first = round(left + west * box_width), round(top + north * box_height)
        end = round(left + east * box_width), round(top + south * box_height)
        last = tuple(max(start, stop - 1) for start, stop in zip(first, end, strict=True))
        (pencil.ellipse if label == HEAD else pencil.rectangle)((*first, *last), fill=label)
    label_map = np.array(canvas)
    return COLORS[label_map], label_map


def write_dataset(
    folder: Path,
    train: int = 8,
    val: int = 3,
    masks: Literal["png", "npy"] = "png",
    newline: Literal["\n", "\r\n"] = "\n",
) -> Path:
    """Write a data set in the layout of PASCAL-Person-Part.

    Args:
        folder: The folder; created if needed.
        train: Photos in `train_id.txt`, called train_0, train_1, ...
        val: Photos in `val_id.txt`, called val_0, val_1, ...
        masks: Kind of mask files.
        newline: Line ends of the id lists.

    Returns:
        The folder.
    """
    for index, (split, count) in enumerate((("train", train), ("val", val))):
        ids = [f"{split}_{number}" for number in range(count)]
        for number, name in enumerate(ids):
            # Wide and tall ones, so that height and width cannot be mixed up unnoticed.
            height, width = (64, 96) if number % 2 else (96, 72)
            photo, label_map = draw_person(height, width, seed=1000 * index + number)
            write_example(folder, name, photo, label_map, masks)
        write_ids(folder, split, ids, newline)
    return folder


class LeavesAMark:
    """Unpickling this makes a folder."""

    def __init__(self, mark: Path | str) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        """Tell pickle what to call."""
        return os.mkdir, (str(self._mark),)


def write_example(
    folder: Path, name: str, photo: Photo, label_map: UInt8Map, masks: Literal["png", "npy"] = "png"
) -> None:
    """Write one photo and its mask."""
    for subfolder in ("JPEGImages", "gt_masks"):
        (folder / subfolder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo).save(folder / "JPEGImages" / f"{name}.jpg", quality=95, subsampling=0)
    stem = folder / "gt_masks" / name
    if masks == "png":
        Image.fromarray(label_map).save(f"{stem}.png")
    else:
        np.save(f"{stem}.npy", label_map)


def write_ids(folder: Path, split: str, ids: Sequence[str], newline: str = "\n") -> None:
    """Write the id list of one split."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}_id.txt").write_bytes("".join(f"{name}{newline}" for name in ids).encode())
