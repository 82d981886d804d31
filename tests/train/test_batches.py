"""Tests of train.batches: shares of sources, the order of their photos, and plans that resume at any step."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given
from hypothesis import strategies as st

from tests.data import BACKGROUND, VOID, draw_person
from train.augment import Augmenter
from train.batches import Batches, Crops
from train.dataset import Example
from train.recipe import Augment, Crop

STILL = Augment(flip=0, color=0, grey=0, blur=0)


@st.composite
def sources(draw: st.DrawFn) -> tuple[list[int], list[float]]:
    count = draw(st.integers(1, 4))
    photos = draw(st.lists(st.integers(1, 20), min_size=count, max_size=count))
    shares = draw(st.lists(st.sampled_from([0.02, 0.3, 1.0, 5.0]), min_size=count, max_size=count))
    return photos, shares


@given(sources(), st.integers(1, 6), st.integers(0, 9))
def test_each_source_gives_its_share_of_an_epoch(
    source: tuple[list[int], list[float]], batch_size: int, seed: int
) -> None:
    photos, shares = source
    plan = Batches(photos, shares, 1, 0, 2 * sum(photos), seed)  # batches of 1, so that no crop is left out
    starts = np.cumsum(photos)
    for epoch in range(2):
        batches = list(plan)[epoch * sum(photos) : (epoch + 1) * sum(photos)]
        given_by = Counter(int(np.searchsorted(starts, photo, side="right")) for ((photo, _),) in batches)
        for index, share in enumerate(shares):
            wanted = sum(photos) * share / sum(shares)
            assert abs(given_by[index] - wanted) < 1


@given(sources(), st.integers(0, 9))
def test_a_source_shows_all_its_photos_before_one_comes_again(source: tuple[list[int], list[float]], seed: int) -> None:
    photos, shares = source
    shown = [photo for ((photo, _),) in Batches(photos, shares, 1, 0, 3 * sum(photos), seed)]
    start = 0
    for count in photos:
        own = [photo for photo in shown if start <= photo < start + count]
        for first in range(0, len(own), count):
            turn = own[first : first + count]
            assert len(set(turn)) == len(turn)
        start += count


@given(sources(), st.integers(1, 6), st.integers(0, 9), st.data())
def test_a_plan_of_several_sources_goes_on_where_it_stopped(
    source: tuple[list[int], list[float]], batch_size: int, seed: int, data: st.DataObject
) -> None:
    photos, shares = source
    last = 3 * (sum(photos) // batch_size)
    first = data.draw(st.integers(0, last))
    whole = list(Batches(photos, shares, batch_size, 0, last, seed))
    assert list(Batches(photos, shares, batch_size, first, last, seed)) == whole[first:]


@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 3), st.integers(0, 9))
def test_every_photo_is_shown_once_an_epoch(photos: int, batch_size: int, epochs: int, seed: int) -> None:
    steps = photos // batch_size
    batches = list(Batches([photos], [1.0], batch_size, 0, epochs * steps, seed))
    assert len(batches) == len(Batches([photos], [1.0], batch_size, 0, epochs * steps, seed)) == epochs * steps
    for epoch in range(epochs):
        shown = [photo for batch in batches[epoch * steps : (epoch + 1) * steps] for photo, _ in batch]
        assert len(set(shown)) == len(shown) == steps * batch_size
        assert set(shown) <= set(range(photos))


def test_order_and_crops_change_from_epoch_to_epoch_and_seed_to_seed() -> None:
    plan = list(Batches([32], [1.0], 8, 0, 8, seed=0))
    assert [photo for batch in plan[:4] for photo, _ in batch] != [photo for batch in plan[4:] for photo, _ in batch]
    assert len({seed for batch in plan for _, seed in batch}) == 64
    assert list(Batches([32], [1.0], 8, 0, 8, seed=1)) != plan


def test_processes_share_each_batch_without_overlap() -> None:
    plan = Batches([20], [1.0], 4, 0, 10, seed=0)
    shares = [list(BatchSamplerShard(plan, 2, rank, split_batches=True, even_batches=False)) for rank in range(2)]
    assert [first + second for first, second in zip(*shares, strict=True)] == list(plan)
    assert all(len(share) == 2 for shard in shares for share in shard)


@given(st.integers(1, 20), st.integers(0, 9))
def test_shares_count_up_to_a_common_factor(photos: int, seed: int) -> None:
    plans = [list(Batches([photos, 7], [share, 2 * share], 2, 0, 20, seed)) for share in (0.25, 1.0, 3.0)]
    assert plans[0] == plans[1] == plans[2]


def test_people_are_pasted_over_photos_of_nobody_and_never_come_from_them() -> None:
    random = np.random.default_rng(0)
    nobody = [
        Example(f"nobody {number}", random.integers(0, 256, (72, 96, 3), np.uint8), np.zeros((72, 96), np.uint8))
        for number in range(3)
    ]
    people = [Example(str(seed), *draw_person(96, 72, seed=seed)) for seed in range(3)]
    augmenter = Augmenter(Crop(64, (0.8, 1.0), 1.0), STILL, BACKGROUND, VOID)
    crops = Crops([*people, *nobody], augmenter, paste=1.0, guests=[0, 1, 2])
    assert len(crops) == 6
    for index in range(3, 6):
        for seed in range(5):
            _, label_map = crops[index, seed]
            assert ((label_map != BACKGROUND) & (label_map != VOID)).any()
    from_nobody = Crops([*people, *nobody], augmenter, paste=1.0, guests=[3, 4, 5])
    plain = Crops([*people, *nobody], augmenter)
    for seed in range(5):
        assert (from_nobody[0, seed][1] == plain[0, seed][1]).all()


def test_void_is_no_person_to_place_a_crop_at() -> None:
    label_map = np.zeros((200, 200), np.uint8)
    label_map[2:6, 2:6] = VOID
    photo = np.zeros((200, 200, 3), np.uint8)
    augmenter = Augmenter(Crop(32, (0.1, 0.1), near_person=1.0), STILL, BACKGROUND, VOID)
    held = [bool((augmenter(photo, label_map, seed)[1] == VOID).any()) for seed in range(50)]
    assert sum(held) < 10
    label_map[100:104, 100:104] = 2
    assert all((augmenter(photo, label_map, seed)[1] == 2).any() for seed in range(50))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_photos_may_be_guests_where_none_are_named(share: float) -> None:
    people = [Example(str(seed), *draw_person(96, 72, seed=seed)) for seed in range(4)]
    augmenter = Augmenter(Crop(64), STILL, BACKGROUND, VOID)
    first, second = Crops(people, augmenter, share), Crops(people, augmenter, share, guests=range(4))
    for seed in range(5):
        assert all((one == other).all() for one, other in zip(first[0, seed], second[0, seed], strict=True))
