"""A label map from a file: one whole number a pixel, in a grey or indexed PNG or a NumPy array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from hierseg.hierarchy import UInt8Map
from hierseg.image import MAX_PIXELS


class LabelMapError(ValueError):
    """A file is not a label map. The message says what is wrong with it."""


def open_label_map(path: str | Path) -> UInt8Map:
    """Read a label map.

    Args:
        path: A file ending in .npy, whole numbers (H, W), or an image with one 8-bit number a pixel; the colours of a
            palette are not looked at.

    Returns:
        Labels, uint8 (H, W).

    Raises:
        LabelMapError: The file is missing, damaged, too large or holds something else.
    """
    path = Path(path)
    try:
        return _from_array(path) if path.suffix.lower() == ".npy" else _from_image(path)
    except LabelMapError:
        raise
    except Exception as error:  # Pillow and numpy raise nearly anything on damaged data
        raise LabelMapError(f"{path.name} is damaged or not a label map ({error}).") from error


def _from_image(path: Path) -> UInt8Map:
    with Image.open(path, formats=("PNG", "GIF", "BMP", "TIFF")) as image:
        _check_size(path, image.height, image.width)
        if image.mode not in ("P", "L"):
            raise LabelMapError(f"{path.name} must hold one 8-bit label a pixel, not {image.mode}.")
        return np.array(image)


def _from_array(path: Path) -> UInt8Map:
    # Mapped, not read: the header alone says how large the array is, and it may lie.
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
        raise LabelMapError(f"{path.name} must hold one whole number a pixel, not {array.dtype} {array.shape}.")
    _check_size(path, *array.shape)
    if array.size and (array.min() < 0 or array.max() > 255):
        raise LabelMapError(f"{path.name} holds numbers outside 0 to 255.")
    return np.array(array.astype(np.uint8))


def _check_size(path: Path, height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise LabelMapError(f"{path.name} has more than {MAX_PIXELS // 1_000_000} million pixels.")
