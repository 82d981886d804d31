"""Random training crops: cut from a photo at full size, then resized, flipped and recoloured.

A crop depends only on its seed, so a run gives the same crops with any number of workers, and wherever it is resumed.
"""

from __future__ import annotations

import os
from random import Random

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise it looks online for a newer version

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt

from hierseg.photo import Photo
from hierseg.tree import UInt8Map
from train.recipe import Augment, Crop

_GREY = 128
_EMPTY_SCALE = (0.15, 0.6)  # side of a square without people, as a share of the photo's longer side


class Augmenter:
    """Makes training crops."""

    def __init__(self, crop: Crop, augment: Augment, background: int, void: int) -> None:
        """Plan the crops.

        Args:
            crop: How crops are cut.
            augment: How crops are changed.
            background: Label of pixels without a person.
            void: Label of pixels outside the photo.
        """
        self.crop = crop
        self.background = background
        self.void = void
        turn = A.Affine(
            rotate=(-augment.rotate, augment.rotate), fill=_GREY, fill_mask=void, p=1.0 if augment.rotate else 0.0
        )
        spoil = A.OneOf([A.GaussianBlur(), A.ImageCompression(quality_range=(40, 90))], p=augment.blur)
        color = A.ColorJitter(brightness=(0.7, 1.3), contrast=(0.7, 1.3), saturation=(0.6, 1.4), hue=(-0.04, 0.04))
        color.p = augment.color
        self._changes = A.Compose([turn, A.HorizontalFlip(p=augment.flip), color, A.ToGray(p=augment.grey), spoil])

    def __call__(self, photo: Photo, label_map: UInt8Map, seed: int) -> tuple[Photo, UInt8Map]:
        """Cut and change one crop.

        Args:
            photo: RGB, uint8 (H, W, 3).
            label_map: Labels, uint8 (H, W).
            seed: Same seed, same crop.

        Returns:
            Photo (size, size, 3) and label map (size, size), both uint8.
        """
        random = np.random.default_rng(seed)
        photo, label_map = self._cut(photo, label_map, random)
        # One random stream for all changes: set_random_seed would start each from the same number, and every grey crop
        # would also be flipped.
        self._changes.set_random_state(random, Random(seed))
        changed = self._changes(image=photo, mask=label_map)
        return changed["image"], changed["mask"]

    def _cut(self, photo: Photo, label_map: UInt8Map, random: np.random.Generator) -> tuple[Photo, UInt8Map]:
        # No number is drawn if the share is 0, so recipes without it keep their crops.
        if self.crop.nobody and random.random() < self.crop.nobody:
            square = self._empty_square(label_map, random)
            if square is None:
                size = self.crop.size
                return plain_surface(size, random), np.full((size, size), self.background, np.uint8)
            return self._resized(photo, label_map, *square)
        return self._resized(photo, label_map, *self._square(label_map, random))

    def _empty_square(self, label_map: UInt8Map, random: np.random.Generator) -> tuple[int, int, int] | None:
        """Return top, left and side of a square inside the photo without people or void; None if there is none."""
        height, width = label_map.shape
        total = cv2.integral((label_map != self.background).astype(np.uint8))
        smallest, largest = (min(height, width, max(8, round(share * max(height, width)))) for share in _EMPTY_SCALE)
        side = int(random.integers(smallest, largest + 1))
        while side >= smallest:
            filled = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
            empty = np.flatnonzero(filled == 0)
            if len(empty):
                top, left = divmod(int(random.choice(empty)), filled.shape[1])
                return top, left, side
            side = side * 3 // 4
        return None

    def _square(self, label_map: UInt8Map, random: np.random.Generator) -> tuple[int, int, int]:
        """Return top, left and side of a square; it reaches outside the photo only if it is larger."""
        height, width = label_map.shape
        side = max(8, round(random.uniform(*self.crop.scale) * max(height, width)))
        near = random.random() < self.crop.near_person
        person = np.flatnonzero((label_map != self.background) & (label_map != self.void)) if near else ()
        if len(person):
            row, column = divmod(int(random.choice(person)), width)
            top, left = (round(at - side * random.uniform(0.2, 0.8)) for at in (row, column))
        else:
            top, left = (round(random.uniform(*_range(length, side))) for length in (height, width))
        # Keep the square inside the photo if it fits: there is nothing to learn outside.
        top, left = (int(np.clip(at, *_range(length, side))) for at, length in ((top, height), (left, width)))
        return top, left, side

    def _resized(self, photo: Photo, label_map: UInt8Map, top: int, left: int, side: int) -> tuple[Photo, UInt8Map]:
        """Return a square of the photo and its label map, at the size of a crop."""
        size = (self.crop.size, self.crop.size)
        resized = cv2.resize(
            _window(photo, top, left, side, _GREY),
            size,
            interpolation=cv2.INTER_AREA if side > self.crop.size else cv2.INTER_LINEAR,
        )
        labels = cv2.resize(_window(label_map, top, left, side, self.void), size, interpolation=cv2.INTER_NEAREST_EXACT)
        return np.asarray(resized, np.uint8), np.asarray(labels, np.uint8)


def paste_people(
    photo: Photo, label_map: UInt8Map, guest: Photo, guest_map: UInt8Map, background: int, void: int
) -> tuple[Photo, UInt8Map]:
    """Paste the people of one crop into another.

    Args:
        photo: RGB, uint8 (size, size, 3).
        label_map: Its labels, uint8 (size, size).
        guest: The crop whose people are taken, of the same size.
        guest_map: Its labels.
        background: Label of pixels without a person.
        void: Label of pixels that are not annotated; they are not pasted.

    Returns:
        Photo and label map like the first two. Edges are blurred by a pixel or two, so that they cannot be learned.
    """
    taken = (guest_map != background) & (guest_map != void)
    share = cv2.GaussianBlur(taken.astype(np.float32), (3, 3), 0)[..., None]
    mixed = np.rint(photo * (1 - share) + guest * share).astype(np.uint8)
    return mixed, np.where(taken, guest_map, label_map)


def plain_surface(size: int, random: np.random.Generator) -> Photo:
    """Draw an empty surface: a gradient from one colour to another, with some noise.

    Args:
        size: Side in pixels.
        random: Chooses colours, direction and noise.

    Returns:
        RGB, uint8 (size, size, 3).
    """
    first = random.uniform(0, 255, 3)
    second = np.clip(first + random.normal(0, 40, 3), 0, 255)
    angle = random.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:size, :size] / max(1, size - 1) - 0.5
    share = np.clip(0.5 + rows * np.sin(angle) + columns * np.cos(angle), 0, 1)[..., None]
    noise = random.normal(0, random.uniform(0, 12), (size, size, 1))
    surface: Photo = np.rint(np.clip(first * (1 - share) + second * share + noise, 0, 255)).astype(np.uint8)
    return surface


def _window(array: npt.NDArray[np.uint8], top: int, left: int, side: int, fill: int) -> npt.NDArray[np.uint8]:
    """Return the square at (top, left); pixels outside the array have the value `fill`."""
    height, width = array.shape[:2]
    window = np.full((side, side, *array.shape[2:]), fill, dtype=np.uint8)
    rows, columns = (slice(max(0, at), min(at + side, end)) for at, end in ((top, height), (left, width)))
    window[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = array[rows, columns]
    return window


def _range(length: int, side: int) -> tuple[int, int]:
    """Return the range of a square's start along one axis: inside the photo, or around it if the square is larger."""
    return min(0, length - side), max(0, length - side)
