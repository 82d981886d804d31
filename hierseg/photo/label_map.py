"""A label map from a file: a grey or indexed PNG, one in the tree's colours, or a NumPy array."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from hierseg.errors import UserError
from hierseg.photo import MAX_PIXELS, MAX_SIDE, PhotoError, open_frugally, read_file
from hierseg.photo.reading import as_stored, exif_turn, strips
from hierseg.tree import Hierarchy, UInt8Map
from hierseg.visualize import palette

_GREYS = np.arange(256)[:, None].repeat(3, axis=1)
_WHITE = 0xFFFFFF


class LabelMapError(UserError):
    """A file is not a label map. The message says what is wrong with it."""


def open_label_map(source: str | Path | bytes, hierarchy: Hierarchy) -> UInt8Map:
    """Read a label map. What a file is, its content says, not its name.

    An array, or a grey image of 8 or 16 bits, holds the labels themselves. Of an image in colours, these rules are
    tried in this order, on the colours that its pixels have:

    1. Its palette gives all of them the places they have in the tree's palette, PASCAL VOC's or a ramp of greys: the
       palette's indices are the labels.
    2. All of them are in one of these, and stand there for labels of the tree: they are the labels, whatever their
       indices. A program that drops unused colours writes such a file; an image without a palette is read so too.
    3. None of them is a colour of the tree's nodes: the palette is a data set's own, and its indices are the labels.
    4. Else it is refused. So is an image in black and white alone (unless it is by rule 1): white may mean somebody, or
       nothing known.

    Colours are compared exactly, and the tree comes before VOC, so that a tree in VOC's colours is read by its own. An
    EXIF turn of the file's own is applied; one that only the photo has is not known here.

    Args:
        source: A path or the bytes of a file: an array as NumPy saves it, whole numbers (H, W), or an image.
        hierarchy: The tree whose colours and labels are meant.

    Returns:
        Labels, uint8 (H, W).

    Raises:
        LabelMapError: The file is missing, damaged, too large, holds something else, or may be read in two ways.
    """
    name = "The label map" if isinstance(source, bytes) else Path(source).name
    try:
        data = source if isinstance(source, bytes) else read_file(Path(source))
        if data.startswith(np.lib.format.MAGIC_PREFIX):
            return _from_array(name, data)
        return _from_image(name, data, hierarchy)
    except LabelMapError:
        raise
    except PhotoError as error:
        raise LabelMapError(str(error)) from error
    except Exception as error:  # Pillow and numpy raise nearly anything on damaged data
        raise LabelMapError(f"{name} is damaged or not a label map. Save it as an indexed PNG.") from error


def _from_image(name: str, data: bytes, hierarchy: Hierarchy) -> UInt8Map:
    with open_frugally(data, ("PNG", "GIF", "BMP", "TIFF")) as image:
        _check_size(name, image.height, image.width)
        # Pillow stretches greys of 2 and 4 bits to 0 to 255, and whether their writer has done so nobody can say. Some
        # TIFFs are inverted.
        changed = any("L;" in str(tile[3]) for tile in getattr(image, "tile", ()))
        image.load()
        turn = exif_turn(image)
        if image.mode == "L" and not changed:
            stored = np.asarray(image)
        elif image.mode.startswith("I;16"):
            stored = _in_range(name, np.asarray(image))
        elif image.mode in ("P", "RGB", "RGBA"):
            stored = _from_colors(name, image, hierarchy)
        else:
            raise LabelMapError(f"{name} must hold one 8-bit label a pixel. Save it as an indexed PNG.")
    labels = np.empty(stored.shape if turn < 5 else stored.shape[::-1], np.uint8)
    as_stored(labels, turn)[...] = stored
    return labels


def _from_colors(name: str, image: Image.Image, hierarchy: Hierarchy) -> UInt8Map:
    """Apply the rules of `open_label_map` to an image in colours."""
    if image.mode == "P":
        places = np.flatnonzero(image.histogram())
        entries = np.array(image.getpalette("RGB")).reshape(-1, 3)
        colors = _packed(entries)[places]
        numbers = _labels(name, colors, places, hierarchy)
        table = np.zeros(256, np.uint8)
        table[places] = numbers
        translated = np.asarray(image).tobytes().translate(table.tobytes())
        return np.frombuffer(translated, np.uint8).reshape(image.height, image.width)
    counted = image.getcolors(256) or []
    found = np.array([color for _, color in counted], np.int32).reshape(-1, len(image.mode))
    if not counted or (found[:, 3:] != 255).any():
        raise LabelMapError(f"{name} has more colours than a label map, or is transparent. Save it as an indexed PNG.")
    colors = np.sort(_packed(found))
    numbers = _labels(name, colors, None, hierarchy)
    parts = [numbers[np.searchsorted(colors, _packed(np.asarray(strip)))] for strip in strips(image)]
    return np.concatenate(parts)


def _labels(
    name: str, colors: npt.NDArray[np.int32], places: npt.NDArray[np.intp] | None, hierarchy: Hierarchy
) -> UInt8Map:
    """Return the label of each colour.

    Args:
        name: What to name in a refusal.
        colors: Those that pixels have, packed.
        places: Their indices in the image's palette, if it has one.
        hierarchy: The tree.
    """
    known = [_packed(standard) for standard in (palette(hierarchy), _voc_palette(), _GREYS)]
    if places is not None and any((standard[places] == colors).all() for standard in known):
        return places.astype(np.uint8)
    if set(colors.tolist()) in ({_WHITE}, {0, _WHITE}):
        raise LabelMapError(f"{name} is black and white alone, which names no part. Save it with label numbers.")
    labels = np.array([hierarchy.background, *hierarchy.labels, hierarchy.void])
    for standard in known:
        same = standard[labels] == colors[:, None]
        if (same.sum(axis=1) == 1).all():
            return np.array(labels[same.argmax(axis=1)], np.uint8)
    if places is None or np.isin(colors, known[0][list(hierarchy.labels)]).any():
        raise LabelMapError(
            f"{name} mixes colours that the tree has with others. Save it as a grey PNG of label numbers."
            if places is not None
            else f"{name} has colours that the tree has not. Save it as an indexed or grey PNG of label numbers."
        )
    return places.astype(np.uint8)


def _packed(colors: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Return colours (..., 3 or 4) as numbers 0xRRGGBB."""
    packed: npt.NDArray[np.int32] = colors[..., :3].astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    return packed


def _voc_palette() -> npt.NDArray[np.int32]:
    """Return PASCAL VOC's colours (256, 3): the bits of an index go to red, green and blue in turn, highest first."""
    index = np.arange(256)
    colors = np.zeros((256, 3), np.int32)
    for bit in range(8):
        colors[:, bit % 3] |= (index >> bit & 1) << (7 - bit // 3)
    return colors


def _from_array(name: str, data: bytes) -> UInt8Map:
    array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise LabelMapError(
            f"{name} must hold one whole number a pixel in rows and columns. Save it as a 2-D array of uint8."
        )
    _check_size(name, *array.shape)
    return _in_range(name, array)


def _in_range(name: str, array: npt.NDArray[Any]) -> UInt8Map:
    if array.min() < 0 or array.max() > 255:
        raise LabelMapError(f"{name} holds numbers outside 0 to 255, which no label is.")
    return np.array(array, np.uint8, order="C")


def _check_size(name: str, height: int, width: int) -> None:
    if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
        raise LabelMapError(
            f"{name} has more than {MAX_PIXELS // 1_000_000} million pixels, or more than {MAX_SIDE:,} along a "
            "side. Make it smaller first."
        )
