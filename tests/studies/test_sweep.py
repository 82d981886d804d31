"""What a grid leaves behind, that it goes on where it was, and its figures against `evaluate`."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

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
from studies.losses.report import Comparison, figures_of, tables
from studies.losses.rows import FIRST, ROWS, TITLES, plan
from studies.losses.statistics import figures, read_table
from studies.losses.steps import ALL, STEPS, listed, minutes, within
from studies.losses.sweep import (
    THRESHOLDS,
    SweepError,
    choose_certainty,
    choose_threshold,
    domain_ids,
    measure,
    results,
    sweep,
)
from tests import REPOSITORY
from tests.data import BACKGROUND, VOID, draw_person, write_dataset, write_example, write_ids
from tests.networks import lively, tiny_recipe
from train.dataset import Example, load_examples, read_ids
from train.evaluate import evaluate
from train.fit import TrainingError
from train.recipe import Optimizer, Recipe, Triplet
from train.risk import outcomes

LOSSES = ["focal_tree_min", "leaf_cross_entropy"]
RUNS = [(loss, 0) for loss in LOSSES]
NAMES = {"focal_tree_min-0", "leaf_cross_entropy-0"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), train=6, val=3)


@pytest.fixture(scope="module")
def extra(tmp_path_factory: pytest.TempPathFactory, tree: Hierarchy) -> Path:
    """A folder of two data folders: one whose labels stop at the body, without a validation list, and one of nobody."""
    folder = tmp_path_factory.mktemp("extra")
    ids = [f"street_{number}" for number in range(30)]
    for number, name in enumerate(ids):
        photo, labels = draw_person(48, 64, seed=5000 + number)
        write_example(folder / "street", name, photo, np.where(labels == BACKGROUND, labels, tree.labels[0]))
    write_ids(folder / "street", "train", ids)
    write_dataset(folder / "nobody", train=1, val=2)
    shutil.rmtree(folder / "nobody" / "gt_masks")
    (folder / "unfinished").mkdir()
    return folder


@pytest.fixture(scope="module")
def recipe(tiny_spec: ModelSpec) -> Recipe:
    return tiny_recipe(tiny_spec, epochs=8, batch_size=3, validation_photos=1, threshold_photos=0)


@pytest.fixture(scope="module")
def grid(recipe: Recipe, data: Path, extra: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a grid that nothing disturbed, with `runs` and `out`."""
    folder = tmp_path_factory.mktemp("grid")
    sweep(recipe, RUNS, data, extra, folder / "runs", folder / "out")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read(grid: Path, name: str) -> dict[str, Any]:
    return json.loads((grid / "out" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def out(grid: Path, tmp_path: Path) -> Path:
    """A copy of the grid's results, to be harmed."""
    return Path(shutil.copytree(grid / "out", tmp_path / "out"))


@pytest.fixture
def again(grid: Path, recipe: Recipe, data: Path, extra: Path) -> Callable[..., None]:
    """Sweeps once more, with the grid's weights."""

    def sweep_again(out: Path, recipe: Recipe = recipe, data: Path = data) -> None:
        sweep(recipe, RUNS, data, extra, grid / "runs", out)

    return sweep_again


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where anything is trained."""
    monkeypatch.setattr(studies.losses.sweep, "fit", lambda *_: pytest.fail("trained again"))


# What is left behind


def test_every_run_leaves_its_figures_and_its_counts(grid: Path, tree: Hierarchy) -> None:
    assert set(contents(grid / "out")) == {f"{name}.{ending}" for name in NAMES for ending in ("json", "npz")}
    for name in NAMES:
        result = read(grid, name)
        again = figures(read_table(grid / "out" / f"{name}.npz"), tree)
        assert list(result["figures"]) == list(again)
        for key, value in result["figures"].items():
            assert (np.nan if value is None else value) == pytest.approx(again[key][0], abs=1e-6, nan_ok=True)
        assert result["threshold"] in THRESHOLDS
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


def test_every_loss_is_a_row_and_every_row_changes_what_it_says_and_nothing_else() -> None:
    shared = Recipe.from_yaml(REPOSITORY / "studies" / "losses" / "grid.yaml")
    assert set(ALL_LOSSES) <= ROWS.keys() == TITLES.keys() and len(set(TITLES.values())) == len(TITLES)
    for row, changes in ROWS.items():
        own, usual = plan(shared, row, seed=4).to_dict(), shared.to_dict()
        assert Recipe.from_dict(own, row) == plan(shared, row, seed=4)
        different = {key for key in own | usual if own.get(key) != usual.get(key)} - {"model"}
        assert different == ({"seed", *changes} if own["loss"] != "bce" else {"seed", *changes} - {"loss"})
        clip = changes.get("optimizer", {}).get("clip", 1.0)
        assert own["optimizer"] == usual["optimizer"] | ({} if clip else {"clip": None})
        assert own["model"] == usual["model"] | {"activation": ACTIVATION_OF[own["loss"]]}
        assert own["epochs"] == shared.epochs * (2 if row.endswith("_long") else 1)


def test_a_row_has_the_triplets_that_it_names_alone(recipe: Recipe) -> None:
    with_triplets = dataclasses.replace(recipe, triplet=Triplet(pixels=3))
    assert plan(with_triplets, "bce", 0).triplet is None
    assert plan(with_triplets, "focal_tree_min_triplet", 0).triplet == Triplet()


def test_results_name_no_folder_of_this_machine(grid: Path, data: Path) -> None:
    for content in contents(grid / "out").values():
        assert str(grid).encode() not in content
        assert str(data).encode() not in content


def test_what_is_measured_is_the_last_epoch_with_a_threshold_of_training_photos(
    grid: Path, data: Path, tree: Hierarchy
) -> None:
    for name in NAMES:
        predictor = Predictor(grid / "runs" / name / "last.safetensors", "cpu").using(mirror=False, zoom=None)
        training, validation = (load_examples(data, read_ids(data, split), tree) for split in ("train", "val"))
        threshold, certainty = (read(grid, name)[key] for key in ("threshold", "certainty"))
        assert threshold == choose_threshold(predictor, training)
        predictor = predictor.using(threshold=threshold)
        assert certainty == choose_certainty(predictor, training)
        table, _ = measure(predictor, validation, certainty)
        found = read_table(grid / "out" / f"{name}.npz")
        for key, values in table.items():
            np.testing.assert_array_equal(found[key], values)


# Going on


@pytest.mark.usefixtures("untrained")
def test_what_is_done_is_skipped(
    grid: Path, out: Path, again: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    again(out)
    assert capsys.readouterr().out == "2 of 2 runs are done.\n"
    assert contents(out) == contents(grid / "out")


def test_a_result_that_lacks_the_newer_measures_is_made_again_after_all_that_is_missing(
    grid: Path, out: Path, again: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    older = json.loads((out / "focal_tree_min-0.json").read_text(encoding="utf-8"))
    del older["certainty"]
    (out / "focal_tree_min-0.json").write_text(json.dumps(older), encoding="utf-8")
    (out / "leaf_cross_entropy-0.npz").unlink()
    everything: dict[tuple[str, int], dict[str, Any]] = {run: {} for run in RUNS}
    assert results(out, everything) == ({RUNS[0]}, {RUNS[0]})
    again(out)
    assert re.findall(r"^(\w+)-0:$", capsys.readouterr().out, re.MULTILINE) == ["leaf_cross_entropy", "focal_tree_min"]
    assert contents(out) == contents(grid / "out")
    assert results(out, everything) == (set(RUNS), set())


@pytest.mark.parametrize("lost", ["npz", "json"])
def test_half_a_result_is_measured_again_without_training(
    lost: str, grid: Path, out: Path, again: Callable[..., None]
) -> None:
    (out / f"leaf_cross_entropy-0.{lost}").unlink()
    state = (grid / "runs" / "leaf_cross_entropy-0" / "state.pt").read_bytes()
    again(out)
    assert contents(out) == contents(grid / "out")
    assert (grid / "runs" / "leaf_cross_entropy-0" / "state.pt").read_bytes() == state


@pytest.mark.usefixtures("untrained")
def test_a_result_of_another_recipe_or_other_photos_is_named_and_kept(
    grid: Path, out: Path, recipe: Recipe, again: Callable[..., None], tmp_path: Path
) -> None:
    other = dataclasses.replace(recipe, optimizer=Optimizer(lr=0.5), epochs=2)
    with pytest.raises(SweepError, match=r"tree_min-0\.json was made with another recipe\.optimizer, recipe\.epochs\."):
        again(out, recipe=other)
    with pytest.raises(SweepError, match=r"json was made with another data\.photos, data\.val_ids_sha256\."):
        again(out, data=write_dataset(tmp_path / "fewer", train=6, val=2))
    assert contents(out) == contents(grid / "out")


@pytest.mark.usefixtures("untrained")
def test_a_result_outlives_a_new_key_of_recipes_that_has_its_default(out: Path, again: Callable[..., None]) -> None:
    path = out / "focal_tree_min-0.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    del result["recipe"]["augment"]["paste"]
    path.write_text(json.dumps(result), encoding="utf-8")
    again(out)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"recipe": {"lose": "bce"}}', '{"recipe": {"loss": "bce"}}'])
def test_a_damaged_result_is_named(content: str, out: Path, again: Callable[..., None]) -> None:
    (out / "focal_tree_min-0.json").write_text(content, encoding="utf-8")
    with pytest.raises(SweepError, match=r"focal_tree_min-0\.json is damaged .*Delete it"):
        again(out)


def test_a_run_that_fails_is_named_after_the_others_are_done(
    grid: Path, again: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = studies.losses.sweep.fit

    def failing(recipe: Recipe, data: Path, run: Path) -> Path:
        if recipe.loss == LOSSES[0]:
            raise TrainingError("Step 3 has the loss nan.")
        return fit(recipe, data, run)

    monkeypatch.setattr(studies.losses.sweep, "fit", failing)
    with pytest.raises(SweepError, match=r"^focal_tree_min-0 could not be trained"):
        again(tmp_path)
    expected = contents(grid / "out")
    assert contents(tmp_path) == {name: expected[name] for name in expected if name.startswith(LOSSES[1])}


def test_the_command_says_what_is_wrong(
    grid: Path, recipe: Recipe, data: Path, extra: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump({**recipe.to_dict(), "epochs": 3}), encoding="utf-8")
    command = ["sweep", "--recipe", file, "--data", data, "--runs", grid / "runs", "--out", grid / "out"]
    assert main([*map(str, command), "--losses", "focal_tree_min", "--seeds", "0"]) == 1
    said = capsys.readouterr().err
    assert re.match(r"error: .*focal_tree_min-0\.json was made with another recipe\.epochs", said)
    assert main(["sweep", "--recipe", str(file), "--data", str(tmp_path)]) == 1
    assert "train_id.txt cannot be read" in capsys.readouterr().err


def test_what_is_left_is_listed_in_order_with_its_minutes(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "--list", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(STEPS) + 1 and lines[-1] == f"{minutes(ALL):5} min  in all"
    of_lines = [int(line.split()[0]) for line in lines]
    assert of_lines == [*(minutes(step.left(())) for step in STEPS), sum(of_lines[:-1])]
    assert [step.rows[0] for step in STEPS if step.tells in lines[2]] == ["bce_long"] and of_lines[2] == 9 * 24
    assert len(set(ALL)) == len(ALL) and {row for row, _ in ALL} == set(ROWS)
    assert main(["sweep", "--list", "--out", str(grid / "out")]) == 0
    assert minutes(ALL) - minutes(RUNS) == int(capsys.readouterr().out.splitlines()[-1].split()[0])
    assert list(listed(ALL, ALL[:1]))[-1] == list(listed(ALL[1:], ()))[-1] == "   12 min  in all"


def test_a_slice_is_the_first_runs_that_its_minutes_are_enough_for(
    recipe: Recipe, data: Path, extra: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [("bce", 0), ("bce_long", 0), ("focal", 0)]  # 12, 24 and 12 minutes
    for limit, count in ((11, 0), (12, 1), (35, 1), (36, 2), (47, 2), (48, 3), (100, 3)):
        assert within(runs, limit) == runs[:count]
    sweep(recipe, RUNS, data, extra, tmp_path / "runs", tmp_path / "out", limit=11)
    assert capsys.readouterr().out == "0 of 2 runs are done.\n" and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_every_row_is_trained_and_fills_the_report(
    recipe: Recipe, data: Path, extra: Path, tmp_path: Path, tree: Hierarchy
) -> None:
    short = dataclasses.replace(recipe, epochs=1)
    others = [row for row in ROWS if row not in FIRST]
    sweep(short, [(row, 0) for row in ("bce", *others)], data, extra, tmp_path / "runs", tmp_path / "out")
    comparison = Comparison.read(tmp_path / "out", short, resamples=3)
    found = figures_of(comparison)
    for row in others:
        measured = {found[f"{measure} {row}"] for measure in ("body", "risk", "street_body", "nobody_false")}
        assert not measured & {"not measured", ""}
        assert found[f"street_parts {row}"] == "not measured"  # nothing there says which part
        weights = checkpoint.load(tmp_path / "runs" / f"{row}-0" / "last.safetensors")[0].state_dict()
        assert all(each.isfinite().all() for each in weights.values() if each.is_floating_point())
    assert all(TITLES[row] in tables(comparison)[table] for row in others for table in ("losses", "people", "domains"))
    # A sum is never below what it is the sum of.
    assert comparison.mean("leaf_bce", "violations") == pytest.approx(0, abs=1e-9)


# Measuring


@pytest.fixture(scope="module")
def examples(data: Path, tree: Hierarchy) -> list[Example]:
    examples = load_examples(data, read_ids(data, "val"), tree)
    examples[0].label_map[:20, :30] = VOID
    return examples


@pytest.fixture(scope="module", params=["sigmoid", "level_softmax", "leaf_softmax"])
def network(request: pytest.FixtureRequest, tiny_spec: ModelSpec, tree: Hierarchy) -> Predictor:
    spec = dataclasses.replace(tiny_spec, activation=request.param)
    return Predictor.of_model(lively(spec, seed=1), Card(spec, tree, "Tiny")).using(mirror=False, zoom=None)


def test_a_measured_network_has_the_figures_that_evaluate_gives_it(
    network: Predictor, examples: list[Example], tree: Hierarchy
) -> None:
    network = network.using(threshold=0.35)
    table, bins = measure(network, examples, 0.5)
    found = {key: values[0] for key, values in figures(table, tree).items()}
    summary = evaluate(network, examples, progress=False).summary()
    assert found["violations"] == pytest.approx(summary["violations"])
    errors = calibration_error(bins, tree)["all_pixels"]
    for level in tree.levels:
        assert found[f"path/iou/{level}"] == pytest.approx(summary["dataset_iou"]["levels"][level])
        assert errors[level] == pytest.approx(summary["calibration_error"]["all_pixels"][level])


def test_the_threshold_chosen_is_that_of_the_highest_iou(
    network: Predictor, examples: list[Example], tree: Hierarchy
) -> None:
    means = {}
    for threshold in THRESHOLDS:
        found = figures(measure(network.using(threshold=threshold), examples, 0.5)[0], tree)
        means[threshold] = np.mean([found[f"path/iou/{level}"][0] for level in tree.levels])
    assert choose_threshold(network, examples) == max(THRESHOLDS, key=means.__getitem__)


@pytest.mark.parametrize("certainty", [0.0, 0.4, 1.0])
def test_hedged_answers_are_those_of_decoding_with_the_certainty(
    certainty: float, network: Predictor, examples: list[Example], tree: Hierarchy
) -> None:
    wrong, stops = [], []
    for example in examples:
        labels = decode(network.predict(example.photo).scores, tree, 0.3, certainty).labels
        depths = []
        for node, label in enumerate(tree.labels):
            counted = (labels == label) & tree.known_masks(example.label_map)[node]
            mistaken = ~tree.node_masks(example.label_map)[node][counted]
            depths += [(tree.depths[node], mistake) for mistake in mistaken]
        of_depth, mistakes = np.array(depths).T
        wrong.append(mistakes.mean())
        stops.append(np.bincount(of_depth, minlength=3) / len(of_depth))
    table, _ = measure(network.using(threshold=0.3), examples, certainty)
    found = figures(table, tree)
    # Where two paths tie, either may come out.
    assert found["hedged/risk"][0] == pytest.approx(np.mean(wrong), abs=0.01)
    for level, share in zip(tree.levels, np.mean(stops, axis=0), strict=True):
        assert found[f"hedged/{level}"][0] == pytest.approx(share, abs=0.01)


def test_the_certainty_is_the_lowest_that_keeps_the_risk(
    network: Predictor, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses, _ = outcomes(network, examples)
    kept = (losses.sum(0) + 1) / (len(examples) + 1)
    for risk, number in ((kept[0], 0), (kept[60], int((kept <= kept[60]).argmax()))):
        monkeypatch.setattr(studies.losses.sweep, "RISK", risk + 1e-9)
        assert choose_certainty(network, examples) == number / 100
    monkeypatch.setattr(studies.losses.sweep, "RISK", 0.1)
    assert choose_certainty(network, examples) == 1  # three photos can promise no such thing


def test_a_tenth_of_photos_of_another_kind_is_measured_or_their_validation_list(extra: Path, grid: Path) -> None:
    chosen = domain_ids(extra / "street")
    assert 0 < len(chosen) < 10 and domain_ids(extra / "nobody") == ["val_0", "val_1"]
    assert domain_ids(extra / "unfinished") == []
    for name in NAMES:
        table = read_table(grid / "out" / f"{name}.npz")
        assert len(table["street:pixels"]) == len(chosen) and len(table["nobody:pixels"]) == 2
        assert read(grid, name)["domains"].keys() == {"street", "nobody"}
