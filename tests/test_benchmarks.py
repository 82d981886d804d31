"""The benchmarks measure what they say; `python -m benchmarks` prints the results, which no test checks."""

from __future__ import annotations

import numpy as np

from benchmarks.photo import _decoded_in_a_loop, masks, photo_of
from benchmarks.timing import Row, interleaved, machine, table
from hierseg.decoding import decode
from hierseg.photo import open_photo
from hierseg.predictor import Predictor
from hierseg.tree import Hierarchy
from hierseg.visualize import overlay
from studies.predecessor.pipeline import Pipeline


def test_calls_take_turns() -> None:
    made: list[str] = []
    found = interleaved({name: lambda name=name: made.append(name) for name in "abc"}, rounds=4)
    assert made == list("abc") * 5  # the first round warms up
    assert set(found) == set("abc") and min(found.values()) >= 0


def test_a_missed_target_is_named() -> None:
    rows = [
        Row.at_most("memory", 3.0, 2.0),
        Row.at_most("time", 2.0, 2.0),
        Row.at_least("speed", 9.9, 10),
        Row.at_least("share", 0.95, 0.9, "{:.0%}"),
        Row("fact", "7"),
    ]
    assert [row.met for row in rows] == [False, True, False, True, None]
    lines = table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert lines[2] == "| memory | 3.00x | at most 2.00x | **no** |"
    assert lines[-1] == "| fact | 7 |  |  |"
    assert "cores" in machine()


def test_photos_have_the_size_that_is_asked_for() -> None:
    for megapixels in (0.2, 1, 4):
        height, width, _ = open_photo(photo_of(megapixels)).shape
        assert abs(height * width / 1e6 - megapixels) < 0.01 * megapixels
        assert abs(width / height - 4 / 3) < 0.01


def test_both_pipelines_give_the_photo_with_something_over_it(tree: Hierarchy) -> None:
    data = photo_of(0.2)
    photo = open_photo(data)
    predictor = Predictor("bce")
    (ours,) = masks({"bce": predictor}, data)
    assert np.array_equal(ours, overlay(photo, predictor.predict(photo).labels, tree))
    predecessors = Pipeline()(data)
    assert ours.shape == predecessors.shape == photo.shape


def test_the_loop_decodes_like_the_arrays(tree: Hierarchy) -> None:
    scores = np.random.default_rng(0).random((9, 20, 30), dtype=np.float32)
    assert np.array_equal(_decoded_in_a_loop(scores, tree), decode(scores, tree).labels)
