"""What the page gives the viewer, without a server."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hierseg import checkpoint
from hierseg.checkpoint import CheckpointError
from hierseg.hierarchy import Hierarchy
from hierseg.model import ModelSpec, build
from hierseg.predictor import Predictor
from hierseg.web import payload
from hierseg.web.page import load_predictors
from tests.server import REPOSITORY


def _opened(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.split(",", 1)[1])))


@pytest.fixture(scope="module")
def scene(tiny_checkpoint: Path) -> dict[str, Any]:
    predictors = {"tiny": Predictor(tiny_checkpoint)}
    shown = Image.open(REPOSITORY / "examples" / "grace_hopper.jpg")
    predictions = {name: predictor.predict(shown) for name, predictor in predictors.items()}
    made = payload.scene(shown, predictors, predictions)
    made["prediction"] = predictions["tiny"]
    return made


def test_scene_is_plain_json(scene: dict[str, Any]) -> None:
    json.dumps({key: value for key, value in scene.items() if key != "prediction"})


def test_scene_holds_the_photo_and_the_very_labels(scene: dict[str, Any]) -> None:
    labels = _opened(scene["checkpoints"][0]["labels"])
    assert labels.mode == "L"
    np.testing.assert_array_equal(np.array(labels), scene["prediction"].labels)
    assert _opened(scene["photo"]).size == labels.size == (512, 600)


def test_scene_lets_the_viewer_find_each_level_as_the_library_does(scene: dict[str, Any], tree: Hierarchy) -> None:
    for depth, level in enumerate(scene["levels"]):
        table = np.zeros(256, np.uint8)
        for node in scene["nodes"]:  # the rule in viewer.js
            table[node["label"]] = node["path"][min(depth, len(node["path"]) - 1)]
        np.testing.assert_array_equal(table[scene["prediction"].labels], scene["prediction"].at_level(level))


def test_large_photos_are_shrunk_and_small_ones_left() -> None:
    assert payload.shrink(np.zeros((1000, 4000, 3), np.uint8)).size == (1280, 320)
    assert payload.shrink(np.zeros((30, 20, 3), np.uint8)).size == (20, 30)


def test_page_refuses_a_folder_without_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_predictors(tmp_path)


def test_page_refuses_checkpoints_of_different_trees(tmp_path: Path, tiny_spec: ModelSpec, tree: Hierarchy) -> None:
    other = Hierarchy.from_dict({**tree.to_dict(), "name": "other", "void": 254})
    for name, kind in (("one", tree), ("two", other)):
        checkpoint.save(tmp_path / f"{name}.safetensors", build(tiny_spec), checkpoint.Card(tiny_spec, kind, name))
    with pytest.raises(CheckpointError, match="different trees"):
        load_predictors(tmp_path)
