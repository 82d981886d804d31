"""The whole photo is centred in the network's input, and scores return to its position."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from hierseg.photo import STRIDE, Letterbox
from tests.rounding import EPSILON

RED, BLUE, GREY = (200, 40, 30), (30, 60, 190), (128, 128, 128)
sides = st.integers(1, 90)


def noise(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)


def content_of(box: Letterbox) -> npt.NDArray[np.float32]:
    return np.random.default_rng(box.photo).random((2, *box.content), np.float32)


any_side = sides | st.integers(1, 6000)


@given(any_side, any_side, st.integers(1, 1100))
def test_the_letterbox_holds_the_whole_photo_centred_on_the_smallest_canvas(height: int, width: int, size: int) -> None:
    box = Letterbox.fit(height, width, size)
    assert box.photo == (height, width)
    assert max(box.content) == size
    for photo_side, canvas, content, offset in zip(box.photo, box.canvas, box.content, box.offset, strict=True):
        assert canvas % STRIDE == 0
        assert content <= canvas < content + STRIDE
        assert 0 <= canvas - content - 2 * offset <= 1
        # Nearest pixel to the photo's own proportions, but never none.
        assert abs(content - max(1.0, photo_side * size / max(height, width))) <= 0.5 + 1e-9


@given(sides, sides, sides)
def test_the_photo_is_put_in_the_box_and_the_fill_around_it(height: int, width: int, size: int) -> None:
    box = Letterbox.fit(height, width, size)
    canvas = box.apply(np.full((height, width, 3), RED, dtype=np.uint8), BLUE)
    assert canvas.shape == (*box.canvas, 3) and canvas.dtype == np.uint8
    inside = np.zeros(box.canvas, dtype=bool)
    inside[box.offset[0] : box.offset[0] + box.content[0], box.offset[1] : box.offset[1] + box.content[1]] = True
    assert (canvas[inside] == RED).all()
    assert (canvas[~inside] == BLUE).all()


@given(sides, sides)
def test_a_photo_of_the_right_size_goes_in_untouched_and_comes_out_untouched(height: int, width: int) -> None:
    photo = noise(height, width)
    photo.flags.writeable = False
    box = Letterbox.fit(height, width, max(height, width))
    content = box.crop(box.apply(photo, GREY).transpose(2, 0, 1))
    assert np.array_equal(content.transpose(1, 2, 0), photo)
    assert np.array_equal(box.restore(content.astype(np.float32)), content)


@pytest.mark.parametrize("size", [64, 100, 224])
@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (97, 61), (50, 40), (700, 70)])
def test_a_ramp_comes_back_where_it_was(height: int, width: int, size: int) -> None:
    down, right = np.mgrid[0:height, 0:width]
    ramp = np.dstack([down / height * 240, right / width * 240, np.full((height, width), 77)])
    box = Letterbox.fit(height, width, size)
    canvas = box.apply(np.rint(ramp).astype(np.uint8), (255, 0, 255)).transpose(2, 0, 1).astype(np.float32)
    restored = box.restore(box.crop(canvas)).transpose(1, 2, 0)
    assert restored.shape == ramp.shape
    # The outermost pixels of the input stand for their whole width: a ramp is flat there.
    rows, columns = (2 * -(-outer // inner) for outer, inner in zip(box.photo, box.content, strict=True))
    error = (restored - ramp)[rows:-rows, columns:-columns]
    assert np.abs(error).max() < 1.2  # each of the three roundings to bytes costs up to a half
    half_a_pixel_off = 120 / np.array(box.content)
    assert (np.abs(error[..., :2].mean((0, 1))) < 0.4 * half_a_pixel_off).all()
    assert np.abs(error[..., 2]).max() < 1e-4  # float32 of 77


@given(sides, sides, sides)
def test_restoring_is_bilinear_interpolation_by_pixel_centres(height: int, width: int, size: int) -> None:
    box = Letterbox.fit(height, width, size)
    content = content_of(box)
    exact = torch.from_numpy(content[None].astype(np.float64))
    twin = functional.interpolate(exact, size=(height, width), mode="bilinear", align_corners=False)[0]
    # Positions between centres have the precision of a float32 below 90, and neighbouring values differ by up to 1.
    np.testing.assert_allclose(box.restore(content), twin, rtol=0, atol=90 * EPSILON)


@given(sides, sides, sides, st.data())
def test_any_split_into_strips_gives_the_whole(height: int, width: int, size: int, data: st.DataObject) -> None:
    box = Letterbox.fit(height, width, size)
    content = content_of(box)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, height), max_size=5))), height]
    strips = [box.restore(content, slice(top, bottom)) for top, bottom in itertools.pairwise(cuts)]
    # Sums of four numbers of at most 1; their order depends on the shape of the product.
    np.testing.assert_allclose(np.concatenate(strips, axis=1), box.restore(content), rtol=0, atol=4 * EPSILON)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (5000, 1), (4000, 3)])
def test_extreme_proportions_go_through(height: int, width: int) -> None:
    box = Letterbox.fit(height, width, 320)
    content = box.crop(box.apply(noise(height, width), GREY).transpose(2, 0, 1).astype(np.float32))
    assert min(content.shape[1:]) >= 1
    assert box.restore(content).shape == (3, height, width)
