"""What a grid leaves behind, that it goes on where it was, and its figures against `evaluate`."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import studies.losses.sweep
from hierseg.decoding import decode
from hierseg.losses import ACTIVATION_OF
from hierseg.losses import LOSSES as ALL_LOSSES
from hierseg.metrics import calibration_error
from hierseg.network import checkpoint
from hierseg.network.checkpoint import Card
from hierseg.network.model import ModelSpec
from hierseg.predictor import Predictor
from hierseg.tree import Hierarchy
from studies.losses.__main__ import main
from studies.losses.rows import ROWS
from studies.losses.statistics import figures, read_table
from studies.losses.sweep import DECODINGS, THRESHOLDS, SweepError, choose_thresholds, measure, plan, sweep
from tests import REPOSITORY
from tests.data import VOID, write_dataset
from tests.networks import head_of, tiny_recipe, warmed_up
from tests.rounding import firm
from tests.trees import hierarchies, is_leaf, node_and_above, score_maps
from train.dataset import Example, load_examples, read_ids
from train.evaluate import evaluate
from train.fit import TrainingError
from train.recipe import Optimizer, Recipe, Triplet

LOSSES = ["focal_tree_min", "leaf_cross_entropy"]
NAMES = {"focal_tree_min-0", "leaf_cross_entropy-0"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), train=6, val=3)


@pytest.fixture(scope="module")
def recipe(tiny_spec: ModelSpec) -> Recipe:
    return tiny_recipe(tiny_spec, epochs=8, batch_size=3, validation_photos=1, threshold_photos=0)


@pytest.fixture(scope="module")
def grid(recipe: Recipe, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a grid that nothing disturbed, with `runs` and `out`."""
    folder = tmp_path_factory.mktemp("grid")
    sweep(recipe, LOSSES, [0], data, folder / "runs", folder / "out")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read(grid: Path, name: str) -> dict[str, Any]:
    return json.loads((grid / "out" / f"{name}.json").read_text(encoding="utf-8"))


def copy_of(grid: Path, folder: Path) -> Path:
    """Copy a grid's results, to be harmed."""
    for name, content in contents(grid / "out").items():
        checkpoint.write_atomically(folder / name, content)
    return folder


# What is left behind


def test_every_run_leaves_its_figures_and_its_counts(grid: Path, tree: Hierarchy) -> None:
    assert set(contents(grid / "out")) == {f"{name}.{ending}" for name in NAMES for ending in ("json", "npz")}
    for name in NAMES:
        result = read(grid, name)
        again = figures(read_table(grid / "out" / f"{name}.npz"), tree)
        assert list(result["figures"]) == list(again)
        for key, value in result["figures"].items():
            assert (np.nan if value is None else value) == pytest.approx(again[key][0], abs=1e-6, nan_ok=True)
        assert set(result["thresholds"]) == set(DECODINGS)
        assert set(result["thresholds"].values()) <= set(THRESHOLDS)
        for level in tree.levels:
            pixels, _, right = np.array(result["reliability"][level], float).T
            counted = pixels > 0
            assert 0 < (right[counted] * pixels[counted]).sum() < pixels.sum() == 2 * 96 * 72 + 64 * 96


def test_runs_differ_in_loss_activation_and_seed_alone(grid: Path, recipe: Recipe) -> None:
    for name in NAMES:
        loss, seed = name.rsplit("-", 1)
        model = dataclasses.replace(recipe.model, activation=ACTIVATION_OF[loss])
        expected = dataclasses.replace(recipe, loss=loss, seed=int(seed), model=model).to_dict()
        assert read(grid, name)["recipe"] == expected
        assert json.loads((grid / "runs" / name / "recipe.json").read_text(encoding="utf-8")) == expected


def test_every_loss_is_a_row_and_one_row_has_triplets(recipe: Recipe) -> None:
    plans = {row: plan(dataclasses.replace(recipe, triplet=Triplet(pixels=3)), row, seed=4) for row in ROWS}
    assert set(plans) - set(ALL_LOSSES) == {"focal_tree_min_triplet"}
    for row, own in plans.items():
        assert own.seed == 4
        assert (own.loss, own.triplet) == ((row, None) if row in ALL_LOSSES else ("focal_tree_min", Triplet()))
    assert plans["focal_tree_min"] == dataclasses.replace(plans["focal_tree_min_triplet"], triplet=None)


def test_the_row_with_triplets_is_trained_with_them_and_says_so(recipe: Recipe, data: Path, tmp_path: Path) -> None:
    row = "focal_tree_min_triplet"
    short = dataclasses.replace(recipe, epochs=1)
    sweep(short, [row], [0], data, tmp_path / "runs", tmp_path / "out")
    assert read(tmp_path, f"{row}-0")["recipe"]["triplet"] == {"weight": 0.5, "pixels": 200, "channels": 256}
    assert "head" in torch.load(tmp_path / "runs" / f"{row}-0" / "state.pt", weights_only=True)
    # Under the name of the row without, it is a result of another recipe.
    for ending in ("json", "npz"):
        (tmp_path / "out" / f"{row}-0.{ending}").rename(tmp_path / "out" / f"focal_tree_min-0.{ending}")
    with pytest.raises(SweepError, match=r"made with another recipe\.triplet\."):
        sweep(short, ["focal_tree_min"], [0], data, tmp_path / "runs", tmp_path / "out")


