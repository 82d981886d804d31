"""Windows around people who are small in a photo, for a second pass.

The network sees a photo at one size, where a person in the distance covers only a few pixels. In a second pass over a
window around that person, it sees them larger.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from hierseg.inference import Zoom
from hierseg.tree import BoolMask

_CELL = 8  # side of a grid cell in pixels; cells that touch form a group
_LEAST_PIXELS = 12  # of a person, in the network's input; fewer are noise


@dataclass(frozen=True)
class Window:
    """A part of a photo: rows `top` to `bottom` - 1 and columns `left` to `right` - 1."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bottom - self.top, self.right - self.left

    def touches(self, other: Window) -> bool:
        """Tell whether two windows share a pixel."""
        return (
            self.top < other.bottom and other.top < self.bottom and self.left < other.right and other.left < self.right
        )


def windows(scores: npt.NDArray[np.float32], photo: tuple[int, int], zoom: Zoom) -> list[Window]:
    """Find the windows worth a second pass.

    Args:
        scores: Score of a person at each pixel, 0 to 1, shape (h, w), at the network's resolution.
        photo: Height and width of the photo in pixels.
        zoom: Settings of the second pass.

    Returns:
        Windows of the photo that do not overlap; none if every person is large enough.
    """
    found = scores > zoom.found
    people = []
    for cells in _groups(_any_in_cells(found)):
        rows, columns = (cells[:, axis] * _CELL for axis in (0, 1))
        part = found[rows.min() : rows.max() + _CELL, columns.min() : columns.max() + _CELL]
        if (pixels := int(part.sum())) < _LEAST_PIXELS:
            continue
        spans = []
        for axis, start in enumerate((rows.min(), columns.min())):
            inside = start + np.flatnonzero(part.any(1 - axis))
            factor = photo[axis] / scores.shape[axis]
            spans.append((inside[0] * factor, (inside[-1] + 1) * factor))
        people.append((_around(spans[0], spans[1], photo, zoom), pixels))
    worth = [(window, pixels) for window, pixels in _merged(people) if max(window.size) <= zoom.largest * max(photo)]
    worth.sort(key=lambda entry: -entry[1])
    return [window for window, _ in worth[: zoom.windows]]


def _any_in_cells(mask: BoolMask) -> BoolMask:
    height, width = (-(-side // _CELL) for side in mask.shape)
    padded = np.zeros((height * _CELL, width * _CELL), dtype=bool)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    return np.asarray(padded.reshape(height, _CELL, width, _CELL).any(axis=(1, 3)))


def _groups(cells: BoolMask) -> list[npt.NDArray[np.intp]]:
    """Return the (row, column) pairs of each 8-connected group of cells."""
    count, groups = cv2.connectedComponents(cells.view(np.uint8), connectivity=8)
    return [np.argwhere(groups == group) for group in range(1, count)]


def _around(rows: tuple[float, float], columns: tuple[float, float], photo: tuple[int, int], zoom: Zoom) -> Window:
    """Return a window around a box: with a margin, neither too small nor too slim, and inside the photo."""
    longer = max(rows[1] - rows[0], columns[1] - columns[0]) * (1 + 2 * zoom.margin)
    longer = max(longer, zoom.smallest * max(photo))
    edges = []
    for (first, last), length in ((rows, photo[0]), (columns, photo[1])):
        side = min(
            length, max((last - first) + 2 * zoom.margin * longer / (1 + 2 * zoom.margin), zoom.slimmest * longer)
        )
        start = int(np.clip((first + last - side) / 2, 0, length - side))
        edges.append((start, min(length, start + max(1, round(side)))))
    (top, bottom), (left, right) = edges
    return Window(top, left, bottom, right)


def _merged(people: list[tuple[Window, int]]) -> list[tuple[Window, int]]:
    """Merge windows until no two touch."""
    apart: list[tuple[Window, int]] = []
    for window, pixels in people:
        while touching := [entry for entry in apart if entry[0].touches(window)]:
            for other, others in touching:
                window = Window(
                    min(window.top, other.top),
                    min(window.left, other.left),
                    max(window.bottom, other.bottom),
                    max(window.right, other.right),
                )
                pixels += others
            apart = [entry for entry in apart if entry not in touching]
        apart.append((window, pixels))
    return apart
