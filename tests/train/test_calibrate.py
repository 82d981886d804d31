"""Tests of hierseg.calibration and train.calibrate: thresholds and probabilities from training photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierseg.calibration import calibrated, logits
from hierseg.metrics import calibration_error, count_confidence
from hierseg.network import checkpoint
from hierseg.network.checkpoint import Card, CheckpointError
from hierseg.network.model import ModelSpec, build
from hierseg.predictor import Predictor
from hierseg.tree import Hierarchy
from tests.data import BACKGROUND, HEAD, TORSO
from tests.rounding import EPSILON
from tests.train.test_evaluate import Brightness
from train.calibrate import Tally, binned, calibrate, fit_line
from train.dataset import Example


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(-4, 4)), min_size=1, max_size=4), st.integers(0, 99))
def test_a_calibrated_score_is_that_of_the_formula(lines: list[tuple[float, float]], seed: int) -> None:
    scores = np.random.default_rng(seed).random((len(lines), 2, 3), np.float32) * 0.98 + np.float32(0.01)
    found = calibrated(scores, lines)
    assert found.dtype == np.float32
    for node, row, column in np.ndindex(scores.shape):
        slope, intercept = lines[node]
        logit = np.log(scores[node, row, column]) - np.log1p(-scores[node, row, column])
        assert found[node, row, column] == pytest.approx(1 / (1 + np.exp(-(slope * logit + intercept))), abs=1e-5)


def test_without_a_calibration_scores_stay_and_with_another_trees_they_are_refused() -> None:
    scores = np.random.default_rng(0).random((3, 4, 4), np.float32)
    assert calibrated(scores, None) is scores
    np.testing.assert_allclose(calibrated(scores, [(1.0, 0.0)] * 3), scores, atol=1e-5)
    with pytest.raises(ValueError, match="2 pairs for the scores of 3 nodes"):
        calibrated(scores, [(1.0, 0.0)] * 2)


def test_the_surest_scores_have_finite_logits_and_keep_their_order() -> None:
    values = logits(np.array([0, 1e-12, 0.3, 0.5, 0.9, 1], np.float32))
    assert np.isfinite(values).all()
    assert (np.diff(values) >= 0).all()
    assert abs(values[3]) < 4 * EPSILON  # two logarithms of a half, each rounded as the processor has it


@pytest.mark.parametrize(("slope", "intercept"), [(0.5, -1.0), (1.0, 0.0), (2.0, 1.5)])
def test_a_line_is_found_again(slope: float, intercept: float) -> None:
    edges = np.linspace(-12, 12, 481)
    middles = (edges[1:] + edges[:-1]) / 2
    right = 1000 / (1 + np.exp(-(slope * middles + intercept)))
    assert fit_line(1000 - right, right) == pytest.approx((slope, intercept), abs=1e-2)


def test_from_few_pixels_or_one_kind_nothing_is_concluded() -> None:
    counts = np.zeros(480)
    counts[240] = 1e6
    assert fit_line(np.zeros(480), counts) == (1.0, 0.0)
    assert fit_line(counts, np.zeros(480)) == (1.0, 0.0)


def test_scores_that_rise_where_the_node_is_rarer_are_not_turned_round() -> None:
    falling = np.linspace(1, 0, 480) * 1e5
    slope, _ = fit_line(1e5 - falling, falling)
    assert slope == 0


def test_scores_that_are_never_wrong_are_made_surer() -> None:
    counts = np.arange(480) >= 240
    slope, _ = fit_line(~counts * 1e4, counts * 1e4)  # the surer, the likelier, without an end
    assert 10 < slope < np.inf


def test_a_node_is_tallied_where_it_is_shown_and_known_and_a_root_everywhere(tree: Hierarchy) -> None:
    upper = tree.labels[tree.index("upper")]
    truth = np.array([[HEAD, TORSO, upper, BACKGROUND, tree.void]], np.uint8)
    decoded = np.array([[HEAD, HEAD, HEAD, HEAD, HEAD]], np.uint8)
    scores = np.full((len(tree), 1, 5), 0.8, np.float32)
    tally = Tally(tree)
    tally.add(binned(scores), decoded, truth)
    counts = {name: tally._counts[node].sum(1).tolist() for node, name in enumerate(tree.nodes)}
    assert counts["body"] == [1, 3]  # wrong in the background, right in three pixels
    assert counts["upper"] == [1, 3]
    assert counts["head"] == [2, 1]  # nothing is known of a head where the truth says upper
    assert counts["torso"] == counts["lower"] == [0, 0]
    nobody = np.full_like(decoded, BACKGROUND)
    tally.add(binned(scores), nobody, truth)
    assert tally._counts[0].sum(1).tolist() == [2, 6]
    assert tally._counts[tree.index("upper")].sum(1).tolist() == [1, 3]


def test_calibration_makes_confidences_what_they_say(tree: Hierarchy) -> None:
    random = np.random.default_rng(3)
    truth = np.where(random.random((300, 400)) < 0.6, HEAD, BACKGROUND).astype(np.uint8)
    logit = np.where(truth == HEAD, 1.0, -1.0) * 1.5 + random.normal(0, 1.5, truth.shape)
    shy = 1 / (1 + np.exp(-0.3 * logit))  # of the truth it knows more than it says
    scores = np.broadcast_to(shy, (len(tree), *shy.shape)).astype(np.float32)
    decoded = np.where(shy > 0.5, HEAD, BACKGROUND).astype(np.uint8)
    tally = Tally(tree)
    tally.add(binned(scores), decoded, truth)
    before, after = (
        calibration_error(count_confidence(each, decoded, truth, tree), tree)["all_pixels"]
        for each in (scores, calibrated(scores, tally.fit()))
    )
    assert min(before.values()) > 0.1
    assert max(after.values()) < 0.02


@pytest.mark.parametrize("best", [0.2, 0.4, 0.6, 0.8])
def test_the_threshold_that_fits_best_is_chosen(best: float, tree: Hierarchy) -> None:
    # Four grey bands between the candidates; only the candidate below which no head lies separates them.
    bands = np.repeat(np.array([0.1, 0.3, 0.5, 0.7, 0.9]), 12)
    grey = np.broadcast_to(bands[:, None], (60, 64))
    photo = np.repeat((grey * 255).round().astype(np.uint8)[:, :, None], 3, axis=2)
    truth = np.where(grey > best, HEAD, BACKGROUND).astype(np.uint8)
    predictor = Predictor.of_model(Brightness(), Card(ModelSpec(input_size=64), tree, "Brightness"))
    examples = [Example("bands", photo, truth), Example("bands again", photo, truth)]
    assert calibrate(predictor, examples, (0.2, 0.4, 0.6, 0.8)).inference.threshold == best


def test_the_threshold_is_chosen_by_all_photos_together(tree: Hierarchy) -> None:
    photo = np.full((64, 64, 3), 128, np.uint8)
    photo[:8, :8] = 40  # without any contrast it would not be looked at
    person, empty = np.full((64, 64), HEAD, np.uint8), np.full((64, 64), BACKGROUND, np.uint8)
    predictor = Predictor.of_model(Brightness(), Card(ModelSpec(input_size=64), tree, "Brightness"))
    people, nobody = Example("person", photo, person), Example("nobody", photo, empty)
    assert calibrate(predictor, [people, nobody], (0.4, 0.6)).inference.threshold == 0.4
    small = empty.copy()
    small[:1] = HEAD
    bright = photo.copy()
    bright[:1] = 255
    few = Example("few", bright, small)
    assert calibrate(predictor, [few, nobody], (0.4, 0.6)).inference.threshold == 0.6


def test_a_checkpoint_keeps_its_calibration_and_older_ones_have_none(
    tiny_spec: ModelSpec, tree: Hierarchy, tmp_path: Path
) -> None:
    lines = tuple((1.0 + node / 10, -node / 7) for node in range(len(tree)))
    model = build(tiny_spec)
    for name, calibration in (("with", lines), ("without", None)):
        path = tmp_path / f"{name}.safetensors"
        checkpoint.save(path, model, Card(tiny_spec, tree, "Tiny", calibration=calibration))
        assert checkpoint.read_card(path).calibration == calibration
        assert checkpoint.load(path)[1].calibration == calibration
    assert b"calibration" not in (tmp_path / "without.safetensors").read_bytes()


@pytest.mark.parametrize(
    "lines", [((1.0, 0.0),) * 8, ((float("nan"), 0.0),) * 9, ((-1.0, 0.0),) * 9, ((1.0, float("inf")),) * 9]
)
def test_a_calibration_that_makes_no_sense_is_refused(
    lines: tuple[tuple[float, float], ...], tiny_spec: ModelSpec, tree: Hierarchy, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.safetensors"
    checkpoint.save(path, build(tiny_spec), Card(tiny_spec, tree, "Tiny", calibration=lines))
    with pytest.raises(CheckpointError, match="invalid metadata"):
        checkpoint.read_card(path)
