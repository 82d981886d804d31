"""What the page gives the viewer, without a server."""

from __future__ import annotations

import dataclasses
import io
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

from hierseg.calibration import calibrated
from hierseg.decoding import decode
from hierseg.errors import UserError
from hierseg.network import checkpoint
from hierseg.network.checkpoint import CheckpointError
from hierseg.network.model import ModelError, ModelSpec, build
from hierseg.page import payload
from hierseg.page.actions import Actions
from hierseg.page.app import load_predictors
from hierseg.page.blocks import FAILED, GuardedBlocks
from hierseg.page.environment import StartError
from hierseg.photo import PhotoError, open_photo
from hierseg.photo.label_map import LabelMapError
from hierseg.predictor import Predictor
from hierseg.tree import Hierarchy, HierarchyError
from tests import REPOSITORY
from tests.server import finished, messages
from tests.trees import prediction_of


@pytest.fixture
def two(tiny_checkpoint: Path) -> Actions:
    """What the page does with two checkpoints, which are the same."""
    predictor = Predictor(tiny_checkpoint)
    return Actions({"one": predictor, "other": predictor})


def _opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def _shown(actions: Actions, photo: bytes | Path, **options: Any) -> dict[str, Any]:
    """Return what the viewer is given of a photo."""
    (value,) = messages(actions.show(photo if isinstance(photo, bytes) else photo.read_bytes(), **options))
    return value


CAMERA = REPOSITORY / "examples" / "camera.jpg"


def test_a_scene_holds_the_photo_and_the_very_maps(tiny_checkpoint: Path) -> None:
    predictors = {"tiny": Predictor(tiny_checkpoint)}
    shown = open_photo(REPOSITORY / "examples" / "grace_hopper.jpg")
    prediction = predictors["tiny"].predict(shown)
    (scene,) = messages(payload.scene(shown, predictors, {"tiny": prediction}))
    assert scene["checkpoints"][0]["name"] == "tiny"
    photo, packed = scene["parts"]
    assert _opened(photo).size == (512, 600)
    differences = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(-1, 512)
    maps = payload.maps(prediction)
    np.testing.assert_array_equal(np.cumsum(differences, axis=0, dtype=np.uint8), maps.reshape(-1, 512))
    on = np.unpackbits(maps[-2:], axis=0, bitorder="little")  # eight nodes in the first of them, one in the second
    np.testing.assert_array_equal(on[:9], prediction.scores > 0.5)


def test_a_scene_of_some_checkpoints_holds_their_maps_and_names_all(two: Actions) -> None:
    whole, some = _shown(two, CAMERA, thorough=False), _shown(two, CAMERA, names=("other",), thorough=False)
    assert [each["name"] for each in some["checkpoints"]] == ["other"]
    assert some["offered"] == whole["offered"]
    assert [each["name"] for each in some["offered"]] == ["one", "other"]
    assert some["parts"] == [whole["parts"][0], whole["parts"][2]]
    with pytest.raises(UserError, match="no checkpoint 'third'"):
        two.show(CAMERA.read_bytes(), ("one", "third"))


MEASURED = {
    "photos": 5,
    "protocol": {"split": "val"},
    "dataset_iou": {"levels": {"body": 0.8, "upper-lower": 0.7, "parts": 0.6}},
}
NOT_MEASURED: list[Any] = [
    None,
    "good",
    {**MEASURED, "photos": "many"},
    {**MEASURED, "protocol": None},
    {**MEASURED, "dataset_iou": {"levels": {"body": 0.8}}},
    {**MEASURED, "dataset_iou": {"levels": {"body": 0.8, "upper-lower": float("nan"), "parts": 0.6}}},
    {**MEASURED, "dataset_iou": {"levels": {"body": 0.8, "upper-lower": 0.7, "parts": 7}}},
    {**MEASURED, "violations_of_person": {"median": float("inf")}},
    {**MEASURED, "violations_of_person": [0.1]},
]