def test_results_name_no_folder_of_this_machine(grid: Path, data: Path) -> None:
    for content in contents(grid / "out").values():
        assert str(grid).encode() not in content
        assert str(data).encode() not in content


def test_what_is_measured_is_the_last_epoch_with_thresholds_of_training_photos(
    grid: Path, data: Path, tree: Hierarchy
) -> None:
    for name in NAMES:
        predictor = Predictor(grid / "runs" / name / "last.safetensors", "cpu").using(mirror=False, zoom=None)
        training, validation = (load_examples(data, read_ids(data, split), tree) for split in ("train", "val"))
        thresholds = read(grid, name)["thresholds"]
        assert thresholds == choose_thresholds(predictor, training)
        table, _ = measure(predictor, validation, thresholds)
        found = read_table(grid / "out" / f"{name}.npz")
        for key, values in table.items():
            np.testing.assert_array_equal(found[key], values)


# Going on


def test_what_is_done_is_skipped(
    grid: Path, recipe: Recipe, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(studies.losses.sweep, "fit", lambda *_: pytest.fail("trained again"))
    before = contents(grid / "out")
    sweep(recipe, LOSSES, [0], data, grid / "runs", grid / "out")
    assert capsys.readouterr().out == "2 of 2 runs are done.\n"
    assert contents(grid / "out") == before


@pytest.mark.parametrize("lost", ["npz", "json"])
def test_half_a_result_is_measured_again_without_training(
    lost: str, grid: Path, recipe: Recipe, data: Path, tmp_path: Path
) -> None:
    out = copy_of(grid, tmp_path)
    (out / f"leaf_cross_entropy-0.{lost}").unlink()
    state = (grid / "runs" / "leaf_cross_entropy-0" / "state.pt").read_bytes()
    sweep(recipe, LOSSES, [0], data, grid / "runs", out)
    assert contents(out) == contents(grid / "out")
    assert (grid / "runs" / "leaf_cross_entropy-0" / "state.pt").read_bytes() == state


def test_a_result_of_another_recipe_or_other_photos_is_named_and_kept(
    grid: Path, recipe: Recipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies.losses.sweep, "fit", lambda *_: pytest.fail("trained"))
    before = contents(grid / "out")
    other = dataclasses.replace(recipe, optimizer=Optimizer(lr=0.5), epochs=2)
    with pytest.raises(
        SweepError, match=r"focal_tree_min-0\.json was made with another recipe\.optimizer, recipe\.epochs\."
    ):
        sweep(other, LOSSES, [0], data, grid / "runs", grid / "out")
    fewer = write_dataset(tmp_path, train=6, val=2)
    with pytest.raises(SweepError, match=r"json was made with another data\.photos, data\.val_ids_sha256\."):
        sweep(recipe, LOSSES, [0], fewer, grid / "runs", grid / "out")
    assert contents(grid / "out") == before


def test_a_result_outlives_a_new_key_of_recipes_that_has_its_default(
    grid: Path, recipe: Recipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copy_of(grid, tmp_path)
    path = out / "focal_tree_min-0.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    del result["recipe"]["augment"]["paste"]
    path.write_text(json.dumps(result), encoding="utf-8")
    monkeypatch.setattr(studies.losses.sweep, "fit", lambda *_: pytest.fail("trained"))
    sweep(recipe, LOSSES, [0], data, grid / "runs", out)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"recipe": {"lose": "bce"}}', '{"recipe": {"loss": "bce"}}'])
def test_a_damaged_result_is_named(content: str, grid: Path, recipe: Recipe, data: Path, tmp_path: Path) -> None:
    out = copy_of(grid, tmp_path)
    (out / "focal_tree_min-0.json").write_text(content, encoding="utf-8")
    with pytest.raises(SweepError, match=r"focal_tree_min-0\.json is damaged .*Delete it"):
        sweep(recipe, LOSSES, [0], data, grid / "runs", out)


def test_a_run_that_fails_is_named_after_the_others_are_done(
    grid: Path, recipe: Recipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = studies.losses.sweep.fit

    def failing(recipe: Recipe, data: Path, run: Path) -> Path:
        if recipe.loss == LOSSES[0]:
            raise TrainingError("Step 3 has the loss nan.")
        return fit(recipe, data, run)

    monkeypatch.setattr(studies.losses.sweep, "fit", failing)
    with pytest.raises(SweepError, match=r"^focal_tree_min-0 could not be trained"):
        sweep(recipe, LOSSES, [0], data, grid / "runs", tmp_path)
    expected = contents(grid / "out")
    assert contents(tmp_path) == {name: expected[name] for name in expected if name.startswith(LOSSES[1])}


def test_every_committed_result_has_a_recipe_that_can_be_read_and_is_that_of_its_row() -> None:
    shared = Recipe.from_yaml(REPOSITORY / "studies" / "losses" / "grid.yaml")
    results = sorted((REPOSITORY / "studies" / "losses" / "results").glob("*.json"))
    assert {path.stem.rpartition("-")[0] for path in results} == set(ROWS)
    for path in results:
        row, _, seed = path.stem.rpartition("-")
        stored = json.loads(path.read_text(encoding="utf-8"))["recipe"]
        assert Recipe.from_dict(stored, path.name) == plan(shared, row, int(seed))


def test_the_command_says_what_is_wrong(
    grid: Path, recipe: Recipe, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump({**recipe.to_dict(), "epochs": 3}), encoding="utf-8")
    command = ["sweep", "--recipe", file, "--data", data, "--runs", grid / "runs", "--out", grid / "out"]
    assert main([*map(str, command), "--seeds", "0"]) == 1
    said = capsys.readouterr().err
    assert re.match(r"error: .*focal_tree_min-0\.json was made with another recipe\.epochs", said)
    assert main(["sweep", "--recipe", str(file), "--data", str(tmp_path)]) == 1
    assert "train_id.txt cannot be read" in capsys.readouterr().err


# Measuring


@pytest.fixture(scope="module")
def examples(data: Path, tree: Hierarchy) -> list[Example]:
    examples = load_examples(data, read_ids(data, "val"), tree)
    examples[0].label_map[:20, :30] = VOID
    return examples


@pytest.fixture(scope="module", params=["sigmoid", "level_softmax", "leaf_softmax"])
def network(request: pytest.FixtureRequest, tiny_spec: ModelSpec, tree: Hierarchy) -> tuple[nn.Module, Card]:
    """A network with random weights whose scores spread, so that every kind of right and wrong occurs."""
    spec = dataclasses.replace(tiny_spec, activation=request.param)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        model, _ = warmed_up(spec)
        head = head_of(model)
        head.weight.copy_(2 * torch.randn_like(head.weight) * head.weight[0].numel() ** -0.5)
    return Predictor.of_model(model, Card(spec, tree, "Tiny")).using(mirror=False, zoom=None)


def test_a_measured_network_has_the_figures_that_evaluate_gives_it(
    network: Predictor, examples: list[Example], tree: Hierarchy
) -> None:
    thresholds = {"nodes": 0.4, "path": 0.35, "flat": 0.5}
    table, bins = measure(network, examples, thresholds)
    found = {key: values[0] for key, values in figures(table, tree).items()}
    summary = evaluate(network.using(threshold=0.35), examples, progress=False).summary()
    # Decoded from scores here and from means of paths there: where two paths all but tie, either may come out.
    scores = [network.predict(each.photo).scores for each in examples]
    ties = sum(np.count_nonzero(~firm(each, tree, 0.35)) for each in scores)
    assert ties < 5
    assert found["violations"] == pytest.approx(summary["violations"])
    errors = calibration_error(bins, tree)["all_pixels"]
    for level in tree.levels:
        for value, expected in (
            (found[f"path/iou/{level}"], summary["dataset_iou"]["levels"][level]),
            (errors[level], summary["calibration_error"]["all_pixels"][level]),
        ):
            assert value == pytest.approx(expected, abs=1e-3 * ties + 1e-6)
        assert found[f"predecessor/photo_iou/{level}"] == pytest.approx(summary["predecessor_iou"]["levels"][level])
    assert len({round(found[f"{name}/iou/parts"], 6) for name in ("predecessor", *DECODINGS)}) == 4


def test_the_thresholds_chosen_are_those_of_the_highest_iou(
    network: Predictor, examples: list[Example], tree: Hierarchy
) -> None:
    means: dict[str, dict[float, float]] = {"nodes": {}, "path": {}}
    for threshold in THRESHOLDS:
        table, _ = measure(network, examples, {"nodes": threshold, "path": threshold})
        found = figures(table, tree)
        for name, values in means.items():
            values[threshold] = np.mean([found[f"{name}/iou/{level}"][0] for level in tree.levels])
    chosen = choose_thresholds(network, examples)
    assert chosen == {
        name: max(means[name], key=means[name].__getitem__) if name in means else 0.5 for name in DECODINGS
    }


@given(st.data())
def test_every_decoding_is_that_of_its_rule(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    scores = data.draw(score_maps(tree))
    threshold = data.draw(st.sampled_from(THRESHOLDS))
    masks = {name: strengths(scores, tree) > threshold for name, strengths in DECODINGS.items()}
    assert np.array_equal(masks["nodes"], scores > threshold)
    assert np.array_equal(masks["path"], tree.node_masks(decode(scores, tree, threshold).labels))
    for row, column in np.ndindex(scores.shape[1:]):
        here = scores[:, row, column]
        leaf = max((node for node in range(len(tree)) if is_leaf(tree, node)), key=lambda node: here[node])
        background = 1 - max(here[node] for node, parent in enumerate(tree.parents) if parent < 0)
        expected = set(node_and_above(tree, leaf)) if here[leaf] > background else set()
        assert set(np.flatnonzero(masks["flat"][:, row, column])) == expected
