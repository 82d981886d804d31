"""Tests of train.fit: it learns, it resumes exactly, and its files hold what they should."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

import train.fit
import train.processor
import train.run_folder
import train.session
from hierseg.inference import Zoom
from hierseg.losses import ACTIVATION_OF, LOSSES
from hierseg.network import checkpoint
from hierseg.network.model import ModelSpec, build
from hierseg.predictor import Predictor
from hierseg.tree import Hierarchy
from tests import REPOSITORY
from tests.data import LeavesAMark, write_dataset
from tests.networks import tiny_recipe
from train.__main__ import main
from train.batches import Batches
from train.calibrate import THRESHOLDS
from train.dataset import TrainingData, read_ids, split_hash
from train.evaluate import evaluate
from train.fit import TrainingError, fit, fit_stages
from train.recipe import Crop, Optimizer, Recipe, Source, Triplet

pytestmark = pytest.mark.slow

PHOTOS = 10  # in the training list
STEPS = PHOTOS // 4  # an epoch
EPOCHS = 3
FILES = {"recipe.json", "state.pt", "state.previous.pt", "last.safetensors", "log.jsonl", "tensorboard"}
STILL = Optimizer(lr=1e-12, encoder_lr=1e-12, weight_decay=0.0)  # leaves the weights where they were


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), train=PHOTOS, val=2)


@pytest.fixture(scope="module")
def recipe(tiny_spec: ModelSpec) -> Recipe:
    return tiny_recipe(tiny_spec, epochs=EPOCHS)


@pytest.fixture(scope="module")
def run(recipe: Recipe, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("run")
    fit(recipe, data, folder)
    return folder


def read_state(folder: Path) -> dict[str, Any]:
    state = train.run_folder.read_state(folder)
    assert state is not None
    return state


def read_log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def same(first: Any, second: Any) -> bool:
    """Tell whether nested states are equal, bit for bit."""
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def assert_same_run(first: Path, second: Path) -> None:
    assert same(read_state(first), read_state(second))
    assert (first / "last.safetensors").read_bytes() == (second / "last.safetensors").read_bytes()


def assert_taken_over(start: nn.Module, after: nn.Module, atol: float = 1e-6, rtol: float = 0) -> None:
    for (name, first), second in zip(start.named_parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(second, first, atol=atol, rtol=rtol, msg=name)


def figures(folder: Path) -> list[dict[str, Any]]:
    return [
        {key: line[key] for key in ("epoch", "dataset_iou", "predecessor_iou", "violations")}
        for line in read_log(folder)
    ]


def test_training_lowers_the_loss(run: Path) -> None:
    losses = [line["loss"] for line in read_log(run)]
    assert losses[-1] < 0.9 * losses[0]


def test_a_run_leaves_what_its_manual_says(run: Path, recipe: Recipe) -> None:
    assert {path.name for path in run.iterdir()} == FILES
    assert json.loads((run / "recipe.json").read_text(encoding="utf-8")) == recipe.to_dict()
    assert [line["epoch"] for line in read_log(run)] == list(range(1, EPOCHS + 1))
    assert read_state(run)["step"] == EPOCHS * STEPS
    curves = b"".join(path.read_bytes() for path in run.rglob("events.out.tfevents.*"))
    assert all(f"iou/{level}".encode() in curves for level in ("body", "upper-lower", "parts"))
    assert curves.count(b"\x04loss") >= EPOCHS  # however short it is


def test_the_checkpoint_is_ready_to_use_and_says_what_it_was_made_of(
    run: Path, recipe: Recipe, data: Path, tree: Hierarchy
) -> None:
    predictor = Predictor(run / "last.safetensors")
    assert predictor.card.inference.threshold in THRESHOLDS
    assert (predictor.card.spec, predictor.card.hierarchy, predictor.card.title) == (recipe.model, tree, "BCE")
    record = predictor.card.record
    assert (record["loss"], record["recipe"]) == ("bce", recipe.to_dict())
    for split in ("train", "val"):
        ids = read_ids(data, split)
        assert record["data"][f"{split}_photos"] == len(ids)
        assert record["data"][f"{split}_ids_sha256"] == split_hash(ids)
    assert predictor.predict(data / "JPEGImages" / "val_1.jpg").at_level("parts").shape == (64, 96)


def test_the_photos_that_draw_the_curves_choose_nothing(recipe: Recipe, data: Path, run: Path, tmp_path: Path) -> None:
    fit(dataclasses.replace(recipe, validation_photos=1), data, tmp_path)
    assert figures(tmp_path) != figures(run)
    weights = [safetensors.torch.load_file(folder / "last.safetensors") for folder in (run, tmp_path)]
    assert same(*weights)


def test_the_average_is_saved_and_its_vectors_are_not_rounded(run: Path) -> None:
    average, saved = read_state(run)["average"], safetensors.torch.load_file(run / "last.safetensors")
    for name, tensor in saved.items():
        assert torch.equal(tensor, average[f"module.{name}"].to(tensor.dtype))


def test_validation_measures_the_weights_that_are_saved(
    recipe: Recipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64).sin()
    differences = []

    def spy(predictor: Predictor, *arguments: Any, **options: Any) -> Any:
        model = predictor.network._model
        rebuilt = train.session.build(predictor.card.spec).to(memory_format=torch.channels_last)
        rebuilt.load_state_dict(model.state_dict())
        with torch.inference_mode():
            differences.append(float((model(images) - rebuilt.eval()(images)).abs().max()))
        return evaluate(predictor, *arguments, **options)

    monkeypatch.setattr(train.fit, "evaluate", spy)
    fit(dataclasses.replace(recipe, epochs=2, ema_decay=0.9), data, tmp_path)
    assert differences == [0.0, 0.0]


def test_the_average_moves_by_one_minus_decay(recipe: Recipe, data: Path, tmp_path: Path) -> None:
    states = []
    for step in (1, 2):
        fit(dataclasses.replace(recipe, ema_decay=0.7), data, tmp_path, stop_after=step)
        states.append(read_state(tmp_path))
    for name, second in states[1]["model"].items():
        if second.is_floating_point():  # batch norm's mean and variance too
            averages = [state["average"][f"module.{name}"] for state in states]
            assert torch.equal(averages[0], states[0]["model"][name])
            torch.testing.assert_close(averages[1], 0.7 * averages[0] + 0.3 * second)


@pytest.mark.parametrize("stop", [1, STEPS, STEPS + 1])
def test_a_stopped_run_goes_on_exactly_where_it_was(
    stop: int, recipe: Recipe, data: Path, run: Path, tmp_path: Path
) -> None:
    fit(recipe, data, tmp_path, stop_after=stop)
    assert read_state(tmp_path)["step"] == stop
    fit(recipe, data, tmp_path)
    assert_same_run(tmp_path, run)
    assert figures(tmp_path) == figures(run)


def test_a_run_with_dropout_goes_on_exactly_too(recipe: Recipe, data: Path, tmp_path: Path) -> None:
    spec = dataclasses.replace(recipe.model, architecture="DeepLabV3Plus", options={"decoder_channels": 8})
    recipe = dataclasses.replace(recipe, model=spec, epochs=2)
    fit(recipe, data, tmp_path / "whole")
    fit(recipe, data, tmp_path / "parts", stop_after=1)
    fit(recipe, data, tmp_path / "parts")
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_a_gradient_is_as_long_as_the_recipe_lets_it_be(recipe: Recipe, data: Path, tmp_path: Path) -> None:
    gradients = {}
    for clip in (None, 1e9, 1e-3):
        plan = dataclasses.replace(recipe.optimizer, clip=clip)
        fit(dataclasses.replace(recipe, optimizer=plan), data, tmp_path / str(clip), stop_after=1)
        moments = read_state(tmp_path / str(clip))["optimizer"]["state"].values()
        gradients[clip] = 10 * torch.cat([moment["exp_avg"].flatten() for moment in moments])  # Adam takes a tenth
    assert torch.equal(gradients[None], gradients[1e9])
    length = gradients[None].norm()
    assert length > 0.01 and float(gradients[1e-3].norm()) == pytest.approx(1e-3, rel=1e-3)
    torch.testing.assert_close(gradients[1e-3], gradients[None] * 1e-3 / length, rtol=1e-3, atol=1e-9)


@pytest.fixture(scope="module")
def triplet(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, triplet=Triplet(channels=8, pixels=20), threshold_photos=0, epochs=2)


@pytest.fixture(scope="module")
def triplet_run(triplet: Recipe, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run with the tree-triplet loss."""
    folder = tmp_path_factory.mktemp("triplet")
    fit(triplet, data, folder)
    return folder