def _told(tiny_checkpoint: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return what the viewer is told of a checkpoint with some record."""
    tiny = Predictor(tiny_checkpoint)
    tiny.card = dataclasses.replace(tiny.card, record=record)
    photo = np.zeros((8, 8, 3), np.uint8)
    (scene,) = messages(payload.scene(photo, {"tiny": tiny}, {"tiny": tiny.predict(photo)}))
    return dict(scene["checkpoints"][0])


def test_a_checkpoint_is_told_of_with_its_loss_and_what_its_record_says(tiny_checkpoint: Path) -> None:
    told = _told(tiny_checkpoint, {"loss": "focal_tree_min", "figures": MEASURED})
    assert told["loss"]["title"] == "Focal-Tree-Min" and told["loss"]["tree"]
    expected = {"photos": 5, "split": "val", "iou": MEASURED["dataset_iou"]["levels"], "violations_of_person": None}
    assert told["figures"] == expected
    for median, said in ((0.2, 0.2), (None, None)):  # None where nobody was found
        figures = {**MEASURED, "violations_of_person": {"photos": 5, "median": median, "mean": 0.3}}
        assert _told(tiny_checkpoint, {"figures": figures})["figures"] == {**expected, "violations_of_person": said}


@pytest.mark.parametrize("loss", [None, "mine", ["bce"]])
@pytest.mark.parametrize("figures", NOT_MEASURED)
def test_a_record_that_says_something_else_is_not_quoted(tiny_checkpoint: Path, loss: Any, figures: Any) -> None:
    told = _told(tiny_checkpoint, {"loss": loss, "figures": figures})
    assert told["loss"] is None and told["figures"] is None


@given(st.integers(0, payload.STEPS), st.integers(0, payload.STEPS), st.randoms(use_true_random=False))
def test_maps_say_all_that_decoding_needs(threshold: int, certainty: int, random: Random) -> None:
    tree = Hierarchy.default()
    scores = np.random.default_rng(random.getrandbits(32)).random((len(tree), 6, 7), dtype=np.float32)
    # Scores on steps and ends too, where rounding the wrong way would show.
    scores = np.where(scores < 0.5, np.round(scores * 20) / 20, scores).astype(np.float32)
    lines = random.choice([None, tuple((random.uniform(0, 3), random.uniform(-2, 2)) for _ in tree.nodes)])
    prediction = prediction_of(scores, tree, lines=lines)
    leaf, confidence, *along = payload.maps(prediction)
    labels = np.zeros(leaf.shape, np.uint8)
    for row, column in np.ndindex(leaf.shape):  # the rule in pure/decoding.js
        if confidence[row, column] <= threshold:
            continue
        path = tree.lineages[leaf[row, column]]
        depth = 0
        while depth + 1 < len(path) and (certainty == 0 or along[depth + 1][row, column] > certainty):
            depth += 1
        labels[row, column] = tree.labels[path[depth]]
    expected = decode(scores, tree, threshold / payload.STEPS, certainty / payload.STEPS, lines).labels
    # A score that is a step but for its last bit may fall to either side.
    compared = np.concatenate([scores, calibrated(scores, lines)])
    close = np.isclose(compared * 100, np.round(compared * 100), atol=1e-4).any(axis=0)
    np.testing.assert_array_equal(labels[~close], expected[~close])
    assert (labels == expected).mean() > 0.8


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


def _png(shape: tuple[int, int]) -> bytes:
    """Return a photo of some height and width, which is not of one colour."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("truth", "said"),
    [
        (np.full((48, 64), 77, np.uint8), "holds 77"),
        (np.zeros((10, 11), np.uint8), "11 by 10 pixels and the photo 64 by 48"),
        (b"words", "damaged or not a label map"),
    ],
    ids=["labels", "size", "words"],
)
def test_a_photo_is_answered_whatever_its_ground_truth_is(
    two: Actions, tmp_path: Path, truth: npt.NDArray[np.uint8] | bytes, said: str
) -> None:
    photo, path = tmp_path / "photo.png", tmp_path / "truth.npy"
    photo.write_bytes(_png((48, 64)))
    if isinstance(truth, bytes):
        path.write_bytes(truth)
    else:
        np.save(path, truth)
    with pytest.raises(UserError, match=said):
        two.fit_truth(path.read_bytes(), 48, 64)
    figures = two.compare(str(photo), "parts", str(path))[1]
    assert said in figures["note"] and "iou" not in figures["checkpoints"]["one"]


