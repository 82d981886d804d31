"""Differences between two label maps, against counting pixel by pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hierseg.comparison import differences
from hierseg.tree import Hierarchy
from hierseg.visualize import difference_picture

TREE = Hierarchy.default()
LABELS = st.sampled_from([TREE.background, *TREE.labels])


@given(st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(lambda shape: st.tuples(*2 * [_maps(shape)])))
def test_differences_are_what_counting_gives(maps: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]) -> None:
    first, second = maps
    found = differences(first, second, TREE)
    counts = [0, 0, 0, 0]
    somebody = 0
    for at in np.ndindex(first.shape):
        one, other = int(first[at]), int(second[at])
        somebody += one != 0 or other != 0
        kind = 0 if one == other else 1 if other == 0 else 2 if one == 0 else 3
        assert found.map[at] == kind
        counts[kind] += 1
    shares = [found.only_first, found.only_second, found.another_node]
    assert shares == pytest.approx([count / first.size for count in counts[1:]])
    assert found.of_photo == pytest.approx(sum(counts[1:]) / first.size)
    assert found.of_people == pytest.approx(sum(counts[1:]) / somebody if somebody else 0)


def _maps(shape: tuple[int, int]) -> st.SearchStrategy[npt.NDArray[np.uint8]]:
    return arrays.arrays(np.uint8, shape, elements=LABELS)


def test_maps_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        differences(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), TREE)


def test_picture_shows_what_differs_and_dims_the_rest() -> None:
    photo = np.full((1, 4, 3), (200, 100, 0), np.uint8)
    found = differences(np.array([[4, 4, 0, 4]], np.uint8), np.array([[4, 0, 4, 2]], np.uint8), TREE)
    agree, *rest = difference_picture(photo, found)[0].tolist()
    assert agree[0] == agree[1] == agree[2] < 100
    assert rest == [[255, 149, 0], [64, 169, 255], [255, 255, 255]]
