"""A prediction answers everything at the photo's own resolution from one run of the network."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hierseg import predictor
from hierseg.calibration import calibrated
from hierseg.decoding import decode, violations
from hierseg.inference import Inference
from hierseg.network import checkpoint
from hierseg.network.checkpoint import Card
from hierseg.network.model import ModelSpec
from hierseg.photo import Letterbox, PhotoError
from hierseg.photo.zoom import Window
from hierseg.predictor import Prediction, Predictor, WindowScores, predict_all
from hierseg.tree import Hierarchy
from tests import CHECKPOINTS
from tests.networks import head_of, warmed_up
from tests.rounding import HAIR, firm
from tests.trees import hierarchies


@pytest.fixture(scope="module")
def lively(tiny_spec: ModelSpec, tree: Hierarchy, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """The tiny network with scores that spread over 0 to 1, so that many labels occur."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(7)
        network, noise = warmed_up(tiny_spec)
        head = head_of(network)
        head.weight.copy_(torch.randn_like(head.weight))
        head.bias.copy_(-network(noise).mean((0, 2, 3)))
    path = tmp_path_factory.mktemp("lively") / "lively.safetensors"
    checkpoint.save(path, network, Card(tiny_spec, tree, "Lively", Inference(threshold=0.55)))
    predictor = Predictor(path)
    assert len(np.unique(predictor.predict(photo_of(90, 120)).labels)) > 4
    return predictor


def photo_of(height: int, width: int) -> npt.NDArray[np.uint8]:
    """Coloured blocks of 16 pixels."""
    rows, columns = np.mgrid[0:height, 0:width] // 16
    colors = np.random.default_rng(height * 10_000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return colors[rows, columns]


@contextmanager
def strips_of(pixels: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor, "_STRIP_PIXELS", pixels)
        yield


@contextmanager
def single_up_to(share: float) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor, "_MOST_SINGLE", share)
        yield


@st.composite
def predictions(draw: st.DrawFn, tree: Hierarchy) -> Prediction:
    """Scores that a network could give for a photo of any size; neighbouring pixels are similar, as in real photos."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**31 - 1)))

    def scores_of(window: Window, **blending: float) -> WindowScores:
        letterbox = Letterbox.fit(*window.size, draw(st.integers(1, 40)))
        scores = random.random((len(tree), *letterbox.content), np.float32)
        return WindowScores(window, letterbox, scores, **blending)

    def part() -> Window:
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        return Window(top, left, draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width)))

    windows = [part() for _ in range(draw(st.integers(0, 2)))]
    if len(windows) == 2 and windows[0].touches(windows[1]):
        windows.pop()
    whole = scores_of(Window(0, 0, height, width))
    weight, fade = draw(st.floats(0, 1)), draw(st.floats(0, 1))
    zoomed = tuple(scores_of(window, weight=weight, fade=fade) for window in windows)
    return Prediction(tree, draw(st.floats(0, 1)), whole, zoomed)


def alone(tree: Hierarchy, height: int, width: int) -> Prediction:
    """A prediction of random scores without zoom."""
    letterbox = Letterbox.fit(height, width, 32)
    scores = np.random.default_rng(0).random((len(tree), *letterbox.content), np.float32)
    return Prediction(tree, 0.5, WindowScores(Window(0, 0, height, width), letterbox, scores))


# One run of the network ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 70), (70, 1), (33, 47), (64, 64), (101, 31), (5, 300)])
def test_every_answer_has_the_photos_own_size(height: int, width: int, lively: Predictor) -> None:
    prediction = lively.predict(photo_of(height, width))
    nodes = len(prediction.hierarchy)
    assert prediction.size == (height, width)
    assert prediction.scores.shape == (nodes, height, width)
    assert prediction.scores.dtype == np.float32
    assert prediction.scores.min() >= 0
    assert prediction.scores.max() <= 1
    assert (prediction.labels.shape, prediction.labels.dtype) == ((height, width), np.uint8)
    assert (prediction.confidence.shape, prediction.confidence.dtype) == ((height, width), np.float32)
    assert (prediction.violations().shape, prediction.violations().dtype) == ((height, width), np.bool_)
    for level in prediction.hierarchy.level_names:
        assert prediction.at_level(level).shape == (height, width)


def test_no_answer_runs_the_network_again(lively: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    prediction = lively.predict(photo_of(40, 60))
    monkeypatch.setattr(lively, "network", lambda _: pytest.fail("it runs again"))
    for threshold, certainty in itertools.product((None, 0.1, 0.9), (0.0, 0.6)):
        for answer in (prediction.decoded, prediction.areas, prediction.summary):
            answer(threshold, certainty)
        for level in prediction.hierarchy.level_names:
            prediction.at_level(level, threshold, certainty)
    _ = prediction.scores, prediction.labels, prediction.confidence, prediction.violations()


class Brightness(nn.Module):
    """A network with its input as logits, so that each score tells which pixel it came from."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        self.nodes = nodes
        self.given: list[Tensor] = []

    def forward(self, batch: Tensor) -> Tensor:
        """Return the red channel once for each node."""
        self.given.append(batch)
        return batch[:, :1].expand(-1, self.nodes, -1, -1)


