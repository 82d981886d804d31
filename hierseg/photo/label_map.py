"""Read a label map from a grey or indexed PNG, a PNG in the tree's colours, or a NumPy file."""

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
    """Read a label map; the format is read from the file's content, not from its name.

    An array, or a grey image of 8 or 16 bits, holds the labels themselves. For a colour image, take the colours of all
    its pixels and three known palettes: the tree's, PASCAL VOC's and a ramp of greys. The first rule that fits decides:

    1. Each colour has the same index in the image's palette as in one known palette: the indices are the labels.
    2. Each colour is that of a label of the tree in one known palette: the labels are these, whatever the indices in
       the file. Programs that drop unused colours write such files; images without a palette are read this way too.
    3. No colour is that of a node of the tree: the image has a data set's own palette, and the indices are the labels.
    4. Otherwise the image is refused. So is one of only black and white, unless rule 1 fits: white may mean a person or
       an unlabelled pixel.

    Colours must match exactly. The tree's palette is tried before VOC's. The EXIF orientation of the file itself is
    applied; that of the photo is not known here.

    Args:
        source: A path or the bytes of a file: an image, or a whole-number array (H, W) as `numpy.save` writes it.
        hierarchy: The tree that gives colours and labels.

    Returns:
        Labels, uint8 (H, W).

    Raises:
        LabelMapError: The file is missing, damaged, too large, not a label map, or ambiguous.
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
        # Pillow stretches greys of 2 and 4 bits to 0 to 255, and the file does not tell whether its labels were
        # stretched before. Some TIFFs are inverted.
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
            raise LabelMapError(f"{name} must hold one 8-bit label per pixel. Save it as an indexed PNG.")
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
        name: What error messages call the file.
        colors: Colours of the pixels, packed.
        places: Their indices in the image's palette, if it has one.
        hierarchy: The tree.
    """
    known = [_packed(standard) for standard in (palette(hierarchy), _voc_palette(), _GREYS)]
    if places is not None and any((standard[places] == colors).all() for standard in known):
        return places.astype(np.uint8)
    if set(colors.tolist()) in ({_WHITE}, {0, _WHITE}):
        raise LabelMapError(f"{name} is only black and white, which names no part. Save it with label numbers.")
    labels = np.array([hierarchy.background, *hierarchy.labels, hierarchy.void])
    for standard in known:
        same = standard[labels] == colors[:, None]
        if (same.sum(axis=1) == 1).all():
            return np.array(labels[same.argmax(axis=1)], np.uint8)
    if places is None or np.isin(colors, known[0][list(hierarchy.labels)]).any():
        raise LabelMapError(
            f"{name} mixes the tree's colours with others. Save it as a grey PNG of label numbers."
            if places is not None
            else f"{name} has colours that are not in the tree. Save it as an indexed or grey PNG of label numbers."
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
            f"{name} must hold one whole number per pixel in rows and columns. Save it as a 2-D array of uint8."
        )
    _check_size(name, *array.shape)
    return _in_range(name, array)


def _in_range(name: str, array: npt.NDArray[Any]) -> UInt8Map:
    if array.min() < 0 or array.max() > 255:
        raise LabelMapError(f"{name} holds numbers outside 0 to 255, the range of labels.")
    return np.array(array, np.uint8, order="C")


def _check_size(name: str, height: int, width: int) -> None:
    if height * width > MAX_PIXELS or max(height, width) > MAX_SIDE:
        raise LabelMapError(
            f"{name} has more than {MAX_PIXELS // 1_000_000} million pixels, or more than {MAX_SIDE:,} along a "
            "side. Make it smaller first."
        )
