"""Zoom windows lie around people who are small, and nowhere else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from hierseg.inference import Zoom
from hierseg.photo.zoom import windows


@st.composite
def crowds(draw: st.DrawFn) -> tuple[npt.NDArray[np.float32], tuple[int, int]]:
    """Scores with a few rectangles as people, and a photo's size."""
    shape = draw(st.tuples(st.integers(1, 80), st.integers(1, 80)))
    scores = np.zeros(shape, dtype=np.float32)
    for _ in range(draw(st.integers(0, 6))):
        top, left = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
        scores[top : top + draw(st.integers(1, 20)), left : left + draw(st.integers(1, 20))] = draw(st.floats(0, 1))
    return scores, (shape[0] * draw(st.integers(1, 9)), shape[1] * draw(st.integers(1, 9)))


shares = st.floats(0.1, 1)
zooms = st.builds(Zoom, st.integers(1, 4), shares, shares, shares, shares, shares)


@given(crowds(), zooms)
def test_windows_lie_in_the_photo_apart_and_are_smaller_than_it(
    crowd: tuple[npt.NDArray[np.float32], tuple[int, int]], zoom: Zoom
) -> None:
    scores, photo = crowd
    found = windows(scores, photo, zoom)
    assert len(found) <= zoom.windows
    for window in found:
        assert 0 <= window.top < window.bottom <= photo[0]
        assert 0 <= window.left < window.right <= photo[1]
        assert max(window.size) <= zoom.largest * max(photo)
        assert (
            scores[
                window.top * scores.shape[0] // photo[0] : -(-window.bottom * scores.shape[0] // photo[0]),
                window.left * scores.shape[1] // photo[1] : -(-window.right * scores.shape[1] // photo[1]),
            ].max()
            > zoom.found
        )
    for index, window in enumerate(found):
        assert not any(window.touches(other) for other in found[index + 1 :])


def test_each_of_two_far_apart_gets_a_window_and_two_close_by_share_one() -> None:
    scores = np.zeros((80, 120), dtype=np.float32)
    scores[10:24, 5:12] = scores[50:64, 100:107] = 0.9
    assert len(windows(scores, (800, 1200), Zoom())) == 2
    scores[:] = 0
    scores[10:24, 5:12] = scores[12:26, 18:25] = 0.9
    (window,) = windows(scores, (800, 1200), Zoom())
    assert window.top <= 100 and window.left <= 50 and window.bottom >= 260 and window.right >= 250


def test_of_many_the_largest_are_chosen() -> None:
    scores = np.zeros((320, 320), dtype=np.float32)
    for index, side in enumerate((10, 12, 14, 16, 18)):
        scores[60 * index : 60 * index + side, 150 : 150 + side] = 0.9
    found = windows(scores, (320, 320), Zoom())
    assert len(found) == 3
    assert {window.top // 60 for window in found} <= {1, 2, 3, 4} and any(window.bottom > 258 for window in found)


def test_noise_is_not_somebody() -> None:
    scores = np.zeros((80, 80), dtype=np.float32)
    scores[::20, ::20] = 1
    assert windows(scores, (800, 800), Zoom()) == []
