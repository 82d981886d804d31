"""The predecessor's squares against hand-made ones, and its figures against a count pixel by pixel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hierseg.decoding import best_paths
from hierseg.network.checkpoint import Card
from hierseg.network.model import ModelSpec
from hierseg.predictor import Predictor
from hierseg.tree import Hierarchy
from studies.predecessor.__main__ import main
from studies.predecessor.protocol import SIDE, measure, square
from tests.data import write_dataset
from tests.networks import lively
from tests.rounding import HAIR
from tests.trees import node_and_above
from train.dataset import load_examples, read_ids, split_hash


def test_a_wide_photo_is_padded_below_and_to_the_right_and_loses_its_left_eighth() -> None:
    # 500 x 375: 62 pixels right and 62 below make 562 x 437, which becomes 288 x 224; 32 are cut off on each side.
    columns = np.tile(np.arange(500) // 2, (375, 1)).astype(np.uint8)
    photo = np.stack([columns] * 3, axis=2) + 1
    colors, labels = square(photo, np.full((375, 500), 7, np.uint8))
    assert colors.shape == (SIDE, SIDE, 3)
    assert labels.shape == (SIDE, SIDE)
    # Rows: 375 / 437 of 224 are 192.2, so the first 192 show the photo and the rest is padding.
    assert (labels[:193] == 7).all() and not labels[193:].any()
    assert (colors[:191] > 0).all() and not colors[194:].any()
    # Columns: the square begins at pixel 32 * 562 / 288 = 62.4 and ends at 499.6, just before the padding on the right.
    assert colors[90, 0, 0] == pytest.approx(62.4 / 2 + 1, abs=1.5)
    assert colors[90, -2, 0] == pytest.approx((499.6 - 3) / 2 + 1, abs=1.5)  # the last is blurred with the padding


def test_a_tall_photo_is_padded_above_and_to_the_left_and_loses_its_lowest_eighth() -> None:
    rows = np.tile(np.arange(500)[:, None] // 2, (1, 375)).astype(np.uint8)
    colors, labels = square(np.stack([rows] * 3, axis=2) + 1, np.full((500, 375), 7, np.uint8))
    assert (labels[:, 32:] == 7).all() and not labels[:, :31].any()
    assert not colors[:, :31].any()
    # The square shows rows 62.4 - 62 = 0.4 to 437.6.
    assert colors[0, 90, 0] == pytest.approx(1, abs=1.5)
    assert colors[-1, 90, 0] == pytest.approx(437.6 / 2 + 1, abs=1.5)


def test_a_square_photo_is_only_scaled() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    label_map = np.random.default_rng(1).integers(0, 7, (SIDE, SIDE), np.uint8)
    for found, expected in zip(square(photo, label_map), (photo, label_map), strict=True):
        np.testing.assert_array_equal(found, expected)
    double = np.repeat(np.repeat(label_map, 2, 0), 2, 1)
    np.testing.assert_array_equal(square(np.repeat(np.repeat(photo, 2, 0), 2, 1), double)[1], label_map)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", train=1, val=2)


def test_figures_are_the_predecessors_pixel_by_pixel(tiny_spec: ModelSpec, tree: Hierarchy, data: Path) -> None:
    predictor = Predictor.of_model(lively(tiny_spec, seed=1), Card(tiny_spec, tree, "Tiny"))
    examples = load_examples(data, read_ids(data, "val"), tree)
    found = measure(predictor, examples)

    paths = [node_and_above(tree, leaf) for leaf in tree.leaves]
    ious = []
    for example in examples:
        photo, label_map = square(example.photo, example.label_map)
        (scores,) = predictor.network(photo[None])
        means = np.array([scores[path].mean(0) for path in paths])
        best = np.searchsorted(tree.leaves, best_paths(scores, tree).leaves)
        assert (np.take_along_axis(means, best[None], axis=0) >= means.max(0) - HAIR).all()  # of two alike, either
        on = np.zeros(scores.shape, bool)
        for number, path in enumerate(paths):
            on[path] |= (best == number) & (scores[path] > 0.5)
        truth = tree.node_masks(label_map)
        ious.append([(np.sum(a & b) + 1e-8) / (np.sum(a | b) + 1e-8) for a, b in zip(on, truth, strict=True)])
        assert (on != (scores > 0.5)).any()  # else rounding alone would do
    nodes = np.mean(ious, axis=0)
    assert found["photos"] == 2
    np.testing.assert_allclose(list(found["nodes"].values()), nodes, atol=1e-6)
    for level, members in tree.levels.items():
        assert found["levels"][level] == pytest.approx(nodes[list(members)].mean(), abs=1e-6)


def test_the_command_writes_figures_that_name_their_photos_and_no_folder(
    data: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tiny_checkpoint.parent)
    output = tmp_path / "figures.json"
    command = ["evaluate", tiny_checkpoint.name, "--photos", "1", "--data", data, "--json", output]
    assert main([str(part) for part in command]) == 0
    assert "1 photos, the predecessor's protocol: body 0." in capsys.readouterr().out
    content = output.read_text(encoding="utf-8")
    (figures,) = json.loads(content).values()
    assert (figures["photos"], figures["split"]) == (1, "val")
    assert figures["ids_sha256"] == split_hash(read_ids(data, "val")[:1])
    assert str(tmp_path) not in content
