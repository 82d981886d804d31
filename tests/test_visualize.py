"""Colours, overlay and indexed PNG."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from hierseg.hierarchy import Hierarchy
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


def test_every_node_has_a_colour_of_its_own() -> None:
    assert len(set(TREE.colors)) == len(TREE)
    assert (0, 0, 0) not in TREE.colors and (255, 255, 255) not in TREE.colors


@given(MAPS)
def test_indexed_png_gives_back_labels_and_colours(labels: np.ndarray) -> None:
    with Image.open(io.BytesIO(indexed_png(labels, TREE))) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image), labels)
        np.testing.assert_array_equal(np.array(image.convert("RGB")), palette(TREE)[labels])
