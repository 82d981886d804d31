"""Tests of train.evaluate: the figures against a pixel-by-pixel twin, and the choice of the threshold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hierseg.metrics import Evaluation
from hierseg.network import checkpoint
from hierseg.network.checkpoint import Card
from hierseg.network.model import ModelSpec, build
from hierseg.predictor import Predictor
from hierseg.tree import Hierarchy
from tests.data import BACKGROUND, HEAD, VOID, write_dataset
from tests.rounding import HAIR
from train.__main__ import main
from train.dataset import Example, load_examples, read_ids
from train.evaluate import (
    evaluate,
    false_people,
    squares_beside_people,
    table,
)
from train.report import TABLES


def lineage(tree: Hierarchy, label: int) -> set[str]:
    """Return the names of a label's node and its ancestors, by walking up."""
    names: set[str] = set()
    node = tree.labels.index(label) if label in tree.labels else -1
    while node >= 0:
        names.add(tree.nodes[node])
        node = tree.parents[node]
    return names


def measure_by_hand(predictor: Predictor, examples: list[Example]) -> dict[str, Any]:
    """Compute IoU and violations from sets of pixels, one pixel at a time."""
    tree = predictor.card.hierarchy
    paths = {tree.labels[leaf]: [tree.index(name) for name in lineage(tree, tree.labels[leaf])] for leaf in tree.leaves}
    classes = [*tree.nodes, "background"]
    inter, union = dict.fromkeys(classes, 0), dict.fromkeys(classes, 0)
    per_photo = {name: [] for name in tree.nodes}
    broken = pixels = 0
    shares = []
    for example in examples:
        prediction = predictor.predict(example.photo)
        scores, labels = prediction.scores, prediction.labels
        both, either = dict.fromkeys(tree.nodes, 0), dict.fromkeys(tree.nodes, 0)
        broken_here = person = 0
        for row, column in np.ndindex(example.label_map.shape):
            here = scores[:, row, column]
            means = {label: here[path].mean() for label, path in paths.items()}
            chosen = int(labels[row, column])
            # Where two paths all but tie, or one and the threshold, rounding decides.
            if chosen == tree.background:
                assert max(means.values()) <= predictor.inference.threshold + HAIR
            else:
                assert means[chosen] >= max(*means.values(), predictor.inference.threshold) - HAIR
            predicted = lineage(tree, chosen) or {"background"}
            rounded = {name for name, score in zip(tree.nodes, here, strict=True) if score > 0.5}
            pixels += 1
            parent = {name: tree.nodes[tree.parents[tree.index(name)]] for name in rounded - {"body"}}
            breaks = any(above not in rounded for above in parent.values())
            broken_here += breaks
            person += breaks or chosen != tree.background
            label = int(example.label_map[row, column])
            if label == VOID:
                continue
            truth = lineage(tree, label) or {"background"}
            for name in truth & predicted:
                inter[name] += 1
            for name in truth | predicted:
                union[name] += 1
            for name in truth & rounded:
                both[name] += 1
            for name in (truth | rounded) - {"background"}:
                either[name] += 1
        broken += broken_here
        shares.append(broken_here / person)
        for name in tree.nodes:
            per_photo[name].append((both[name] + 1e-8) / (either[name] + 1e-8))
    return {
        "dataset": {name: inter[name] / union[name] if union[name] else float("nan") for name in classes},
        "predecessor": {name: float(np.mean(values)) for name, values in per_photo.items()},
        "violations": broken / pixels,
        "violations_of_person": {"median": float(np.median(shares)), "mean": float(np.mean(shares))},
    }


LEVELS = {
    "body": ["body"],
    "upper-lower": ["upper", "lower"],
    "parts": ["head", "torso", "upper_arm", "lower_arm", "upper_leg", "lower_leg"],
}


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    folder = write_dataset(tmp_path_factory.mktemp("data"), train=1, val=2)
    examples = load_examples(folder, read_ids(folder, "val"), Hierarchy.default())
    examples[0].label_map[:20, :30] = VOID
    return examples


def test_figures_are_those_counted_pixel_by_pixel(
    tiny_spec: ModelSpec, tree: Hierarchy, examples: list[Example]
) -> None:
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = build(tiny_spec).eval()
        # Random weights leave all scores near 0.5; spread them, so that every kind of right and wrong occurs.
        model.segmentation_head[0].weight *= 40
    predictor = Predictor.of_model(model, Card(tiny_spec, tree, "Tiny")).using(threshold=0.55)
    summary = evaluate(predictor, examples, progress=False).summary()
    expected = measure_by_hand(predictor, examples)
    nodes, of_predecessor = summary["dataset_iou"]["nodes"], summary["predecessor_iou"]
    assert summary["photos"] == len(examples)
    for name in tree.nodes:
        assert nodes[name] == pytest.approx(expected["dataset"][name], nan_ok=True)
        assert of_predecessor["nodes"][name] == pytest.approx(expected["predecessor"][name])
    background = expected["dataset"]["background"]
    assert summary["dataset_iou"]["background"] == pytest.approx(background)
    for level, members in LEVELS.items():
        values = [expected["dataset"][name] for name in members]
        assert summary["dataset_iou"]["levels"][level] == pytest.approx(np.nanmean(values))
        with_background = summary["dataset_iou"]["levels_with_background"][level]
        assert with_background == pytest.approx(np.nanmean([*values, background]))
        mean = np.mean([expected["predecessor"][name] for name in members])
        assert of_predecessor["levels"][level] == pytest.approx(mean)
    assert summary["violations"] == pytest.approx(expected["violations"])
    assert 0 < summary["violations"] < 1
    of_person = summary["violations_of_person"]
    assert of_person.pop("photos") == len(examples)
    assert of_person == pytest.approx(expected["violations_of_person"])
    assert len({round(value, 6) for value in nodes.values()}) > 4


