"""What the page gives the viewer, without a server."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import pickle
import sys
import zlib
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hierseg.decoding import Scores, decode
from hierseg.network import checkpoint
from hierseg.network.checkpoint import CheckpointError
from hierseg.network.model import ModelSpec, build
from hierseg.page import payload
from hierseg.page.actions import Actions
from hierseg.page.app import load_predictors
from hierseg.page.blocks import FAILED
from hierseg.photo import Letterbox
from hierseg.photo.zoom import Window
from hierseg.predictor import Look, Prediction, Predictor
from hierseg.tree import Hierarchy, HierarchyError
from tests.server import REPOSITORY, finished


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


def test_scene_holds_the_photo_and_the_very_maps(scene: dict[str, Any]) -> None:
    assert _opened(scene["photo"]).size == (512, 600)
    packed = base64.b64decode(scene["checkpoints"][0]["maps"].split(",", 1)[1])
    differences = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(-1, 512)
    maps = payload.maps(scene["prediction"]).reshape(-1, 512)
    np.testing.assert_array_equal(np.cumsum(differences, axis=0, dtype=np.uint8), maps)


@given(st.integers(0, payload.STEPS), st.integers(0, payload.STEPS), st.randoms(use_true_random=False))
def test_maps_say_all_that_decoding_needs(threshold: int, certainty: int, random: Random) -> None:
    tree = Hierarchy.default()
    scores = np.random.default_rng(random.getrandbits(32)).random((len(tree), 6, 7), dtype=np.float32)
    # Scores on steps and ends too, where rounding the wrong way would show.
    scores = np.where(scores < 0.5, np.round(scores * 20) / 20, scores).astype(np.float32)
    prediction = Prediction(tree, 0.5, whole=_look(scores))
    leaf, confidence, *along, _ = payload.maps(prediction)
    labels = np.zeros(leaf.shape, np.uint8)
    for row, column in np.ndindex(leaf.shape):  # the rule in scene.js
        if confidence[row, column] <= threshold:
            continue
        path = tree.lineages[leaf[row, column]]
        depth = 0
        while depth + 1 < len(path) and (certainty == 0 or along[depth + 1][row, column] > certainty):
            depth += 1
        labels[row, column] = tree.labels[path[depth]]
    expected = decode(scores, tree, threshold / payload.STEPS, certainty / payload.STEPS).labels
    # A score that is a step but for its last bit may fall to either side.
    close = np.isclose(scores * 100, np.round(scores * 100), atol=1e-4).any(axis=0)
    np.testing.assert_array_equal(labels[~close], expected[~close])
    assert (labels == expected).mean() > 0.8


def _look(scores: npt.NDArray[np.float32]) -> Look:
    height, width = scores.shape[1:]
    letterbox = Letterbox((height, width), (32, 32), (height, width), (0, 0))
    return Look(Window(0, 0, height, width), letterbox, scores)


def test_an_example_is_what_a_visitor_would_get_of_it_and_marked(tiny_checkpoint: Path) -> None:
    actions = Actions({"tiny": Predictor(tiny_checkpoint)})
    photo = REPOSITORY / "examples" / "camera.jpg"
    example, sent = actions.example(photo), actions.show(str(photo), None)
    assert example and sent
    assert example["example"] and not sent["example"]
    assert {key for key in sent if example[key] != sent[key]} == {"example", "note"}


def test_a_page_whose_example_cannot_be_taken_apart_opens_without(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions = Actions({"tiny": Predictor(tiny_checkpoint)})
    (tmp_path / "words.jpg").write_text("no photo")
    assert actions.example(tmp_path / "words.jpg") is None
    monkeypatch.setattr(actions, "_predict", lambda _: 1 / 0)  # as a card that only requests may use
    assert actions.example(REPOSITORY / "examples" / "camera.jpg") is None


def test_maps_tell_where_the_raw_scores_break_the_tree(scene: dict[str, Any]) -> None:
    np.testing.assert_array_equal(payload.maps(scene["prediction"])[-1], scene["prediction"].violations())


def test_a_ground_truth_is_brought_to_the_size_shown(tree: Hierarchy) -> None:
    truth = np.zeros((60, 80), np.uint8)
    truth[:30] = 4
    fitted = payload.fit_truth(truth, Image.new("RGB", (40, 30)), tree)
    assert fitted.shape == (30, 40)
    assert (fitted[:15] == 4).all() and (fitted[15:] == 0).all()
    with pytest.raises(HierarchyError, match="holds 77"):
        payload.fit_truth(np.full((30, 40), 77, np.uint8), Image.new("RGB", (40, 30)), tree)
    with pytest.raises(ValueError, match="another photo"):
        payload.fit_truth(truth, Image.new("RGB", (30, 40)), tree)


def _frame(shade: int) -> str:
    buffer = io.BytesIO()
    picture = Image.new("RGB", (64, 48), (shade, 90, 60))
    picture.paste((255, 255, 255), (20, 10, 40, 40))  # what has no contrast is not worked on
    picture.save(buffer, "JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def test_a_live_frame_becomes_a_scene(tiny_checkpoint: Path) -> None:
    made = Actions({"tiny": Predictor(tiny_checkpoint)}).segment_frame(_frame(200))
    assert _opened(made["photo"]).size == (64, 48)
    assert made["checkpoints"][0]["name"] == "tiny"


@pytest.mark.parametrize("frame", ["", "data:image/jpeg;base64,AAAA", "data:,%%%", "x" * 3_000_000, None, 7])
def test_a_frame_that_is_none_is_refused_with_a_sentence(tiny_checkpoint: Path, frame: Any) -> None:
    actions = Actions({"tiny": Predictor(tiny_checkpoint)})
    assert actions.segment_frame(frame)["message"]
    assert "photo" in actions.segment_frame(_frame(10))  # and the next one is served


def test_a_photo_of_several_is_shown_like_one_alone(tiny_checkpoint: Path) -> None:
    actions = Actions({"tiny": Predictor(tiny_checkpoint)})
    path = REPOSITORY / "examples" / "camera.jpg"
    url = "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
    assert finished(actions.segment_file(url)) == actions.show(str(path), None)
    assert "not a photo" in finished(actions.segment_file("data:,QUJD"))["message"]


def test_of_many_photos_some_wait_and_the_rest_are_asked_to_come_again(tiny_checkpoint: Path) -> None:
    actions = Actions({"tiny": Predictor(tiny_checkpoint)})

    async def send(count: int) -> list[dict[str, Any]]:
        return await asyncio.gather(*(actions.segment_file(_frame(90)) for _ in range(count)))

    answers = finished(send(40))
    assert answers[-1] == {"busy": True}
    served = [answer for answer in answers if "photo" in answer]
    assert len(served) == 32 and answers.count({"busy": True}) == 8
    assert "photo" in finished(send(1))[0]  # and whoever comes again is served


def test_a_network_that_fails_is_told_in_a_sentence_and_the_next_photo_is_served(
    tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    predictor = Predictor(tiny_checkpoint)
    actions = Actions({"tiny": predictor})
    path = str(REPOSITORY / "examples" / "camera.jpg")
    network = predictor.network

    def failing(_: npt.NDArray[np.uint8]) -> Scores:
        raise ValueError("a secret of the machine")

    predictor.network = failing  # type: ignore[assignment]
    answers = [
        actions.show(path, None),
        actions.segment_frame(_frame(90)),
        finished(actions.segment_file(_frame(90))),
    ]
    assert answers == [{"message": FAILED}] * 3
    assert "a secret" in caplog.text  # whoever runs the server is told
    predictor.network = network
    assert "photo" in actions.segment_frame(_frame(90))
    assert "photo" in finished(actions.segment_file(_frame(90)))


def test_live_frames_are_dropped_while_one_is_worked_on(tiny_checkpoint: Path) -> None:
    predictor = Predictor(tiny_checkpoint)
    actions = Actions({"tiny": predictor})
    inner: list[dict[str, Any]] = []
    network = predictor.network

    def interrupted(pictures: npt.NDArray[np.uint8]) -> Scores:
        inner.append(actions.segment_frame(_frame(20)))
        return network(pictures)

    predictor.network = interrupted  # type: ignore[assignment]
    assert "photo" in actions.segment_frame(_frame(10))
    assert inner == [{"busy": True}]


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


def test_on_a_zero_gpu_space_every_network_runs_on_the_card(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    spaces = ModuleType("spaces")

    def gpu(function: Any) -> Any:
        def run(*arguments: Any, **options: Any) -> Any:
            assert pickle.loads(pickle.dumps((arguments, options))) is not None
            calls.append(function.__name__)
            return pickle.loads(pickle.dumps(function(*arguments, **options)))

        return run

    monkeypatch.setattr(spaces, "GPU", gpu, raising=False)
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    path = str(REPOSITORY / "examples" / "camera.jpg")
    on_card = Actions({"tiny": Predictor(tiny_checkpoint)})
    shown = on_card.show(path, None)
    on_card.segment_frame(_frame(90))
    on_card.segment(path, "tiny", "parts", 0.5)
    assert len(calls) == 3
    monkeypatch.delitem(sys.modules, "spaces")
    assert Actions({"tiny": Predictor(tiny_checkpoint)}).show(path, None) == shown
