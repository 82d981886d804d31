"""A label map from a file: one whole number a pixel, in a grey or indexed PNG or a NumPy array."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hierseg.photo import MAX_PIXELS, MAX_SIDE, PhotoError, open_frugally, read_file
from hierseg.tree import UInt8Map


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
    except PhotoError as error:
        raise LabelMapError(str(error)) from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise LabelMapError(f"{path.name} cannot be read: {error.strerror}.") from error
    except Exception as error:  # Pillow and numpy raise nearly anything on damaged data
        raise LabelMapError(f"{path.name} is damaged or not a label map. Save it as an indexed PNG.") from error


def _from_image(path: Path) -> UInt8Map:
    with open_frugally(read_file(path), ("PNG", "GIF", "BMP", "TIFF")) as image:
        _check_size(path, image.height, image.width)
        if image.mode not in ("P", "L"):
            raise LabelMapError(f"{path.name} must hold one 8-bit label a pixel. Save it as an indexed PNG.")
        return np.array(image)


def _from_array(path: Path) -> UInt8Map:
    # Mapped, not read: the header alone says how large the array is, and it may lie. Not np.load, which knows pickles.
    array = np.lib.format.open_memmap(path, mode="r")
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise LabelMapError(
            f"{path.name} must hold one whole number a pixel in rows and columns. Save it as a 2-D array of uint8."
        )
    _check_size(path, *array.shape)
    if array.min() < 0 or array.max() > 255:
        raise LabelMapError(f"{path.name} holds numbers outside 0 to 255, which no label is.")
    return np.array(array, np.uint8, order="C")


def _check_size(path: Path, height: int, width: int) -> None:
    if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
        raise LabelMapError(
            f"{path.name} has more than {MAX_PIXELS // 1_000_000} million pixels, or more than {MAX_SIDE:,} along a "
            "side. Make it smaller first."
        )
