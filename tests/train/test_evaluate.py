"""Tests of train.evaluate: what is measured of which passes, and false people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hierseg.metrics import Evaluation
from hierseg.network.checkpoint import Card
from hierseg.network.model import ModelSpec
from hierseg.predictor import Predictor
from hierseg.tree import Hierarchy
from tests.data import BACKGROUND, HEAD, VOID, write_dataset
from train.__main__ import main
from train.dataset import Example, load_examples, read_ids
from train.evaluate import evaluate, false_people, squares_beside_people, table
from train.report import TABLES


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    folder = write_dataset(tmp_path_factory.mktemp("data"), train=1, val=2)
    examples = load_examples(folder, read_ids(folder, "val"), Hierarchy.default())
    examples[0].label_map[:20, :30] = VOID
    return examples


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
