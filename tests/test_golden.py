"""Outputs equal the stored ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from hierseg.network import checkpoint
from hierseg.predictor import Predictor
from tests import CHECKPOINTS, REPOSITORY, golden
from tests.rounding import assert_labels


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_masks_of_the_examples_are_those_that_are_stored(name: str) -> None:
    predictor = Predictor(name)
    for photo in golden.PHOTOS:
        prediction = predictor.predict(REPOSITORY / "examples" / f"{photo}.jpg")
        assert_labels(golden.mask(name, photo), prediction)


def test_losses_and_figures_are_those_that_are_stored() -> None:
    for name, found in (("losses", golden.losses()), ("figures", golden.figures())):
        stored = json.loads((golden.FOLDER / f"{name}.json").read_text())
        assert _flat(found) == pytest.approx(_flat(stored), rel=1e-6)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_that_is_read_and_written_again_keeps_every_tensor(name: str, tmp_path: Path) -> None:
    path = checkpoint.find(name)
    model, card = checkpoint.load(path)
    again = tmp_path / "again.safetensors"
    checkpoint.save(again, model, card)
    before, after = load_file(path), load_file(again)
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        np.testing.assert_array_equal(after[key], tensor, strict=True)


def _flat(values: Any, key: str = "") -> dict[str, float]:
    """Return nested figures by path, without those that could not be measured."""
    if not isinstance(values, dict):
        return {} if values is None else {key: values}
    return {path: value for name, each in values.items() for path, value in _flat(each, f"{key}/{name}").items()}