def test_a_ground_truth_that_fails_on_the_server_is_logged_and_the_photo_answered(
    two: Actions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(payload, "fit_truth", lambda *_: {}["a secret"])
    np.save(tmp_path / "truth.npy", np.zeros((48, 64), np.uint8))
    (tmp_path / "photo.png").write_bytes(_png((48, 64)))
    note = two.compare(str(tmp_path / "photo.png"), "parts", str(tmp_path / "truth.npy"))[1]["note"]
    assert "failed on the server" in note and "a secret" not in note
    assert "a secret" in caplog.text


def test_a_ground_truth_of_a_large_photo_names_the_size_at_which_it_is_compared(two: Actions, tmp_path: Path) -> None:
    for shape, note in (((900, 1600), "The ground truth is compared at 1280 by 720 pixels."), ((48, 64), "")):
        np.save(tmp_path / "truth.npy", np.zeros(shape, np.uint8))
        (value,) = messages(two.fit_truth((tmp_path / "truth.npy").read_bytes(), *shape))
        assert value["note"] == note
        height, width = payload.shown_size(*shape)
        assert zlib.decompress(value["parts"][0]) == bytes(height * width)


@pytest.mark.parametrize("shape", [(1, 1), (3, 9000), (9000, 3), (1, 2), (1280, 1281)])
def test_a_photo_of_any_shape_is_answered(two: Actions, tmp_path: Path, shape: tuple[int, int]) -> None:
    photo, truth = str(tmp_path / "photo.png"), str(tmp_path / "truth.npy")
    Path(photo).write_bytes(_png(shape))
    np.save(truth, np.zeros(shape, np.uint8))
    shown = _shown(two, Path(photo))
    assert shown["original"] == [shape[1], shape[0]]
    width, height = _opened(shown["parts"][0]).size
    assert max(width, height) == min(max(shape), payload.VIEW_SIZE)
    # Leaf, mean, three depths, and nine bits in two.
    assert len(zlib.decompress(shown["parts"][1])) == 7 * width * height
    picture, mask, _ = two.segment(photo, "one", "parts", 0.5)
    assert picture.size == mask.size == shape[::-1]
    picture, figures = two.compare(photo, "parts", truth)
    assert picture.size == shape[::-1] and "iou" in figures["checkpoints"]["one"]


def test_all_that_a_person_can_cause_has_one_base_and_programs_find_it_as_a_value_error() -> None:
    for error in (PhotoError, LabelMapError, HierarchyError, CheckpointError, ModelError, StartError):
        assert issubclass(error, UserError) and issubclass(error, ValueError)


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


def test_large_photos_are_shrunk_and_small_ones_left() -> None:
    assert payload.shrink(np.zeros((1000, 4000, 3), np.uint8)).shape == (320, 1280, 3)
    assert payload.shrink(np.zeros((30, 20, 3), np.uint8)).shape == (30, 20, 3)


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
    on_card = Actions({"tiny": Predictor(tiny_checkpoint)})
    shown = on_card.show(CAMERA.read_bytes())
    on_card.show(CAMERA.read_bytes(), thorough=False)
    on_card.segment(str(CAMERA), "tiny", "parts", 0.5)
    assert len(calls) == 3
    monkeypatch.delitem(sys.modules, "spaces")
    assert Actions({"tiny": Predictor(tiny_checkpoint)}).show(CAMERA.read_bytes()) == shown
