"""Fit a photo into the network's input, and resize scores back to the photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from hierseg.photo.reading import Photo

STRIDE = 32  # smp's encoders halve the input five times
_BLOCK = 32  # rows resized at a time
_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True)
class Letterbox:
    """Where a photo lies inside the network's input.

    Attributes:
        photo: Height and width of the photo in pixels.
        canvas: Height and width of the input, multiples of `STRIDE`.
        content: Height and width of the resized photo inside the input.
        offset: Rows above and columns left of the content.
    """

    photo: tuple[int, int]
    canvas: tuple[int, int]
    content: tuple[int, int]
    offset: tuple[int, int]

    @staticmethod
    def fit(height: int, width: int, size: int) -> Letterbox:
        """Plan the letterbox of a photo whose longest side is to become `size` pixels."""
        scale = size / max(height, width)
        content = (max(1, round(height * scale)), max(1, round(width * scale)))
        canvas = tuple(-(-side // STRIDE) * STRIDE for side in content)
        offset = tuple((outer - inner) // 2 for outer, inner in zip(canvas, content, strict=True))
        return Letterbox((height, width), (canvas[0], canvas[1]), content, (offset[0], offset[1]))

    def apply(self, photo: Photo, fill: tuple[int, int, int]) -> Photo:
        """Resize a photo and lay it on a canvas.

        Args:
            photo: RGB, uint8, shape (*self.photo, 3).
            fill: Colour around it.

        Returns:
            RGB, uint8, shape (*self.canvas, 3).
        """
        height, width = self.content
        resized = Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        canvas = np.empty((*self.canvas, 3), dtype=np.uint8)
        canvas[:] = fill
        canvas[self._inner()] = np.asarray(resized)
        return canvas

    def crop(self, scores: npt.NDArray[_Value]) -> npt.NDArray[_Value]:
        """Cut the photo's part out of network output (..., *canvas): (..., *content)."""
        return scores[(..., *self._inner())]

    def restore(self, content: npt.NDArray[np.float32], rows: slice = slice(None)) -> npt.NDArray[np.float32]:
        """Resize cropped scores to the photo, bilinearly; the geometry is the exact inverse of `apply`'s.

        Args:
            content: Scores, float32, shape (N, *self.content), from `crop`.
            rows: Rows of the photo to return, without a step; time and memory are in proportion to their number.

        Returns:
            Scores, float32, shape (N, rows, photo width).
        """
        height, width = self.photo
        first, last, _ = rows.indices(height)
        count = max(0, last - first)
        if not count:
            return np.empty((len(content), 0, width), np.float32)
        above, below, nearness = _between(np.arange(first, first + count), height, content.shape[1])
        # Each row is a weighted mean of two; products with small, mostly zero matrices are faster than gathering them,
        # and so small that BLAS does not start threads, which would then spin where the network needs the processor.
        tall = np.empty((len(content), count, content.shape[2]), np.float32)
        for start in range(0, count, _BLOCK):
            block = slice(start, start + _BLOCK)
            top, upper, lower, near = above[start], above[block], below[block], nearness[block]
            row = np.arange(len(near))
            share = np.zeros((len(near), lower[-1] + 1 - top), np.float32)
            share[row, upper - top] = 1 - near
            share[row, lower - top] += near
            np.matmul(share, content[:, top : lower[-1] + 1], out=tall[:, block])
        # All channels stacked as one picture; only its width changes.
        wide = cv2.resize(tall.reshape(-1, content.shape[2]), (width, len(content) * count))
        return np.asarray(wide, np.float32).reshape(len(content), count, width)

    def restore_at(
        self, content: npt.NDArray[np.float32], rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float32]:
        """Return what `restore` gives for single pixels of the photo, but for rounding.

        Args:
            content: Scores, float32, shape (N, *self.content), from `crop`.
            rows: Of P pixels.
            columns: Of the same pixels.

        Returns:
            Scores, float32, shape (N, P).
        """
        (height, width), flat = self.content, content.reshape(len(content), -1)
        above, below, down = _between(rows, self.photo[0], height)
        left, right, across = _between(columns, self.photo[1], width)
        upper, lower = (
            _mixed(flat.take(row * width + left, axis=1), flat.take(row * width + right, axis=1), across)
            for row in (above, below)
        )
        return _mixed(upper, lower, down)

    def spread(self, values: npt.NDArray[np.uint8], mixed: int) -> npt.NDArray[np.uint8]:
        """Give each pixel of the photo the value of the four pixels of the content around it, those `restore` mixes.

        Args:
            values: For each pixel of the content, uint8, shape self.content.
            mixed: What a pixel gets where those four are not the same.

        Returns:
            Values, uint8, shape self.photo.
        """
        cells = values.copy()  # each with the pixel in its upper left corner
        cells[:, :-1][values[:, :-1] != values[:, 1:]] = mixed
        cells[:-1][cells[:-1] != cells[1:]] = mixed
        above, left = (
            _between(np.arange(photo), photo, content)[0]
            for photo, content in zip(self.photo, self.content, strict=True)
        )
        return cells.take(left, axis=1).take(above, axis=0)

    def _inner(self) -> tuple[slice, slice]:
        (top, left), (height, width) = self.offset, self.content
        return slice(top, top + height), slice(left, left + width)


def _between(
    pixels: npt.NDArray[np.intp], photo: int, content: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Tell for pixels along a side of the photo between which two of the content they lie, and how near the second."""
    # Pixel centres: row y of the photo lies at (y + 0.5) * scale - 0.5 of the content.
    at = ((pixels + 0.5) * (content / photo) - 0.5).clip(0, content - 1)
    before = at.astype(np.intp)
    return before, np.minimum(before + 1, content - 1), at - before


def _mixed(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], nearness: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Return the values (N, P) between some and others, which are changed, as near the others as it is said."""
    second -= first
    second *= nearness.astype(np.float32)
    second += first
    return second
