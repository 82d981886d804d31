"""Tests of hierseg.risk and train.risk: what is promised is kept, and what cannot be kept is not promised."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierseg.inference import Inference
from hierseg.network import checkpoint
from hierseg.network.checkpoint import Card, CheckpointError
from hierseg.network.model import ModelSpec, build
from hierseg.predictor import Prediction, Predictor
from hierseg.risk import Promise, RiskControl, RiskError, certainty_for
from hierseg.tree import Hierarchy
from tests.data import write_dataset
from tests.networks import banded
from tests.trees import hierarchies, label_maps, node_and_above, node_and_below, prediction_of, score_maps
from train.__main__ import main
from train.calibrate import calibrate
from train.dataset import load_examples, read_ids, split_hash
from train.risk import CERTAINTIES, control_risk, least, outcome, split

LEAVES = {"body": 0.0, "upper-lower": 0.0, "parts": 1.0}
UNSURE = Promise(5, 0.75, 0.17, {"body": 0.25, "upper-lower": 0.25, "parts": 0.5})
PROMISES = (Promise(1, 0.0, 0.3, LEAVES), Promise(3, 0.0, 0.3, LEAVES), UNSURE)
CONTROL = RiskControl(PROMISES, Inference(), 200, "a" * 64, 307, "b" * 64)
WRONG: list[dict[str, Any]] = [{"one_in": 0}, {"one_in": "3"}, {"certainty": 1.5}, {"certainty": float("nan")}]
WRONG += [{"stops": {"body": -1}}, {"stops": [1]}]


@st.composite
def photos(draw: st.DrawFn) -> tuple[Prediction, np.ndarray]:
    """Draw a prediction on any tree, with or without a calibration, and a truth that may stop anywhere."""
    tree = draw(hierarchies())
    slopes, intercepts = st.just(0.0) | st.floats(0, 3), st.floats(-3, 3)
    lines = draw(st.none() | st.lists(st.tuples(slopes, intercepts), min_size=len(tree), max_size=len(tree)))
    threshold = draw(st.sampled_from([0.0, 0.3, 0.5]))
    return prediction_of(draw(score_maps(tree)), tree, threshold, lines), draw(label_maps(tree))


def by_hand(prediction: Prediction, truth: np.ndarray, certainty: float) -> tuple[list[bool], list[int]]:
    """Return of every pixel that counts whether its name is wrong, and how far from its leaf it stops."""
    tree = prediction.hierarchy
    shown, leaves = prediction.decoded(certainty=certainty).labels, prediction.labels
    wrong, stops = [], []
    for pixel in np.ndindex(truth.shape):
        if leaves[pixel] == tree.background or truth[pixel] == tree.void:
            continue
        node, leaf = tree.labels.index(shown[pixel]), tree.labels.index(leaves[pixel])
        right = [] if truth[pixel] == tree.background else node_and_above(tree, tree.labels.index(truth[pixel]))
        if right and leaf in node_and_below(tree, right[0])[1:]:
            continue  # nothing is known of the leaf
        wrong.append(node not in right)
        stops.append(node_and_above(tree, leaf).index(node))
    return wrong, stops


@given(photos(), st.sampled_from([0, 1, 30, 50, 77, 99, 100]))
def test_an_outcome_is_that_of_decoding_and_looking_at_every_pixel(
    photo: tuple[Prediction, np.ndarray], number: int
) -> None:
    prediction, truth = photo
    tree = prediction.hierarchy
    losses, shares = outcome(prediction, truth)
    wrong, stops = by_hand(prediction, truth, float(CERTAINTIES[number]))
    assert losses[number] == pytest.approx(np.mean(wrong) if wrong else 0)
    if not wrong:
        assert np.isnan(shares).all()
        return
    assert shares.sum(axis=0) == pytest.approx(1)
    assert shares[-1, number] == pytest.approx(np.mean(np.array(stops) == 0))
    deepest = {len(tree.lineages[leaf]) for leaf in tree.leaves}
    if len(deepest) == 1:  # all leaves are of the greatest depth
        for depth in range(len(tree.level_names)):
            there = np.array(stops) == len(tree.level_names) - 1 - depth
            assert shares[depth, number] == pytest.approx(np.mean(there))


@given(photos())
def test_the_loss_never_rises_with_the_certainty(photo: tuple[Prediction, np.ndarray]) -> None:
    losses, shares = outcome(*photo)
    assert (np.diff(losses) <= 0).all()
    assert (losses >= 0).all()
    assert (losses <= 1).all()
    assert np.isnan(shares).all() or (np.diff(shares[0]) >= -1e-12).all()  # ever more stop at a root


@given(st.integers(1, 30), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_the_least_certainty_is_found_by_trying_all(photos: int, seed: int, risk: float) -> None:
    losses = np.sort(np.random.default_rng(seed).random((photos, 11)))[:, ::-1]
    kept = [c for c in range(11) if (sum(losses[:, c]) + 1) / (photos + 1) <= risk + 1e-12]
    assert least(losses, risk) == (kept[0] if kept else None)


def test_the_risk_is_kept_on_average_over_photos_that_did_not_choose() -> None:
    random = np.random.default_rng(4)
    # Photos of very different difficulty: their loss falls from `start` to `end` somewhere between.
    starts, ends, steps = random.beta(1, 2, 4000), random.beta(1, 12, 4000), random.random((4000, 1))
    ends = np.minimum(starts, ends)
    losses = np.where(np.linspace(0, 1, 41) < steps, starts[:, None], ends[:, None])
    for risk in (0.3, 0.2, 0.15):
        kept = []
        for _ in range(400):
            chosen = random.permutation(4000)[:21]
            number = least(losses[chosen[:20]], risk)
            if number is None:
                continue
            kept.append(losses[chosen[20], number])
        assert len(kept) > 100
        assert np.mean(kept) <= risk + 3 * np.std(kept) / np.sqrt(len(kept))


def test_photos_are_split_by_their_ids_alone() -> None:
    ids = [f"2008_{number:06}" for number in range(40)]
    chosen, others = split(ids, 15)
    assert len(chosen) == 15
    assert sorted(chosen + others) == ids
    assert split(ids[::-1], 15) == (chosen, others)
    assert chosen != ids[:15]
    again, _ = split([*ids, "2010_000001"], 16)
    assert set(chosen) <= {*again, *others}  # another photo moves at most one


def test_a_risk_gets_the_least_certainty_that_keeps_it() -> None:
    assert certainty_for(CONTROL, 1 / 5) == certainty_for(CONTROL, 0.22) == 0.75
    assert certainty_for(CONTROL, 1 / 3) == certainty_for(CONTROL, 1) == 0
    with pytest.raises(RiskError, match=r"0\.1 cannot be promised here\. What can be: 1 in 3, 1 in 5\."):
        certainty_for(CONTROL, 0.1)


def test_a_prediction_promises_what_its_checkpoint_does_as_it_was_measured(
    tmp_path: Path, tree: Hierarchy, tiny_spec: ModelSpec
) -> None:
    path, photo = tmp_path / "it.safetensors", np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    lines = ((1.0, 0.0),) * len(tree)
    checkpoint.save(path, build(tiny_spec), Card(tiny_spec, tree, "It", calibration=lines, risk=CONTROL))
    assert checkpoint.read_card(path).risk == CONTROL
    predictor = Predictor(path, "cpu")
    prediction = predictor.predict(photo)
    assert prediction.certainty(1 / 5) == 0.75
    assert prediction.calibration == lines
    for changes in ({"mirror": False}, {"zoom": None}, {"threshold": 0.3}):
        other = predictor.using(**changes).predict(photo)
        with pytest.raises(RiskError, match="none was measured"):
            other.certainty(1 / 5)
    checkpoint.save(path, build(tiny_spec), Card(tiny_spec, tree, "It"))
    assert checkpoint.read_card(path).risk is None
    assert b"risk" not in path.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        *({"promises": [vars(PROMISES[0]), vars(UNSURE) | wrong]} for wrong in WRONG),
        {"promises": []},
        {"promises": 3},
        {"inference": None},
        {"photos": "many"},
        {"held_out": None},
        {"more": 1},
    ],
)
def test_promises_that_make_no_sense_are_refused(
    change: dict[str, Any], tmp_path: Path, tree: Hierarchy, tiny_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "it.safetensors"
    plain = dataclasses.asdict
    monkeypatch.setattr(
        dataclasses, "asdict", lambda it: {**plain(it), **change} if isinstance(it, RiskControl) else plain(it)
    )
    checkpoint.save(path, build(tiny_spec), Card(tiny_spec, tree, "It", risk=CONTROL))
    with pytest.raises(CheckpointError, match="invalid metadata"):
        checkpoint.read_card(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", train=2, val=7)


@pytest.fixture
def path(tmp_path: Path, tree: Hierarchy, tiny_spec: ModelSpec) -> Path:
    file = tmp_path / "tiny.safetensors"
    checkpoint.save(file, banded(tiny_spec), Card(tiny_spec, tree, "Tiny", inference=Inference(zoom=None)))
    return file


def test_the_command_stores_its_promises_and_prints_what_came_of_them(
    data: Path, path: Path, tree: Hierarchy, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["risk", str(path), "--data", str(data), "--photos", "4", "--held-out", "2"]) == 0
    card = checkpoint.read_card(path)
    assert card.risk is not None
    chosen, others = split(read_ids(data, "val"), 4)
    assert (card.risk.photos, card.risk.ids_sha256) == (4, split_hash(chosen))
    assert (card.risk.held_out, card.risk.held_out_ids_sha256) == (2, split_hash(others[:2]))
    assert card.risk.inference == card.inference
    examples = [load_examples(data, ids, tree) for ids in (chosen, others[:2])]
    assert control_risk(Predictor(path, "cpu"), *examples).risk == card.risk
    predictor = Predictor(path, "cpu")
    for promise in card.risk.promises:
        answers = [by_hand(predictor.predict(e.photo), e.label_map, promise.certainty)[0] for e in examples[1]]
        assert promise.wrong == pytest.approx(np.mean([np.mean(wrong) if wrong else 0 for wrong in answers]))
    printed = capsys.readouterr().out
    assert "4 photos to choose, 2 others to measure" in printed
    assert printed.count("| Tiny |") == 6
    # With four photos nothing below 1 / 5 can be promised, whatever they show.
    assert max(promise.one_in for promise in card.risk.promises) <= 5
    assert "| Tiny | 1 in 10 | cannot be |" in printed


def test_evaluation_passes_promises_on_and_measures_the_same_with_and_without(
    data: Path, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluated() -> dict[str, Any]:
        assert main(["evaluate", str(path), "--data", str(data), "--json", str(tmp_path / "figures.json")]) == 0
        (figures,) = json.loads((tmp_path / "figures.json").read_text()).values()
        return dict(figures)

    without = evaluated()
    assert "promised" not in capsys.readouterr().out
    assert main(["risk", str(path), "--data", str(data), "--photos", "4"]) == 0
    capsys.readouterr()
    found = evaluated()
    assert "promised: wrong at most" in capsys.readouterr().out
    assert found.pop("risk")["photos"] == 4
    assert found == without


def test_all_photos_cannot_choose(data: Path, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["risk", str(path), "--data", str(data)]) == 1
    assert "none would be left to measure on" in capsys.readouterr().err


def test_a_new_calibration_takes_the_promises_back(data: Path, path: Path, tree: Hierarchy) -> None:
    checkpoint.write_card(path, dataclasses.replace(checkpoint.read_card(path), risk=CONTROL))
    card = calibrate(Predictor(path, "cpu"), load_examples(data, read_ids(data, "train"), tree), (0.3, 0.5))
    assert card.risk is None
