"""Tests of train.augment: photo and mask change together, no label is invented, and the seed decides everything."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.data import BACKGROUND, COLORS, TORSO, VOID, draw_person
from train.augment import Augmenter, paste_people, plain_surface
from train.batches import Crops
from train.dataset import Example
from train.recipe import Augment, Crop

SIZE = 64
STILL = Augment(flip=0, rotate=0, color=0, grey=0, blur=0)
MOVING = Augment(flip=0.5, rotate=15, color=0, grey=0, blur=0)
ALL = Augment(flip=0.5, rotate=15, color=0.8, grey=0.3, blur=0.5)
SEEDS = st.integers(0, 2**31 - 1)
SIDES = st.integers(1, 150)


def augmenter(scale: tuple[float, float] = (0.4, 1.1), near: float = 0.5, changes: Augment = STILL) -> Augmenter:
    return Augmenter(Crop(SIZE, scale, near), changes, BACKGROUND, VOID)


def away_from_edges(mask: npt.NDArray[np.uint8], margin: int = 2) -> npt.NDArray[np.bool_]:
    """Return the pixels with equal neighbours, where interpolation mixes nothing; the border counts as an edge."""
    around = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
    border = cv2.BORDER_CONSTANT
    highest = cv2.dilate(mask, around, borderType=border, borderValue=255)
    return np.asarray(highest == cv2.erode(mask, around, borderType=border, borderValue=0))


def test_the_seed_alone_decides_the_crop() -> None:
    photo, label_map = draw_person(120, 90, seed=0)
    used, new = augmenter(changes=ALL), augmenter(changes=ALL)
    for seed in range(20):
        first = used(photo, label_map, seed)
        for again in (used(photo, label_map, seed), new(photo, label_map, seed)):
            np.testing.assert_array_equal(again[0], first[0])
            np.testing.assert_array_equal(again[1], first[1])
        new(photo, label_map, seed + 1000)  # what was made before must not matter


@given(SIDES, SIDES, SEEDS)
def test_labels_are_never_invented_and_the_size_is_always_the_same(height: int, width: int, seed: int) -> None:
    photo, label_map = draw_person(height, width, seed)
    cropped, labels = augmenter(changes=ALL)(photo, label_map, seed)
    assert (cropped.shape, cropped.dtype) == ((SIZE, SIZE, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((SIZE, SIZE), np.uint8)
    assert set(np.unique(labels)) <= {*np.unique(label_map), VOID}


@given(st.integers(64, 150), st.integers(64, 150), SEEDS)
def test_photo_and_mask_move_together(height: int, width: int, seed: int) -> None:
    photo, label_map = draw_person(height, width, seed)
    photo, label_map = augmenter(changes=MOVING)(photo, label_map, seed)
    distances = ((photo[:, :, None].astype(int) - COLORS.astype(int)) ** 2).sum(-1)
    clear = away_from_edges(label_map) & (label_map != VOID)
    agreement = distances.argmin(-1)[clear] == label_map[clear]
    assert clear.mean() > 0.1
    assert agreement.mean() > 0.995


@given(SIDES, SIDES, SEEDS, st.sampled_from([STILL, MOVING]))
def test_void_lies_outside_the_photo_and_nowhere_else(height: int, width: int, seed: int, changes: Augment) -> None:
    photo = np.full((height, width, 3), (255, 0, 0), np.uint8)
    label_map = np.full((height, width), TORSO, np.uint8)
    photo, label_map = augmenter((0.4, 1.4), changes=changes)(photo, label_map, seed)
    enlarged = SIZE // max(8, round(0.4 * max(height, width)))  # so far one pixel's colour runs into the next
    clear = away_from_edges(label_map, margin=2 + enlarged)
    red = np.abs(photo.astype(int) - (255, 0, 0)).max(-1) < 20
    assert (red == (label_map == TORSO))[clear].all()


@given(st.integers(16, 150), st.floats(0.51, 1.0), st.booleans(), st.floats(0, 1), SEEDS)
def test_a_square_that_fits_stays_inside_the_photo(
    longer: int, aspect: float, wide: bool, near: float, seed: int
) -> None:
    shorter = max(8, int(np.ceil(aspect * longer)))
    height, width = (shorter, longer) if wide else (longer, shorter)
    photo, label_map = draw_person(height, width, seed)
    _, cropped = augmenter((0.1, 0.5), near)(photo, label_map, seed)
    assert VOID not in cropped


@given(st.integers(3, 150), st.integers(3, 150), st.floats(0, 1), st.floats(0, 1), SEEDS)
def test_near_person_always_shows_one(height: int, width: int, down: float, right: float, seed: int) -> None:
    photo = np.zeros((height, width, 3), np.uint8)
    label_map = np.full((height, width), BACKGROUND, np.uint8)
    # As large as the steps of shrinking, so that it cannot fall between the pixels that are kept.
    person = 1 + int(1.1 * max(height, width)) // SIZE
    top, left = round(down * (height - person)), round(right * (width - person))
    label_map[top : top + person, left : left + person] = TORSO
    _, cropped = augmenter(near=1.0)(photo, label_map, seed)
    assert TORSO in cropped


@given(SIDES, SIDES, SEEDS)
def test_a_photo_without_a_person_works(height: int, width: int, seed: int) -> None:
    photo = np.full((height, width, 3), 40, np.uint8)
    label_map = np.full((height, width), BACKGROUND, np.uint8)
    _, cropped = augmenter(near=1.0, changes=ALL)(photo, label_map, seed)
    assert BACKGROUND in cropped or min(height, width) < 0.05 * max(height, width)


@given(SIDES, SIDES, SEEDS)
def test_a_square_with_nobody_has_no_person(height: int, width: int, seed: int) -> None:
    photo, label_map = draw_person(height, width, seed)
    without = Augmenter(Crop(SIZE, nobody=1.0), MOVING, BACKGROUND, VOID)
    _, cropped = without(photo, label_map, seed)
    assert set(np.unique(cropped)) <= {BACKGROUND, VOID}


def test_a_square_with_nobody_is_cut_from_the_photo_where_there_is_room() -> None:
    photo = np.full((100, 140, 3), (200, 30, 30), np.uint8)
    label_map = np.full((100, 140), BACKGROUND, np.uint8)
    photo[:, 60:], label_map[:, 60:] = (30, 30, 200), TORSO
    without = Augmenter(Crop(SIZE, nobody=1.0), STILL, BACKGROUND, VOID)
    for seed in range(20):
        cropped, labels = without(photo, label_map, seed)
        assert (cropped == (200, 30, 30)).all()
        assert (labels == BACKGROUND).all()


@given(st.integers(1, 100), SEEDS)
def test_a_plain_surface_has_nothing_on_it(size: int, seed: int) -> None:
    surface = plain_surface(size, np.random.default_rng(seed))
    assert (surface.shape, surface.dtype) == ((size, size, 3), np.uint8)
    if size >= 64:  # means over eighths of it run along its slope, noise aside: their second differences are small
        means = cv2.resize(surface, (8, 8), interpolation=cv2.INTER_AREA).astype(float)
        assert max(np.abs(np.diff(means, 2, axis=axis)).max() for axis in (0, 1)) < 32


def test_the_share_of_squares_with_nobody_is_as_asked() -> None:
    photo, label_map = np.zeros((100, 100, 3), np.uint8), np.full((100, 100), TORSO, np.uint8)
    some = Augmenter(Crop(SIZE, (0.4, 0.8), nobody=0.3), STILL, BACKGROUND, VOID)
    found = np.mean([TORSO not in some(photo, label_map, seed)[1] for seed in range(300)])
    assert abs(found - 0.3) < 0.08


def test_scale_decides_how_much_is_shown() -> None:
    photo, label_map = np.zeros((100, 100, 3), np.uint8), np.zeros((100, 100), np.uint8)
    label_map[:, 50:] = TORSO
    _, whole = augmenter((1.0, 1.0), 0.0)(photo, label_map, seed=0)
    assert abs((whole == TORSO).mean() - 0.5) < 0.02
    assert VOID not in whole
    _, with_margin = augmenter((2.0, 2.0), 0.0)(photo, label_map, seed=0)
    assert abs((with_margin == VOID).mean() - 0.75) < 0.03


def test_changes_are_made_independently_of_each_other() -> None:
    photo, label_map = draw_person(64, 64, seed=0)
    label_map[:, 32:] = VOID
    changer = augmenter((1.0, 1.0), 0.0, dataclasses.replace(STILL, flip=0.5, grey=0.5))
    seen = []
    for seed in range(200):
        cropped, labels = changer(photo, label_map, seed)
        seen.append((labels[0, 0] == VOID, np.ptp(cropped.astype(int), axis=-1).max() == 0))
    shares = {pair: seen.count(pair) / len(seen) for pair in set(seen)}
    assert len(shares) == 4
    assert all(0.15 < share < 0.35 for share in shares.values())


@pytest.mark.parametrize("change", ["color", "grey", "blur"])
def test_changes_of_color_leave_the_mask_alone(change: str) -> None:
    photo, label_map = draw_person(96, 80, seed=0)
    still, changing = augmenter(), augmenter(changes=dataclasses.replace(STILL, **{change: 1.0}))
    for seed in range(10):
        before, after = still(photo, label_map, seed), changing(photo, label_map, seed)
        np.testing.assert_array_equal(after[1], before[1])
        assert not np.array_equal(after[0], before[0])


def test_pasted_people_cover_what_was_there_and_nothing_else_changes() -> None:
    random = np.random.default_rng(0)
    photo, guest = random.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    label_map = random.choice([0, 2, 255], (64, 64)).astype(np.uint8)
    guest_map = np.zeros((64, 64), np.uint8)
    guest_map[20:40, 10:30] = 4
    guest_map[50:60, 50:60] = 255
    mixed, labels = paste_people(photo, label_map, guest, guest_map, background=0, void=255)
    inside, near = np.zeros((2, 64, 64), bool)
    inside[21:39, 11:29] = True
    near[19:41, 9:31] = True
    np.testing.assert_array_equal(mixed[inside], guest[inside])
    np.testing.assert_array_equal(mixed[~near], photo[~near])
    np.testing.assert_array_equal(labels, np.where(guest_map == 4, 4, label_map))


def test_crops_with_guests_are_the_same_for_the_same_seed_and_have_more_people() -> None:
    examples = [Example(str(seed), *draw_person(96, 72, seed=seed)) for seed in range(6)]
    people = {}
    for share in (0.0, 1.0):
        crops = Crops(examples, augmenter(changes=ALL), share)
        maps = [crops[index % 6, index][1] for index in range(60)]
        people[share] = float(np.mean([((labels > 0) & (labels < 255)).float().mean() for labels in maps]))
        for index in (0, 7):
            for first, again in zip(crops[0, index], crops[0, index], strict=True):
                assert torch.equal(first, again)
    assert people[1.0] > 1.2 * people[0.0]