@pytest.mark.parametrize("stop", [1, STEPS + 1])
def test_a_run_with_triplets_goes_on_exactly_too(
    stop: int, triplet: Recipe, data: Path, triplet_run: Path, tmp_path: Path
) -> None:
    fit(triplet, data, tmp_path, stop_after=stop)
    torch.manual_seed(stop)  # another process's random numbers
    fit(triplet, data, tmp_path)
    assert_same_run(tmp_path, triplet_run)


def test_the_projection_head_is_trained_and_kept_in_the_state_but_in_no_checkpoint(
    triplet: Recipe, data: Path, run: Path, triplet_run: Path, tmp_path: Path
) -> None:
    fit(triplet, data, tmp_path, stop_after=1)
    before, after = read_state(tmp_path)["head"], read_state(triplet_run)["head"]
    assert len(before) == 4
    assert all(not torch.equal(before[name], tensor) for name, tensor in after.items())
    assert "head" not in read_state(run)
    first, second = (checkpoint.load(folder / "last.safetensors") for folder in (triplet_run, run))
    assert first[0].state_dict().keys() == second[0].state_dict().keys()
    assert (first[1].title, first[1].record["recipe"]) == ("BCE + triplet", triplet.to_dict())


def test_the_triplets_weight_rises_from_nothing_and_a_run_without_knows_nothing_of_them(
    triplet: Recipe, data: Path, triplet_run: Path, tmp_path: Path
) -> None:
    without = dataclasses.replace(triplet, triplet=None)
    fit(without, data, tmp_path / "without", stop_after=1)
    fit(triplet, data, tmp_path / "with", stop_after=1)
    first, second = (read_state(tmp_path / name)["model"] for name in ("with", "without"))
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], msg=name)  # the same start, and nothing added yet
    fit(without, data, tmp_path / "without")
    ended, other = (read_state(folder)["model"] for folder in (triplet_run, tmp_path / "without"))
    assert any(not torch.allclose(tensor, other[name], rtol=1e-2) for name, tensor in ended.items())
    assert "triplet" not in json.loads((tmp_path / "without" / "recipe.json").read_text(encoding="utf-8"))


