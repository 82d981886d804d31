"""Draw labels: colours, overlays and indexed PNG files."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from hierseg.comparison import Differences
from hierseg.photo import Photo
from hierseg.tree import BoolMask, Hierarchy, UInt8Map

# Orange and blue differ for every kind of colour blindness; views.js in the viewer uses the same.
_DIFFERENCES = np.array([[0, 0, 0], [255, 149, 0], [64, 169, 255], [255, 255, 255]], dtype=np.uint8)
_STRIP_PIXELS = 65_536  # pixels drawn at a time: they fit into a processor's cache
_DIMMED = 0.45  # share of a photo's brightness that is left behind differences


def palette(hierarchy: Hierarchy) -> npt.NDArray[np.uint8]:
    """Return the colour of every label, uint8 (256, 3): black for background, white for void."""
    colors = np.zeros((256, 3), dtype=np.uint8)
    colors[hierarchy.void] = 255
    colors[list(hierarchy.labels)] = hierarchy.colors
    return colors


def readable(name: str) -> str:
    """Return a node's name as people write it: "upper_arm" as "upper arm"."""
    return name.replace("_", " ")


def overlay(photo: Photo, labels: UInt8Map, hierarchy: Hierarchy, opacity: float = 0.55) -> Photo:
    """Draw labels over a photo: each region is filled and outlined, so that colour is not the only sign.

    Args:
        photo: RGB, uint8 (H, W, 3).
        labels: Labels, uint8 (H, W).
        hierarchy: The tree whose colours are used.
        opacity: Opacity of the fill, 0 to 1; above 0, outlines are opaque.

    Returns:
        RGB, uint8 (H, W, 3); background pixels are the photo's.

    Raises:
        ValueError: The sizes differ or the opacity is not within 0 and 1.
    """
    if photo.shape[:2] != labels.shape:
        raise ValueError(f"The photo is {photo.shape[:2]} but the labels are {labels.shape}.")
    if not 0 <= opacity <= 1:
        raise ValueError(f"Opacity must be 0 to 1, not {opacity}.")
    result = photo.copy()
    if opacity == 0:
        return result
    colors = palette(hierarchy)
    pale = _pale(colors)
    height, width = labels.shape
    step = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, step):
        rows = slice(top, top + step)
        people = np.flatnonzero((labels[rows] != hierarchy.background).any(axis=0))
        if not people.size:
            continue
        columns = slice(people[0], people[-1] + 1)
        strip, own = result[rows, columns], np.ascontiguousarray(labels[rows, columns])
        shown = own != hierarchy.background
        mixed = cv2.addWeighted(strip, 1 - opacity, _colored(own, colors), opacity, 0)
        cv2.copyTo(mixed, shown.view(np.uint8), strip)
        above, left = min(top, 1), min(people[0], 1)  # neighbours outside the strip
        around = labels[top - above : top + step + 1, people[0] - left : people[-1] + 2]
        line = outlines(around)[above:, left:][: shown.shape[0], : shown.shape[1]] & shown
        cv2.copyTo(_colored(own, pale), line.view(np.uint8), strip)
    return result


def _colored(labels: UInt8Map, colors: npt.NDArray[np.uint8]) -> Photo:
    """Return the colour of each pixel's label, uint8 (H, W, 3)."""
    return np.asarray(cv2.applyColorMap(labels, colors[:, None]), dtype=np.uint8)


def _pale(colors: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the colours of outlines: paler than the fill, so that they show on clothes of the fill's colour."""
    return (colors + (255 - colors) * 0.6).astype(np.uint8)


def difference_picture(photo: Photo, found: Differences) -> Photo:
    """Draw the differences between two checkpoints over a darkened grey photo.

    Args:
        photo: RGB, uint8 (H, W, 3).
        found: The differences, of the same size.

    Returns:
        RGB, uint8 (H, W, 3): orange where only the first has a person, blue where only the second has one, white where
        both have a person but different nodes.
    """
    grey = photo.mean(axis=2, keepdims=True) * _DIMMED
    result = np.repeat(grey.astype(np.uint8), 3, axis=2)
    differing = found.map > 0
    result[differing] = _DIFFERENCES[found.map[differing]]
    return result


def outlines(labels: UInt8Map) -> BoolMask:
    """Return the pixels whose right, left, upper or lower neighbour has another label, bool (H, W)."""
    line = np.zeros(labels.shape, dtype=bool)
    across = labels[:, 1:] != labels[:, :-1]
    down = labels[1:] != labels[:-1]
    line[:, 1:] |= across
    line[:, :-1] |= across
    line[1:] |= down
    line[:-1] |= down
    return line


def indexed_image(labels: UInt8Map, hierarchy: Hierarchy) -> Image.Image:
    """Return an image whose pixel values are the labels and whose palette is the tree's colours."""
    image = Image.fromarray(labels)
    image.putpalette(palette(hierarchy).tobytes())
    return image


def indexed_png(labels: UInt8Map, hierarchy: Hierarchy) -> bytes:
    """Return `indexed_image` as the bytes of a PNG file."""
    return encoded(indexed_image(labels, hierarchy), "PNG")


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image as the bytes of a file of a kind, such as "JPEG", with Pillow's options."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