def brightness(tree: Hierarchy, **values: Any) -> tuple[Brightness, Card]:
    return Brightness(len(tree)), Card(ModelSpec(input_size=64, **values), tree, "Brightness")


def segmented(module: nn.Module, card: Card, photo: npt.NDArray[np.uint8], **inference: Any) -> Prediction:
    return Predictor.of_model(module, card).using(**inference).predict(photo)


@pytest.mark.parametrize(("height", "width"), [(64, 40), (128, 64), (30, 64), (96, 192)])
def test_scores_lie_where_the_photo_shows_them(height: int, width: int, tree: Hierarchy) -> None:
    photo = np.zeros((height, width, 3), dtype=np.uint8)
    photo[height // 2 :, : width // 2, 0] = 255
    prediction = segmented(*brightness(tree), photo, mirror=False)
    black, white = 1 / (1 + np.e), np.e / (1 + np.e)  # sigmoid of -1 and 1
    expected = np.where(photo[:, :, 0] == 255, white, black)
    edge = 4  # a few pixels of the photo are one of the network's
    near_an_edge = np.zeros((height, width), dtype=bool)
    near_an_edge[height // 2 - edge : height // 2 + edge] = True
    near_an_edge[:, width // 2 - edge : width // 2 + edge] = True
    for scores in prediction.scores:
        assert np.abs(scores - expected)[~near_an_edge].max() < 0.01


def test_the_network_gets_the_normalised_photo_with_its_mean_around_it(tree: Hierarchy) -> None:
    network, card = brightness(tree, mean=(0.2, 0.4, 0.6), std=(0.1, 0.2, 0.3))
    photo = np.full((33, 64, 3), 51, dtype=np.uint8)
    photo[:, 32:] = 102
    prediction = segmented(network, card, photo, mirror=False, zoom=None)
    (batch,) = network.given
    assert batch.shape == (1, 3, 64, 64)
    assert batch.dtype == torch.float32
    content = torch.from_numpy(prediction.whole.letterbox.crop(batch.numpy()))
    for channel, (left, right) in enumerate([(0.0, 2.0), (-1.0, 0.0), (-4 / 3, -2 / 3)]):
        torch.testing.assert_close(content[0, channel, :, :32], torch.full((33, 32), left))
        torch.testing.assert_close(content[0, channel, :, 32:], torch.full((33, 32), right))
    around = batch.clone()
    prediction.whole.letterbox.crop(around.numpy())[:] = 0  # a view
    assert around.abs().max() < 0.5 / 255 / 0.1 + 1e-6


@pytest.mark.parametrize("input_size", [None, 32, 96])
def test_a_network_is_used_as_its_card_says(input_size: int | None, tree: Hierarchy) -> None:
    network, card = brightness(tree)
    card = dataclasses.replace(card, inference=Inference(input_size, mirror=False, zoom=None))
    prediction = Predictor.of_model(network, card).predict(photo_of(50, 100))
    side = input_size or 64
    assert prediction.whole.scores.shape == (len(tree), side // 2, side)
    assert [len(batch) for batch in network.given] == [1]


# Several passes ------------------------------------------------------------------------------------------------------


class Slope(nn.Module):
    """A network whose scores grow from its input's left to its right, whatever the photo shows."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        self.nodes = nodes

    def forward(self, batch: Tensor) -> Tensor:
        """Return -2 in the first column to 2 in the last."""
        slope = torch.linspace(-2, 2, batch.shape[-1]).expand(batch.shape[0], self.nodes, *batch.shape[-2:])
        return slope.contiguous()


def test_the_mirror_image_counts_as_much_as_the_photo(tree: Hierarchy) -> None:
    card = Card(ModelSpec(input_size=64), tree, "Slope")
    once = segmented(Slope(len(tree)), card, photo_of(40, 64), mirror=False, zoom=None).scores
    both = segmented(Slope(len(tree)), card, photo_of(40, 64), zoom=None).scores
    np.testing.assert_allclose(both, (once + once[:, :, ::-1]) / 2, atol=1e-6)
    np.testing.assert_allclose(both, both[:, :, ::-1], atol=1e-6)
    assert np.abs(once - once[:, :, ::-1]).max() > 0.5


@pytest.mark.parametrize("mirror_size", [64, 96, 128])
def test_a_mirror_image_of_any_size_leaves_what_is_where(mirror_size: int, tree: Hierarchy) -> None:
    rows, columns = np.mgrid[0:400, 0:600]
    photo = np.zeros((400, 600, 3), dtype=np.uint8)
    photo[(rows - 120) ** 2 + (columns - 430) ** 2 < 90**2] = 255
    network, card = brightness(tree)
    alone = segmented(network, card, photo, mirror=False, zoom=None)
    both = segmented(network, card, photo, zoom=None, mirror_size=mirror_size)
    assert both.whole.letterbox == alone.whole.letterbox
    assert [given.shape[-1] for given in network.given[1:]] == [64] if mirror_size == 64 else [64, mirror_size]
    one, other = (each.scores[0] > 0.5 for each in (alone, both))
    assert (one ^ other).sum() < 0.03 * one.sum()  # along its edge


def test_somebody_small_is_seen_again_larger_and_sharper(tree: Hierarchy) -> None:
    photo = np.zeros((400, 600, 3), dtype=np.uint8)
    photo[200:260, 450:480] = 255
    network, card = brightness(tree)
    once = segmented(network, card, photo, mirror=False, zoom=None)
    assert (len(network.given), once.zoomed) == (1, ())
    twice = segmented(network, card, photo, mirror=False)
    (part,) = twice.zoomed
    assert part.window.top < 200 and part.window.bottom > 260 and part.window.left < 450 and part.window.right > 480
    assert max(part.window.size) < 200
    truth = (photo[:, :, 0] / 127.5 - 1).clip(-1, 1)
    wrong = [np.abs(prediction.scores[0] - 1 / (1 + np.exp(-truth))).mean() for prediction in (once, twice)]
    assert wrong[1] < 0.6 * wrong[0]
    outside = np.ones(photo.shape[:2], dtype=bool)
    outside[part.window.top : part.window.bottom, part.window.left : part.window.right] = False
    assert np.array_equal(once.scores[:, outside], twice.scores[:, outside])


def test_nobody_or_somebody_large_is_seen_once(tree: Hierarchy) -> None:
    for photo in (np.zeros((400, 600, 3), np.uint8), np.full((400, 600, 3), 255, np.uint8)):
        photo[:20, :20] = 128  # without any contrast the network would not run
        network, card = brightness(tree)
        assert segmented(network, card, photo).zoomed == ()
        assert len(network.given) == 1


@given(data=st.data())
def test_scores_are_those_of_the_whole_mixed_with_those_of_the_windows(data: st.DataObject, tree: Hierarchy) -> None:
    prediction = data.draw(predictions(tree))
    expected = prediction.whole.letterbox.restore(prediction.whole.scores)
    for part in prediction.zoomed:
        window = part.window
        rows, columns = slice(window.top, window.bottom), slice(window.left, window.right)
        seen, before = part.letterbox.restore(part.scores), expected[:, rows, columns].copy()
        mixed = prediction.scores[:, rows, columns]
        # Between the two everywhere, and where the window does not end inside the photo, at the full share.
        assert (mixed >= np.minimum(seen, before) - 1e-6).all() and (mixed <= np.maximum(seen, before) + 1e-6).all()
        if window.size == prediction.size:
            np.testing.assert_allclose(mixed, part.weight * seen + (1 - part.weight) * before, atol=1e-6)
        expected[:, rows, columns] = mixed
    np.testing.assert_array_equal(prediction.scores, expected)


def test_a_window_leaves_no_seam(tree: Hierarchy) -> None:
    flat = Letterbox.fit(100, 100, 32)
    whole = WindowScores(Window(0, 0, 100, 100), flat, np.zeros((len(tree), *flat.content), np.float32))
    window = Window(0, 20, 60, 80)  # at the photo's upper edge, inside elsewhere
    box = Letterbox.fit(*window.size, 32)
    part = WindowScores(window, box, np.ones((len(tree), *box.content), np.float32), weight=0.7, fade=0.12)
    scores = Prediction(tree, 0.5, whole, (part,)).scores[0]
    assert scores[0, 50] == pytest.approx(0.7) and scores[30, 50] == pytest.approx(0.7)
    assert np.abs(np.diff(scores, axis=0)).max() < 0.15 and np.abs(np.diff(scores, axis=1)).max() < 0.15
    assert scores[:, :20].max() == scores[:, 80:].max() == scores[60:].max() == 0


# Decoding ------------------------------------------------------------------------------------------------------------


@given(data=st.data(), strip=st.integers(1, 400))
def test_labels_and_confidence_are_those_of_the_whole_although_decoded_in_strips(
    data: st.DataObject, strip: int, tree: Hierarchy
) -> None:
    prediction = data.draw(predictions(tree))
    threshold, certainty = data.draw(st.none() | st.floats(0, 1)), data.draw(st.just(0.0) | st.floats(0, 1))
    cut = prediction.threshold if threshold is None else threshold
    whole = decode(prediction.scores, tree, cut, certainty)
    with strips_of(strip):
        decoded = prediction.decoded(threshold, certainty)
    sure = firm(prediction.scores, tree, cut, certainty)
    assert np.array_equal(decoded.labels[sure], whole.labels[sure])
    np.testing.assert_allclose(decoded.confidence, whole.confidence, rtol=0, atol=HAIR)


@given(data=st.data(), strip=st.integers(1, 400))
def test_labels_are_those_of_every_pixel_although_few_are_decoded_singly(data: st.DataObject, strip: int) -> None:
    tree = data.draw(hierarchies())
    prediction = data.draw(predictions(tree))
    # Regions, and few values, so that paths and the threshold tie.
    side, steps = data.draw(st.integers(1, 20)), data.draw(st.sampled_from([1, 2, 4, 10_000]))
    for part in (prediction.whole, *prediction.zoomed):
        down, across = (np.arange(length) // side * side for length in part.letterbox.content)
        part.scores[:] = np.round(part.scores[:, down][:, :, across] * steps) / steps
    prediction.threshold = data.draw(st.sampled_from([0, 0.25, 0.5, 1]) | st.floats(0, 1))
    every = decode(prediction.scores, tree, prediction.threshold).labels
    sure = firm(prediction.scores, tree, prediction.threshold, hair=1e-5)  # as far as restoring depends on rounding
    for most in (0.0, 1.0):  # all pixels together, and singly whatever is not clear
        with strips_of(strip), single_up_to(most):
            labels = dataclasses.replace(prediction, _decoded={}).labels
        assert labels.dtype == np.uint8
        assert np.array_equal(labels[sure], every[sure])
        assert set(labels.ravel().tolist()) <= {tree.background, *tree.labels}


@pytest.mark.parametrize("most", [0.0, 1.0])
def test_of_equal_paths_the_first_is_taken_everywhere(most: float, tree: Hierarchy) -> None:
    prediction = alone(tree, 50, 70)
    prediction.whole.scores[:] = prediction.whole.scores[0]
    with single_up_to(most):
        assert set(prediction.labels.ravel().tolist()) == {tree.background, tree.labels[tree.leaves[0]]}


@pytest.mark.parametrize(("height", "width", "pixels"), [(10, 7, 20), (10, 7, 70), (10, 7, 1), (1, 50, 8), (50, 1, 8)])
def test_strips_cover_every_row_once(height: int, width: int, pixels: int, tree: Hierarchy) -> None:
    prediction = alone(tree, height, width)
    with strips_of(pixels):
        strips = list(prediction.strips())
    covered = [row for rows, _ in strips for row in range(*rows.indices(height))]
    assert covered == list(range(height))
    assert all(scores.shape == (len(tree), rows.stop - rows.start, width) for rows, scores in strips)
    assert all(scores[0].size <= max(pixels, width) for _, scores in strips)


@given(data=st.data())
def test_each_level_is_the_leaf_map_seen_from_that_level(data: st.DataObject, tree: Hierarchy) -> None:
    prediction = data.draw(predictions(tree))
    certainty = data.draw(st.just(0.0) | st.floats(0, 1))
    leaf_map = prediction.decoded(certainty=certainty).labels
    for level in tree.level_names:
        assert np.array_equal(prediction.at_level(level, certainty=certainty), tree.at_level(leaf_map, level))
    assert np.array_equal(prediction.at_level(tree.level_names[-1], certainty=certainty), leaf_map)


def test_the_threshold_is_the_checkpoints_unless_another_is_given(lively: Predictor) -> None:
    prediction = lively.predict(photo_of(60, 80))
    assert prediction.threshold == lively.card.inference.threshold == 0.55
    assert np.array_equal(prediction.labels == 0, prediction.confidence <= np.float32(0.55))
    assert (prediction.at_level("body", threshold=1.0) == 0).all()
    assert (prediction.at_level("body", threshold=0.0) != 0).all()
    assert np.array_equal(prediction.at_level("body") == 0, prediction.labels == 0)


def test_an_answer_does_not_depend_on_what_was_asked_before(lively: Predictor) -> None:
    asked, fresh = lively.predict(photo_of(60, 80)), lively.predict(photo_of(60, 80))
    asked.decoded(0.9)
    asked.decoded(0.2, certainty=0.5)
    assert np.array_equal(asked.labels, fresh.labels)
    assert not np.array_equal(asked.decoded(0.2, certainty=0.5).labels, asked.labels)
    assert asked.decoded() is asked.decoded()  # kept, so that hovering or another level is quick


# Areas and violations ------------------------------------------------------------------------------------------------


@given(data=st.data(), strip=st.integers(1, 400))
def test_areas_are_counted_pixel_by_pixel(data: st.DataObject, strip: int, tree: Hierarchy) -> None:
    prediction = data.draw(predictions(tree))
    lines = tuple((0.5 + node / 4, 1 - node / 3) for node in range(len(tree)))
    prediction.calibration = data.draw(st.sampled_from([None, lines]))
    threshold, certainty = data.draw(st.floats(0, 1)), data.draw(st.just(0.0) | st.floats(0, 1))
    with strips_of(strip):
        areas = prediction.areas(threshold, certainty)
    labels = prediction.decoded(threshold, certainty).labels
    scores = calibrated(prediction.scores, prediction.calibration)
    assert list(areas) == list(tree.nodes)
    for node, name in enumerate(tree.nodes):
        below = [tree.labels[other] for other in range(len(tree)) if node in tree.lineages[other]]
        pixels = [(row, column) for row, column in np.ndindex(labels.shape) if labels[row, column] in below]
        people = sum(label != tree.background for label in labels.ravel().tolist())
        assert areas[name].share_of_photo == len(pixels) / labels.size
        assert areas[name].share_of_person == (len(pixels) / people if people else 0)
        mean = np.mean([scores[(node, *pixel)] for pixel in pixels], dtype=np.float64) if pixels else 0
        assert areas[name].confidence == pytest.approx(mean, abs=1e-6)


@given(data=st.data(), strip=st.integers(1, 400))
def test_violations_are_those_of_the_scores_at_one_half(data: st.DataObject, strip: int, tree: Hierarchy) -> None:
    prediction = data.draw(predictions(tree))
    with strips_of(strip):
        broken = prediction.violations()
    sure = (np.abs(prediction.scores - 0.5) >= HAIR).all(axis=0)
    assert np.array_equal(broken[sure], violations(prediction.scores > 0.5, tree)[sure])


@given(data=st.data())
def test_the_summary_is_plain_and_says_what_the_other_answers_say(data: st.DataObject, tree: Hierarchy) -> None:
    prediction = data.draw(predictions(tree))
    summary = json.loads(json.dumps(prediction.summary(certainty=0.3)))
    assert (summary["height"], summary["width"]) == prediction.size
    assert (summary["threshold"], summary["certainty"]) == (prediction.threshold, 0.3)
    broken, somebody = prediction.violations(), prediction.labels != tree.background
    assert summary["raw_violations"] == broken.mean()
    person = np.count_nonzero(broken | somebody)
    assert summary["raw_violations_of_person"] == (pytest.approx(broken.sum() / person) if person else None)
    assert Hierarchy.from_dict(summary["tree"]) == tree
    for name, area in prediction.areas(certainty=0.3).items():
        assert summary["areas"][name] == vars(area)


# Loading -------------------------------------------------------------------------------------------------------------


def test_a_predictor_is_found_by_its_path_or_name(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "default_folder", lambda: tiny_checkpoint.parent)
    for loaded in (Predictor(str(tiny_checkpoint)), Predictor("tiny")):
        assert loaded.name == "tiny"
        assert loaded.card == checkpoint.read_card(tiny_checkpoint)


@pytest.mark.parametrize("source", [b"", b"text", np.zeros((0, 4, 3), dtype=np.uint8)], ids=["empty", "text", "none"])
def test_what_is_not_a_photo_is_refused_before_the_network_runs(
    source: Any, lively: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lively, "network", lambda _: pytest.fail("it runs"))
    with pytest.raises(PhotoError):
        lively.predict(source)


def test_several_checkpoints_give_what_each_gives_alone_and_letterbox_once(
    lively: Predictor, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Letterbox] = []
    apply = Letterbox.apply
    monkeypatch.setattr(Letterbox, "apply", lambda self, *given: (made.append(self), apply(self, *given))[1])
    predictors = {"lively": lively.using(zoom=None), "tiny": Predictor(tiny_checkpoint).using(zoom=None)}
    photo = photo_of(90, 130)
    together = predict_all(predictors, photo)
    assert len(made) == 1
    assert list(together) == list(predictors)
    for name, one in predictors.items():
        alone = one.predict(photo)
        assert np.array_equal(together[name].scores, alone.scores)
        assert together[name].threshold == one.inference.threshold


@pytest.mark.parametrize("checkpoint_name", CHECKPOINTS)
@pytest.mark.parametrize("shade", [0, 60, 100, 128, 255])
def test_nobody_is_found_where_there_is_nothing_to_see(checkpoint_name: str, shade: int) -> None:
    noise = np.random.default_rng(shade).integers(-3, 4, (120, 160, 3))
    photo = np.clip(noise + shade, 0, 255).astype(np.uint8)
    prediction = Predictor(checkpoint_name).predict(photo)
    assert (prediction.labels == prediction.hierarchy.background).all()
    assert not prediction.violations().any()