def test_an_epoch_validated_again_is_logged_once(recipe: Recipe, data: Path, run: Path, tmp_path: Path) -> None:
    fit(recipe, data, tmp_path, stop_after=STEPS - 1)
    before = (tmp_path / "state.pt").read_bytes()
    fit(recipe, data, tmp_path, stop_after=STEPS)
    (tmp_path / "state.pt").write_bytes(before)  # as if killed after the log line, before the state
    fit(recipe, data, tmp_path)
    assert figures(tmp_path) == figures(run)


def test_a_run_validates_as_seldom_as_its_recipe_says_and_learns_the_same(
    recipe: Recipe, data: Path, run: Path, tmp_path: Path
) -> None:
    fit(dataclasses.replace(recipe, validate_every=2), data, tmp_path, workers=2)
    assert [line["epoch"] for line in read_log(tmp_path)] == [*range(2, EPOCHS, 2), EPOCHS]
    assert figures(tmp_path) == [line for line in figures(run) if line["epoch"] in (*range(2, EPOCHS, 2), EPOCHS)]
    assert same(*(safetensors.torch.load_file(folder / "last.safetensors") for folder in (run, tmp_path)))


def test_another_recipe_is_refused_unless_the_run_starts_afresh(
    recipe: Recipe, data: Path, run: Path, tmp_path: Path
) -> None:
    other = dataclasses.replace(recipe, loss="focal", epochs=1)
    fit(other, data, tmp_path)
    state = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(TrainingError, match="another recipe"):
        fit(recipe, data, tmp_path)
    assert (tmp_path / "state.pt").read_bytes() == state
    fit(recipe, data, tmp_path, fresh=True)
    assert_same_run(tmp_path, run)
    assert figures(tmp_path) == figures(run)
    assert len(list(tmp_path.rglob("events.out.tfevents.*"))) == 1


