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

import gradio as gr
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hierseg.decoding import Scores, decode
from hierseg.errors import UserError
from hierseg.network import checkpoint
from hierseg.network.checkpoint import CheckpointError
from hierseg.network.model import ModelError, ModelSpec, build
from hierseg.page import payload
from hierseg.page.actions import Actions
from hierseg.page.app import load_predictors
from hierseg.page.blocks import FAILED, GuardedBlocks
from hierseg.page.environment import StartError
from hierseg.photo import Letterbox, PhotoError
from hierseg.photo.label_map import LabelMapError
from hierseg.photo.zoom import Window
from hierseg.predictor import Look, Prediction, Predictor
from hierseg.tree import Hierarchy, HierarchyError
from tests import REPOSITORY
from tests.server import finished


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
    for row, column in np.ndindex(leaf.shape):  # the rule in pure/decoding.js
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


def test_a_page_whose_example_cannot_be_segmented_opens_without(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions = Actions({"tiny": Predictor(tiny_checkpoint)})
    (tmp_path / "words.jpg").write_text("no photo")
    assert actions.example(tmp_path / "words.jpg") is None
    monkeypatch.setattr(actions, "_predict", lambda _: 1 / 0)  # as a card that only requests may use
    assert actions.example(REPOSITORY / "examples" / "camera.jpg") is None


def test_maps_tell_where_the_raw_scores_break_the_tree(scene: dict[str, Any]) -> None:
    np.testing.assert_array_equal(payload.maps(scene["prediction"])[-1], scene["prediction"].violations())


def test_a_ground_truth_is_brought_to_the_size_at_which_it_is_compared(tree: Hierarchy) -> None:
    truth = np.zeros((60, 80), np.uint8)
    truth[:30] = 4
    fitted = payload.fit_truth(truth, (60, 80), (30, 40), tree)
    assert fitted.shape == (30, 40)
    assert (fitted[:15] == 4).all() and (fitted[15:] == 0).all()
    with pytest.raises(HierarchyError, match="holds 77"):
        payload.fit_truth(np.full((30, 40), 77, np.uint8), (30, 40), (30, 40), tree)


@pytest.mark.parametrize(
    ("photo", "shown", "truth", "fits"),
    [
        ((1280, 1280), (1280, 1280), (1280, 1280), True),
        ((1280, 1280), (1280, 1280), (10, 11), False),
        ((1280, 1280), (1280, 1280), (1, 1), False),
        ((1280, 1280), (1280, 1280), (640, 640), False),
        ((2000, 3001), (853, 1280), (853, 1280), True),  # as it is shown
        ((2000, 3001), (853, 1280), (1333, 2000), True),  # between the two
        ((2000, 3001), (853, 1280), (852, 1280), False),
        ((2000, 3001), (853, 1280), (1280, 853), False),
        ((60, 80), (60, 80), (120, 160), True),
        ((3, 9000), (1, 1280), (3, 9000), True),
        ((9000, 3), (1280, 1), (9000, 3), True),
    ],
)
def test_a_ground_truth_has_the_photos_size_or_its_shape_and_no_less_than_is_shown(
    photo: tuple[int, int], shown: tuple[int, int], truth: tuple[int, int], fits: bool, tree: Hierarchy
) -> None:
    labels = np.zeros(truth, np.uint8)
    if fits:
        assert payload.fit_truth(labels, photo, shown, tree).shape == shown
        return
    sizes = f"{truth[1]} by {truth[0]} pixels and the photo {photo[1]} by {photo[0]}"
    with pytest.raises(LabelMapError, match=sizes):
        payload.fit_truth(labels, photo, shown, tree)


def _saved(path: Path, shape: tuple[int, int]) -> str:
    """Save a photo of some height and width, which is not of one colour."""
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        (np.full((48, 64), 77, np.uint8), "holds 77"),
        (np.zeros((10, 11), np.uint8), "11 by 10 pixels and the photo 64 by 48"),
        (b"words", "damaged or not a label map"),
        (None, "deleted ten minutes after they were sent"),
    ],
    ids=["labels", "size", "words", "deleted"],
)
def test_a_photo_is_answered_whatever_its_ground_truth_is(
    tiny_checkpoint: Path, tmp_path: Path, truth: npt.NDArray[np.uint8] | bytes | None, said: str
) -> None:
    predictor = Predictor(tiny_checkpoint)
    actions = Actions({"one": predictor, "other": predictor})
    photo, path = _saved(tmp_path / "photo.png", (48, 64)), tmp_path / "truth.npy"
    if isinstance(truth, bytes):
        path.write_bytes(truth)
    elif truth is not None:
        np.save(path, truth)
    shown = actions.show(photo, str(path))
    assert shown and said in shown["note"] and shown["truth"] is None
    assert "photo" in shown
    figures = actions.compare(photo, "parts", str(path))[1]
    assert said in figures["note"] and "iou" not in figures["checkpoints"]["one"]


