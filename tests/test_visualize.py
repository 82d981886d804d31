"""Colours, overlay and indexed PNG."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from hierseg import visualize
from hierseg.tree import Hierarchy
from hierseg.visualize import indexed_png, outlines, overlay, palette

TREE = Hierarchy.default()
LABELS = st.sampled_from([TREE.background, *TREE.labels])
MAPS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=LABELS)


@given(MAPS, st.integers(0, 255), st.floats(0, 1))
def test_overlay_changes_no_background_pixel_and_not_the_photo(labels: np.ndarray, grey: int, opacity: float) -> None:
    photo = np.full((*labels.shape, 3), grey, np.uint8)
    result = overlay(photo, labels, TREE, opacity)
    background = labels == TREE.background
    np.testing.assert_array_equal(result[background], photo[background])
    assert (photo == grey).all()
    assert result.dtype == np.uint8 and result.shape == photo.shape


@given(MAPS)
def test_outlines_are_the_pixels_next_to_another_label(labels: np.ndarray) -> None:
    height, width = labels.shape
    expected = np.zeros(labels.shape, bool)
    for row in range(height):
        for column in range(width):
            for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if 0 <= r < height and 0 <= c < width and labels[r, c] != labels[row, column]:
                    expected[row, column] = True
    np.testing.assert_array_equal(outlines(labels), expected)


@given(MAPS, st.floats(0.01, 1), st.integers(1, 40))
def test_an_overlay_drawn_in_strips_is_that_of_the_whole(labels: np.ndarray, opacity: float, pixels: int) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*labels.shape, 3), dtype=np.uint8)
    whole = overlay(photo, labels, TREE, opacity)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(visualize, "_STRIP_PIXELS", pixels)
        np.testing.assert_array_equal(overlay(photo, labels, TREE, opacity), whole)
    line = outlines(labels) & (labels != TREE.background)
    pale = visualize._pale(palette(TREE))
    np.testing.assert_array_equal(whole[line], pale[labels[line]])


def test_opacity_goes_from_the_photo_to_the_plain_colour() -> None:
    labels = np.full((9, 9), TREE.labels[TREE.index("head")], np.uint8)
    photo = np.full((9, 9, 3), 40, np.uint8)
    color = np.array(TREE.colors[TREE.index("head")])
    np.testing.assert_array_equal(overlay(photo, labels, TREE, 0), photo)
    np.testing.assert_array_equal(overlay(photo, labels, TREE, 1)[4, 4], color)
    np.testing.assert_allclose(overlay(photo, labels, TREE, 0.5)[4, 4], (40 + color) / 2, atol=1)


def test_overlay_refuses_other_sizes_and_opacities() -> None:
    photo = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(ValueError, match="labels are"):
        overlay(photo, np.zeros((5, 4), np.uint8), TREE)
    with pytest.raises(ValueError, match="Opacity"):
        overlay(photo, np.zeros((4, 5), np.uint8), TREE, 1.5)


@given(MAPS)
def test_indexed_png_gives_back_labels_and_colours(labels: np.ndarray) -> None:
    with Image.open(io.BytesIO(indexed_png(labels, TREE))) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image), labels)
        np.testing.assert_array_equal(np.array(image.convert("RGB")), palette(TREE)[labels])


# The full effect of each kind of colour blindness on linear RGB: Machado, Oliveira and Fernandes 2009, table 1.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def seen_as(colors: npt.NDArray[np.float64], sight: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return CIE L*a*b* of sRGB colours (K, 3), 0 to 1, as a person with that sight sees them."""
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ np.transpose(sight), 0, 1) @ np.array(
        [[0.4124564, 0.2126729, 0.0193339], [0.3575761, 0.7151522, 0.1191920], [0.1804375, 0.0721750, 0.9503041]]
    )
    x, y, z = np.where((t := xyz / [0.95047, 1, 1.08883]) > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("sight", SIGHT)
def test_the_trees_colours_can_be_told_apart_by_everybody(sight: str, tree: Hierarchy) -> None:
    lab = seen_as(np.array(tree.colors) / 255, SIGHT[sight])
    distance = np.linalg.norm(lab[:, None] - lab, axis=2)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 25  # 2.3 can just be seen
    assert distance[np.ix_(tree.leaves, tree.leaves)].min() > 35