def test_input_size_is_the_one_asked_for(tiny_checkpoint: Path, examples: list[Example]) -> None:
    model, card = checkpoint.load(tiny_checkpoint)
    seen: list[torch.Size] = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    predictor = Predictor.of_model(model, card).using(zoom=None)
    evaluate(predictor, examples, progress=False)
    evaluate(predictor.using(input_size=128), examples, progress=False)
    longest = [max(shape[-2:]) for shape in seen]
    assert longest == [64] * len(examples) + [128] * len(examples)


class Brightness(nn.Module):
    """Scores each node with the pixel's brightness, 0 to 1."""

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 9, H, W)."""
        brightness = images[:, :1] * 0.5 + 0.5  # undoes the normalisation
        return brightness.clamp(1e-6, 1 - 1e-6).logit().expand(-1, 9, -1, -1)


def test_the_report_of_one_checkpoint_has_every_table(tiny_checkpoint: Path, examples: list[Example]) -> None:
    predictor = Predictor(tiny_checkpoint, "cpu")
    summary = evaluate(predictor, examples, progress=False).summary()
    summary["nobody"] = false_people(predictor, squares_beside_people(examples, BACKGROUND))
    heading, *tables = table("Tiny", summary).split("\n\n")
    assert heading == f"Tiny: {len(examples)} photos, photo resolution"
    # What a checkpoint promises stands in its card, and this one promises nothing.
    assert tables == [make({"Tiny": summary}) for name, make in TABLES.items() if name != "risks"]


def test_each_pass_counts_unless_it_is_left_out(tiny_checkpoint: Path, examples: list[Example]) -> None:
    predictor = Predictor(tiny_checkpoint, "cpu")
    for used in (predictor, predictor.using(mirror=False, zoom=None)):
        evaluation = Evaluation(predictor.card.hierarchy)
        for example in examples:
            found = used.predict(example.photo)
            evaluation.add(found.scores, found.labels, example.label_map)
        assert evaluate(used, examples, progress=False).summary() == evaluation.summary()


@given(st.integers(90, 160), st.integers(90, 200), st.integers(0, 2**31 - 1))
def test_the_square_beside_people_is_the_largest_there_is(height: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    label_map = np.full((height, width), BACKGROUND, np.uint8)
    for _ in range(random.integers(0, 3)):
        top, left = random.integers(height), random.integers(width)
        label_map[top : top + 20, left : left + 20] = random.choice([HEAD, VOID])
    photo = np.where(label_map == BACKGROUND, 10, 200).astype(np.uint8)[..., None].repeat(3, axis=2)
    found = list(squares_beside_people([Example("drawn", photo, label_map)], BACKGROUND))
    sums = np.pad((label_map != BACKGROUND).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    largest = max(
        side
        for side in range(1, min(height, width) + 1, 2)
        if (sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side] == 0).any()
    )
    assert [square.shape for square in found] == ([(largest, largest, 3)] if largest >= 96 else [])
    assert all((square == 10).all() for square in found)


def test_false_people_are_counted_beside_people_only(tree: Hierarchy) -> None:
    # Brightness is the score. Left of the person it is dark, and in one photo there is a bright spot.
    label_map = np.full((120, 240), BACKGROUND, np.uint8)
    label_map[:, 125:] = HEAD
    dark = np.full((120, 240, 3), 20, np.uint8)
    dark[:, 125:] = 250
    dark[::8, ::8] += 60
    spotted = dark.copy()
    spotted[40:80, 40:80] = 255
    full = Example("full", dark, np.full_like(label_map, HEAD))
    predictor = Predictor.of_model(Brightness(), Card(ModelSpec(input_size=128), tree, "Brightness"))
    examples = [Example("dark", dark, label_map), Example("spotted", spotted, label_map), full]
    found = false_people(predictor, squares_beside_people(examples, BACKGROUND))
    assert (found["photos"], found["somebody"]) == (2, 0.5)
    assert found["pixels"] == pytest.approx(40 * 40 / 119**2 / 2, rel=0.1)
    assert false_people(predictor, squares_beside_people([full], BACKGROUND)) == {
        "photos": 0,
        "somebody": None,
        "pixels": None,
    }


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--photos", "0"], "--photos: must be at least 1, not 0"),
        (["--input-size", "-320"], "--input-size: must be at least 1, not -320"),
        (["--photos", "few"], "--photos: invalid whole number value: 'few'"),
    ],
)
def test_an_argument_out_of_range_is_refused_with_its_range(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", "bce", *arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