def test_a_ground_truth_that_fails_on_the_server_is_logged_and_the_photo_answered(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(payload, "fit_truth", lambda *_: {}["a secret"])
    np.save(tmp_path / "truth.npy", np.zeros((48, 64), np.uint8))
    photo = _saved(tmp_path / "photo.png", (48, 64))
    shown = Actions({"tiny": Predictor(tiny_checkpoint)}).show(photo, str(tmp_path / "truth.npy"))
    assert shown and "photo" in shown and "failed on the server" in shown["note"]
    assert "a secret" in caplog.text and "a secret" not in shown["note"]


def test_a_ground_truth_of_a_large_photo_is_shown_with_the_size_at_which_it_is_compared(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    actions = Actions({"tiny": Predictor(tiny_checkpoint)})
    photo = _saved(tmp_path / "photo.png", (900, 1600))
    np.save(tmp_path / "truth.npy", np.zeros((900, 1600), np.uint8))
    with_truth, alone = actions.show(photo, str(tmp_path / "truth.npy")), actions.show(photo, None)
    assert with_truth and alone
    assert with_truth["note"] == "The ground truth is compared at 1280 by 720 pixels."
    assert alone["note"] == ""


def test_a_ground_truth_without_a_photo_takes_nothing_off_the_page(tiny_checkpoint: Path, tmp_path: Path) -> None:
    actions = Actions({"tiny": Predictor(tiny_checkpoint)})
    assert actions.show_truth(None, None) == gr.skip()
    with pytest.warns(UserWarning, match="Photos are deleted ten minutes after they were sent"):
        assert actions.show_truth(str(tmp_path / "gone.jpg"), None) == gr.skip()
    photo = _saved(tmp_path / "photo.png", (48, 64))
    assert actions.show_truth(photo, None) == actions.show(photo, None)


@pytest.mark.parametrize("shape", [(1, 1), (3, 9000), (9000, 3), (1, 2), (1280, 1281)])
def test_a_photo_of_any_shape_is_answered(tiny_checkpoint: Path, tmp_path: Path, shape: tuple[int, int]) -> None:
    predictor = Predictor(tiny_checkpoint)
    actions = Actions({"one": predictor, "other": predictor})
    photo, truth = _saved(tmp_path / "photo.png", shape), str(tmp_path / "truth.npy")
    np.save(truth, np.zeros(shape, np.uint8))
    shown = actions.show(photo, truth)
    assert shown and shown["original"] == [shape[1], shape[0]] and shown["truth"]
    width, height = _opened(shown["photo"]).size
    assert max(width, height) == min(max(shape), payload.VIEW_SIZE)
    packed = base64.b64decode(shown["checkpoints"][0]["maps"].split(",", 1)[1])
    assert len(zlib.decompress(packed)) == 6 * width * height
    url = "data:image/png;base64," + base64.b64encode(Path(photo).read_bytes()).decode()
    assert "photo" in finished(actions.segment_file(url))
    picture, mask, _ = actions.segment(photo, "one", "parts", 0.5)
    assert picture.size == mask.size == shape[::-1]
    picture, figures = actions.compare(photo, "parts", truth)
    assert picture.size == shape[::-1] and "iou" in figures["checkpoints"]["one"]


def test_all_that_a_person_can_cause_has_one_base_and_programs_find_it_as_a_value_error() -> None:
    for error in (PhotoError, LabelMapError, HierarchyError, CheckpointError, ModelError, StartError):
        assert issubclass(error, UserError) and issubclass(error, ValueError)


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
    for function, choices in (
        (actions.segment, ("tiny", "parts", 0.5)),
        (actions.compare, ("parts", None, "tiny", "b")),
    ):
        actions.predictors["b"] = predictor
        with pytest.raises(ValueError, match="a secret") as raised:  # for GuardedBlocks to log
            function(path, *choices)
        assert not isinstance(raised.value, gr.Error | UserError)
    assert "a secret" in caplog.text  # whoever runs the server is told
    predictor.network = network
    assert "photo" in actions.segment_frame(_frame(90))
    assert "photo" in finished(actions.segment_file(_frame(90)))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("Send a photo."), "Send a photo."),
        (PhotoError("This is not a photo."), "This is not a photo."),
        (ValueError("operands could not be broadcast together with shapes (2,) (3,)"), FAILED),
        (KeyError("head"), FAILED),
        (IndexError("index 9 is out of bounds"), FAILED),
    ],
    ids=repr,
)
def test_only_what_a_person_caused_is_told_and_all_else_is_logged(
    caplog: pytest.LogCaptureFixture, error: Exception, said: str
) -> None:
    def failing() -> None:
        raise error

    async def call() -> None:
        with GuardedBlocks(analytics_enabled=False) as blocks:
            button = gr.Button()
            button.click(failing, None, None)
        await blocks.process_api(block_fn=next(iter(blocks.fns.values())), inputs=[])

    with pytest.raises(gr.Error) as raised:
        finished(call())
    assert raised.value.message == said
    assert (type(error).__name__ in caplog.text) == (said == FAILED)


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