def test_a_run_on_other_photos_is_refused_and_left_as_it_is(
    recipe: Recipe, data: Path, run: Path, tmp_path: Path
) -> None:
    other = write_dataset(tmp_path / "other", train=PHOTOS + 1, val=2)
    for folder in (run, tmp_path / "stopped"):
        if folder != run:
            fit(recipe, data, folder, stop_after=1)
        before = (folder / "state.pt").read_bytes()
        with pytest.raises(TrainingError, match=r"holds a run on other photos than those in .*other\. .*--fresh del"):
            fit(recipe, other, folder)
        assert (folder / "state.pt").read_bytes() == before


def test_a_finished_run_does_nothing_when_it_is_asked_to_go_on(
    recipe: Recipe, data: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    monkeypatch.setattr(train.fit, "Session", lambda *_: pytest.fail("set up again"))
    monkeypatch.setattr(train.fit, "calibrate", lambda *_: pytest.fail("calibrated again"))
    assert fit(recipe, data, run) == run / "last.safetensors"
    assert fit_stages([recipe], data, run) == run / "last.safetensors"  # one stage lies in the folder itself
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_run_that_was_killed_before_its_calibration_is_calibrated(
    recipe: Recipe, data: Path, run: Path, tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "last.safetensors"
    checkpoint.write_card(weights, dataclasses.replace(checkpoint.read_card(weights), calibration=None))
    fit(recipe, data, tmp_path)
    assert_same_run(tmp_path, run)


def test_stages_on_the_same_photos_open_them_once(
    recipe: Recipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    load = train.fit.load

    def spy(*arguments: Any) -> TrainingData:
        opened.append(arguments)
        return load(*arguments)

    monkeypatch.setattr(train.fit, "load", spy)
    short = dataclasses.replace(recipe, epochs=1)
    fit_stages(
        [short, dataclasses.replace(short, seed=1), dataclasses.replace(short, validation_photos=1)], data, tmp_path
    )
    assert len(opened) == 2


def test_a_loss_that_is_not_a_number_stops_and_keeps_what_was_saved(
    recipe: Recipe, data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(recipe, data, tmp_path, stop_after=STEPS + 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setitem(LOSSES, "bce", lambda logits, *_, **__: logits * float("nan"))
        with pytest.raises(TrainingError, match=f"Step {STEPS + 2} has the loss nan"):
            fit(recipe, data, tmp_path)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() == {f"batch-{STEPS + 2}.npz"}
    fit(recipe, data, tmp_path)
    assert_same_run(tmp_path, run)
    fit(recipe, data, tmp_path, fresh=True, stop_after=1)
    assert not list(tmp_path.glob("batch-*"))


def test_a_batch_whose_loss_is_not_a_number_is_named_and_kept(
    recipe: Recipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    bce, normalize = LOSSES["bce"], train.session.normalize

    def spy(photos: Tensor, spec: ModelSpec) -> Tensor:
        seen.append(photos)
        return normalize(photos, spec)

    def third_time(logits: Tensor, *arguments: Any, **options: Any) -> Tensor:
        return bce(logits, *arguments, **options) + (math.inf if len(seen) == 3 else 0)

    monkeypatch.setattr(train.session, "normalize", spy)
    monkeypatch.setitem(LOSSES, "bce", third_time)
    pasting = dataclasses.replace(recipe, augment=dataclasses.replace(recipe.augment, paste=0.5))
    with pytest.raises(TrainingError, match="Step 3 has the loss inf") as stopped:
        fit(pasting, data, tmp_path)
    with np.load(tmp_path / "batch-3.npz", allow_pickle=False) as kept:
        ids, seeds = kept["ids"].tolist(), kept["seeds"].tolist()
        np.testing.assert_array_equal(kept["photos"], seen[2])
        assert kept["label_maps"].shape == (4, 64, 64)
    assert f"on {', '.join(ids)}. Look at them in {tmp_path / 'batch-3.npz'}" in str(stopped.value)
    (planned,) = Batches([PHOTOS], [1.0], 4, 2, 3, recipe.seed)
    assert [(f"train_{index}", seed) for index, seed in planned] == list(zip(ids, seeds, strict=True))


DAMAGES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "a bit flipped": lambda content: content[:5000] + bytes([content[5000] ^ 16]) + content[5001:],
    "a bit of the checksum flipped": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "words": lambda content: b"no state" * 9,
}


@pytest.fixture(scope="module")
def two_states(recipe: Recipe, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was stopped in its third epoch, at its first step."""
    folder = tmp_path_factory.mktemp("two")
    fit(recipe, data, folder, stop_after=2 * STEPS + 1)
    return folder


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_newest_state_gives_way_to_the_one_before(
    damage: Callable[[bytes], bytes], two_states: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in train.run_folder.STATES:
        shutil.copy(two_states / name, tmp_path)
    assert read_state(tmp_path)["step"] == 2 * STEPS + 1
    assert capsys.readouterr().err == ""
    newest, previous = (tmp_path / name for name in train.run_folder.STATES)
    newest.write_bytes(damage(newest.read_bytes()))
    assert read_state(tmp_path)["step"] == 2 * STEPS
    assert capsys.readouterr().err == f"{newest} is damaged and left out.\n"
    previous.write_bytes(damage(previous.read_bytes()))
    with pytest.raises(TrainingError, match=re.escape(f"{tmp_path} holds no state that is sound. Start again")):
        train.run_folder.read_state(tmp_path)


def test_a_run_goes_on_from_the_state_before_to_the_same_end(
    recipe: Recipe, data: Path, run: Path, two_states: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(two_states, folder)
    (folder / "state.pt").write_bytes(b"damaged")
    leftover = folder / ".state.pt.k1ll3d"  # of a process killed while it wrote
    leftover.touch()
    fit(recipe, data, folder)
    assert_same_run(folder, run)
    assert figures(folder) == figures(run)
    assert not leftover.exists()


def test_a_stage_with_only_the_state_before_is_not_taken_as_done(
    recipe: Recipe, data: Path, run: Path, two_states: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "stage-1"
    shutil.copytree(two_states, folder)
    (folder / "state.pt").unlink()  # as if killed between the two renames of a save
    fit_stages([recipe, dataclasses.replace(recipe, epochs=1)], data, tmp_path)
    assert_same_run(folder, run)


def test_a_pickle_in_place_of_a_state_does_nothing(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"step": LeavesAMark(tmp_path / "mark")}, buffer)
    evil = buffer.getvalue()
    (tmp_path / "state.pt").write_bytes(evil + hashlib.sha256(evil).digest())
    with pytest.raises(TrainingError, match="no state that is sound"):
        train.run_folder.read_state(tmp_path)
    assert not (tmp_path / "mark").exists()
    torch.load(io.BytesIO(evil), weights_only=False)  # the proof that it would have shown
    assert (tmp_path / "mark").is_dir()


def test_a_gradient_that_is_not_a_number_never_reaches_the_weights(
    recipe: Recipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The root of 0 is 0, but its slope is not a number; and it comes with the step that would be saved.
    monkeypatch.setitem(LOSSES, "bce", lambda logits, *_, **__: (logits * 0).sqrt())
    with pytest.raises(TrainingError, match=r"Step 1 has the loss 0\.0 and the gradient norm nan"):
        fit(dataclasses.replace(recipe, batch_size=PHOTOS), data, tmp_path)
    assert not any((tmp_path / name).exists() for name in train.run_folder.STATES)


@pytest.mark.parametrize("rate", [0.0, 2e-3], ids=["frozen", "trained"])
def test_a_frozen_encoder_does_not_move_and_the_rest_does(
    rate: float, recipe: Recipe, data: Path, run: Path, tmp_path: Path
) -> None:
    start = run / "last.safetensors"
    optimizer = dataclasses.replace(recipe.optimizer, encoder_lr=rate)
    fit(dataclasses.replace(recipe, optimizer=optimizer, start_from=str(start), epochs=1), data, tmp_path)
    before, state = checkpoint.load(start)[0].state_dict(), read_state(tmp_path)
    averaged = {name.removeprefix("module."): tensor for name, tensor in state["average"].items()}
    for after in (state["model"], averaged):
        moved = {name for name, tensor in before.items() if not torch.equal(after[name], tensor)}
        assert moved == {name for name in before if rate or not name.startswith("encoder.")}


def test_a_run_starts_from_the_weights_it_is_given(run: Path, recipe: Recipe, data: Path, tmp_path: Path) -> None:
    start = run / "last.safetensors"
    weights = fit(dataclasses.replace(recipe, optimizer=STILL, start_from=str(start), epochs=1), data, tmp_path)
    assert_taken_over(checkpoint.load(start)[0], checkpoint.load(weights)[0])
    assert read_log(tmp_path)[0]["loss"] < read_log(run)[0]["loss"]


def test_under_another_decoder_the_encoder_is_taken_over(recipe: Recipe, data: Path, run: Path, tmp_path: Path) -> None:
    spec = dataclasses.replace(recipe.model, architecture="FPN", options={"decoder_segmentation_channels": 32})
    start = run / "last.safetensors"
    other = dataclasses.replace(recipe, model=spec, optimizer=STILL, start_from=str(start), epochs=1)
    assert_taken_over(checkpoint.load(start)[0].encoder, checkpoint.load(fit(other, data, tmp_path))[0].encoder)


def test_all_weights_are_taken_over_where_they_fit_another_decoder(
    recipe: Recipe, tiny_spec: ModelSpec, tree: Hierarchy, data: Path, tmp_path: Path
) -> None:
    options = {"decoder_segmentation_channels": 8}
    plain, guided = (
        dataclasses.replace(tiny_spec, architecture=name, options=options) for name in ("Segformer", "GuidedSegformer")
    )
    start = tmp_path / "start.safetensors"
    network = build(plain)
    checkpoint.save(start, network, checkpoint.Card(plain, tree, "Start"))
    other = dataclasses.replace(recipe, model=guided, optimizer=STILL, start_from=str(start), epochs=1)
    weights = fit(other, data, tmp_path / "run")
    assert_taken_over(network, checkpoint.load(weights)[0], atol=1e-3, rtol=1e-3)  # stored in half precision


def test_a_recipe_that_does_not_fit_its_start_or_its_photos_is_refused(
    recipe: Recipe, data: Path, run: Path, tmp_path: Path
) -> None:
    start, tree = str(run / "last.safetensors"), Hierarchy.default().to_dict()
    tree["tree"][0]["name"] = "figure"
    (tmp_path / "tree.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    lite = dataclasses.replace(recipe.model, encoder="tu-tf_efficientnet_lite0")
    for changes, sentence in (
        ({"model": lite, "start_from": start}, "has the encoder tu-test_efficientnet, the recipe tu-tf_efficientnet"),
        ({"hierarchy": str(tmp_path / "tree.yaml"), "start_from": start}, "another tree"),
        ({"batch_size": 16}, f"{PHOTOS} photos do not fill one batch of 16"),
    ):
        with pytest.raises(TrainingError, match=sentence):
            fit(dataclasses.replace(recipe, **changes), data, tmp_path / sentence[:9])


def test_each_stage_starts_from_the_weights_of_the_one_before(
    recipe: Recipe, data: Path, run: Path, tmp_path: Path
) -> None:
    second = dataclasses.replace(recipe, crop=Crop(size=96), optimizer=Optimizer(lr=1e-3), epochs=1)
    whole = tmp_path / "whole"
    assert fit_stages([recipe, second], data, whole) == whole / "stage-2" / "last.safetensors"
    assert_same_run(whole / "stage-1", run)
    record = checkpoint.read_card(whole / "stage-2" / "last.safetensors").record
    assert record["started_from"]["recipe"] == checkpoint.read_card(run / "last.safetensors").record["recipe"]
    assert str(tmp_path) not in json.dumps(record)  # a checkpoint names no folder of the machine it was made on
    by_hand = dataclasses.replace(second, start_from=str(run / "last.safetensors"))
    fit(by_hand, data, tmp_path / "by hand")
    assert same(read_state(whole / "stage-2"), read_state(tmp_path / "by hand"))

    # Given again, it leaves all as it is; and the weights of the first stage are enough to go on elsewhere.
    before = (whole / "stage-2" / "state.pt").read_bytes()
    fit_stages([recipe, second], data, whole)
    assert (whole / "stage-2" / "state.pt").read_bytes() == before
    elsewhere = tmp_path / "elsewhere" / "stage-1" / "last.safetensors"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_bytes((whole / "stage-1" / "last.safetensors").read_bytes())
    fit_stages([recipe, second], data, tmp_path / "elsewhere")
    assert [path.name for path in elsewhere.parent.iterdir()] == ["last.safetensors"]
    assert same(read_state(tmp_path / "elsewhere" / "stage-2"), read_state(whole / "stage-2"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of people, one with labels that stop at the body, and one of photos without people."""
    folder = tmp_path_factory.mktemp("folders")
    write_dataset(folder / "people", train=PHOTOS, val=2)
    write_dataset(folder / "bodies", train=3, val=1)
    write_dataset(folder / "nobody", train=3, val=2)
    shutil.rmtree(folder / "nobody" / "gt_masks")
    for mask in (folder / "bodies" / "gt_masks").iterdir():
        label_map = np.array(Image.open(mask))
        Image.fromarray(np.where(label_map > 0, 7, 0).astype(np.uint8)).save(mask)
    return folder


def test_a_run_on_several_sources_goes_on_exactly_and_tells_of_false_people(
    recipe: Recipe, folders: Path, tmp_path: Path
) -> None:
    sources = (Source("people", 0.5), Source("bodies", 0.3), Source("nobody", 0.2, nobody=True))
    several = dataclasses.replace(
        recipe, data=sources, jaccard=0.5, augment=dataclasses.replace(recipe.augment, paste=0.5)
    )
    fit(several, folders, tmp_path / "whole")
    for step in (2, 5):
        fit(several, folders, tmp_path / "stopped", stop_after=step)
    fit(several, folders, tmp_path / "stopped")
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")
    log = read_log(tmp_path / "whole")
    assert read_state(tmp_path / "whole")["step"] == EPOCHS * ((PHOTOS + 3 + 3) // 4)
    assert [line["nobody"]["photos"] for line in log] == [2] * EPOCHS
    record = checkpoint.read_card(tmp_path / "whole" / "last.safetensors").record
    assert [source["folder"] for source in record["data"]["sources"]] == ["people", "bodies", "nobody"]
    assert Recipe.from_dict(record["recipe"], "record") == several


def test_stages_stop_and_go_on_exactly_wherever_their_folder_lies(recipe: Recipe, data: Path, tmp_path: Path) -> None:
    stages = [dataclasses.replace(recipe, epochs=1), dataclasses.replace(recipe, epochs=2)]
    fit_stages(stages, data, tmp_path / "whole")
    for step in (1, STEPS + 1):  # in the first stage, then in the second
        fit_stages(stages, data, tmp_path / "stopped", stop_after=step)
    assert read_state(tmp_path / "stopped" / "stage-2")["step"] == STEPS + 1
    shutil.move(tmp_path / "stopped", tmp_path / "moved")
    fit_stages(stages, data, tmp_path / "moved")
    for stage in ("stage-1", "stage-2"):
        assert same(read_state(tmp_path / "moved" / stage), read_state(tmp_path / "whole" / stage))


def test_a_full_disk_leaves_the_state_before_usable(
    recipe: Recipe, data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(recipe, data, tmp_path, stop_after=STEPS)
    saved = (tmp_path / "state.pt").read_bytes()
    real = os.replace

    def full(source: str, target: Path) -> None:
        if Path(target).name == "state.pt":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            fit(recipe, data, tmp_path)
    assert (tmp_path / "state.previous.pt").read_bytes() == saved
    assert read_state(tmp_path)["step"] == STEPS
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    fit(recipe, data, tmp_path)
    assert_same_run(tmp_path, run)


def test_every_loss_sees_the_same_crops_in_the_same_order(
    recipe: Recipe, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[Tensor]] = {}
    normalize = train.session.normalize
    for loss in LOSSES:

        def spy(photos: Tensor, spec: ModelSpec, loss: str = loss) -> Tensor:
            seen.setdefault(loss, []).append(photos.clone())
            return normalize(photos, spec)

        monkeypatch.setattr(train.session, "normalize", spy)
        model = dataclasses.replace(recipe.model, activation=ACTIVATION_OF[loss])
        fit(dataclasses.replace(recipe, loss=loss, model=model), data, tmp_path / loss, stop_after=STEPS + 1)
    assert len(seen["bce"]) == STEPS + 1
    assert all(same(crops, seen["bce"]) for crops in seen.values())
    assert len({crop.numpy().tobytes() for batch in seen["bce"] for crop in batch}) == (STEPS + 1) * 4


def test_gradients_of_resized_features_are_dense_and_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 8, 5, 7, generator=generator, requires_grad=True)
    weights = torch.rand(2, 24, 10, 14, generator=generator).contiguous(memory_format=torch.channels_last)
    found, seen = [], []
    for context in (contextlib.nullcontext(), train.processor.DenseGradients()):
        with context:
            resized = [nn.functional.interpolate(features * k, size=(10, 14), mode="bilinear") for k in range(3)]
        for each in resized:
            node = each.grad_fn
            while "Upsample" not in node.name():
                node = node.next_functions[0][0]
            node.register_prehook(lambda gradients: seen.append(gradients[0]))
        (torch.cat(resized, 1) * weights).sum().backward()
        found.append(features.grad)
        features.grad = None
    torch.testing.assert_close(*found)
    assert [each.is_contiguous(memory_format=torch.channels_last) for each in seen] == 3 * [False] + 3 * [True]


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "train", *map(str, arguments)]


ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(REPOSITORY)}


def test_a_killed_process_goes_on_exactly(recipe: Recipe, data: Path, tmp_path: Path) -> None:
    # Long enough that it cannot end before the signal arrives.
    recipe = dataclasses.replace(recipe, epochs=20)
    file, killed = tmp_path / "tiny.yaml", tmp_path / "killed"
    file.write_text(yaml.safe_dump(recipe.to_dict()), encoding="utf-8")
    fit_command = command("fit", file, "--data", data, "--run", killed)

    with subprocess.Popen(
        fit_command,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # so that the loader's process can be killed with it
    ) as process:
        assert process.stdout is not None
        # The second epoch is told after the first one's state was written.
        told = next((line for line in process.stdout if line.startswith("epoch 2 ")), None)
        os.killpg(process.pid, signal.SIGKILL)
    assert told is not None
    assert process.returncode == -signal.SIGKILL
    assert STEPS <= read_state(killed)["step"] < 20 * STEPS

    resumed = subprocess.run(fit_command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert resumed.stdout.splitlines()[-1] == str(killed / "last.safetensors")
    fit(recipe, data, tmp_path / "undisturbed")
    assert_same_run(killed, tmp_path / "undisturbed")
    assert figures(killed) == figures(tmp_path / "undisturbed")


def test_wrong_arguments_end_with_status_1_and_a_sentence(
    recipe: Recipe, data: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(yaml.safe_dump(recipe.to_dict()), encoding="utf-8")
    bad.write_text("lose: bce\n", encoding="utf-8")
    nowhere, run = tmp_path / "nowhere", tmp_path / "run"
    for arguments, reason in (
        (("fit", good, "--data", nowhere, "--run", run), "train_id.txt cannot be read"),
        (("fit", bad, "--data", data, "--run", run), "unknown key 'lose'"),
        (("fit", nowhere, "--data", data, "--run", run), "nowhere cannot be read"),
        (("evaluate", "no-such-checkpoint", "--data", data), "There is no checkpoint 'no-such-checkpoint'"),
        (("evaluate", good, "--data", data), "not a safetensors file"),
    ):
        assert main([str(argument) for argument in arguments]) == 1
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("error: ")
        assert reason in told.err


def test_evaluate_measures_what_it_is_asked_to(
    data: Path, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy, output = tmp_path / "copy.safetensors", tmp_path / "figures.json"
    copy.write_bytes(tiny_checkpoint.read_bytes())
    options = ("--photos", "1", "--input-size", "32", "--no-mirror", "--record")
    assert main(["evaluate", str(copy), "--data", str(data), "--json", str(output), *options]) == 0
    assert "1 photo" in capsys.readouterr().out
    summary = json.loads(output.read_text(encoding="utf-8"))[str(copy)]
    assert summary["photos"] == 1
    assert summary["protocol"] == {
        "split": "val",
        "ids_sha256": split_hash(read_ids(data, "val")[:1]),
        "input_size": 32,
        "threshold": checkpoint.read_card(copy).inference.threshold,
        "resolution": "photo",
        "mirror": False,
        "mirror_size": None,
        "zoom": dataclasses.asdict(Zoom()),
    }
    assert json.dumps(checkpoint.read_card(copy).record["figures"]) == json.dumps(summary)
