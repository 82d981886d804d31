"""Every engine gives PyTorch's results, and an exported file is used only with the checkpoint that it was made from."""

from __future__ import annotations

import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from hierseg.inference import Inference
from hierseg.network import checkpoint
from hierseg.network.activations import ACTIVATIONS
from hierseg.network.checkpoint import Card, CheckpointError
from hierseg.network.engines import EXPORTED, OnnxNetwork, TorchNetwork, open_network
from hierseg.network.model import ModelSpec, normalize
from hierseg.predictor import Predictor
from hierseg.tree import Hierarchy
from tests import CHECKPOINTS, REPOSITORY
from tests.networks import lively
from tests.rounding import APART
from train.__main__ import main
from train.export import export

ENCODER = "tu-test_efficientnet"
SPECS = {
    "SegFormer's decoder": ModelSpec(
        "Segformer", ENCODER, input_size=64, options={"decoder_segmentation_channels": 12}, mean=(0.4, 0.5, 0.6)
    ),
    "padding like TensorFlow's": ModelSpec(
        "Segformer", "tu-tf_efficientnet_lite0", input_size=64, options={"decoder_segmentation_channels": 16}
    ),
    "guided enlarging": ModelSpec(
        "GuidedSegformer", ENCODER, input_size=64, options={"decoder_segmentation_channels": 12}
    ),
    "a U-Net with a softmax over leaves": ModelSpec(
        "Unet", ENCODER, input_size=64, options={"decoder_channels": [8, 8, 8, 8, 8]}, activation="leaf_softmax"
    ),
    "FPN with a softmax a level": ModelSpec("FPN", ENCODER, input_size=64, activation="level_softmax"),
}
SHAPES = [(1, 32, 32), (2, 64, 96), (1, 96, 64), (3, 32, 160)]


def trained(spec: ModelSpec) -> nn.Module:
    return lively(spec, seed=3, spread=1, side=96)


every_spec = pytest.mark.parametrize("exported", SPECS.values(), indirect=True, ids=SPECS.keys(), scope="module")


@pytest.fixture(scope="module")
def exported(request: pytest.FixtureRequest, tree: Hierarchy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a spec that tests may choose, and its exported file."""
    spec = getattr(request, "param", SPECS["SegFormer's decoder"])
    path = tmp_path_factory.mktemp("exported") / "net.safetensors"
    checkpoint.save(path, trained(spec), Card(spec, tree, "Net", Inference(threshold=0.45)))
    assert export(path) == path.with_suffix(".onnx")
    return path


@pytest.fixture
def own(exported: Path, tmp_path: Path) -> Path:
    """A copy of both files that tests may damage."""
    for file in (exported, exported.with_suffix(".onnx")):
        shutil.copy(file, tmp_path)
    return tmp_path / exported.name


def pictures(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(shape).integers(0, 256, (*shape, 3), dtype=np.uint8)


@every_spec
@pytest.mark.parametrize("shape", SHAPES)
def test_an_exported_network_gives_what_pytorch_gives(exported: Path, shape: tuple[int, int, int]) -> None:
    reference, fast = open_network(exported, "cpu"), open_network(exported)
    assert isinstance(reference, TorchNetwork) and isinstance(fast, OnnxNetwork)
    expected, scores = reference(pictures(*shape)), fast(pictures(*shape))
    assert (scores.shape, scores.dtype) == ((shape[0], 9, *shape[1:]), np.float32)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=APART)
    assert expected.std() > 0.05


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_scores_are_those_of_the_checkpoints_activation_and_tree(activation: str, tmp_path: Path) -> None:
    leaf = {"name": "bird", "label": 3}
    tree = Hierarchy.from_dict(
        {
            "levels": ["all", "some"],
            "tree": [
                leaf,
                {"name": "cat", "children": [{"name": "tabby", "label": 1}, {"name": "tortoiseshell", "label": 2}]},
            ],
        }
    )
    spec = dataclasses.replace(SPECS["SegFormer's decoder"], classes=len(tree), activation=activation)
    path = tmp_path / "net.safetensors"
    checkpoint.save(path, trained(spec), Card(spec, tree, "Net"))
    canvas = pictures(1, 32, 64)
    with torch.inference_mode():
        photo = torch.from_numpy(canvas).permute(0, 3, 1, 2)
        expected = ACTIVATIONS[activation](checkpoint.load(path)[0](normalize(photo, spec)), tree)
    # PyTorch too adds up in another order for pictures whose channels lie last.
    np.testing.assert_allclose(open_network(path)(canvas), expected.numpy(), rtol=0, atol=APART)
    export(path)
    assert isinstance(open_network(path), OnnxNetwork)
    np.testing.assert_allclose(open_network(path)(canvas), expected.numpy(), rtol=0, atol=APART)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_exporting_leaves_the_checkpoint_as_it_was_but_for_the_record(
    spec: ModelSpec, tree: Hierarchy, tmp_path: Path
) -> None:
    path = tmp_path / "net.safetensors"
    checkpoint.save(path, trained(spec), Card(spec, tree, "Net", Inference(threshold=0.45), {"loss": "bce"}))
    before, card = checkpoint.load(path)
    export(path)
    after, found = checkpoint.load(path)
    assert found == checkpoint.with_record(card, **{EXPORTED: found.record[EXPORTED]})
    for name, tensor in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], tensor)


@every_spec
def test_exporting_twice_gives_the_same_file(own: Path) -> None:
    first = own.with_suffix(".onnx").read_bytes()
    export(own)
    assert own.with_suffix(".onnx").read_bytes() == first


@every_spec
def test_a_file_of_an_exported_network_is_hardly_larger_than_its_checkpoint(exported: Path) -> None:
    assert exported.with_suffix(".onnx").stat().st_size < 1.2 * exported.stat().st_size + 100_000


def test_without_its_file_a_checkpoint_runs_on_pytorch(own: Path) -> None:
    own.with_suffix(".onnx").unlink()
    assert isinstance(open_network(own), TorchNetwork)


def test_weights_trained_after_the_export_are_not_mistaken_for_it(own: Path) -> None:
    _, card = checkpoint.load(own)
    checkpoint.save(own, trained(card.spec), Card(card.spec, card.hierarchy, "Net"))
    assert isinstance(open_network(own), TorchNetwork)


def test_networks_that_run_at_once_in_the_memory_they_share_do_not_mix(exported: Path) -> None:
    networks = [open_network(exported) for _ in range(2)]
    asked = [(networks[number % 2], pictures(*SHAPES[number % len(SHAPES)])) for number in range(40)]
    expected = [network(each) for network, each in asked]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: one[0](one[1]), asked))
    for first, second in zip(expected, found, strict=True):
        np.testing.assert_allclose(first, second, rtol=0, atol=APART)


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "another's"])
def test_a_damaged_file_is_refused_by_name(own: Path, harm: str) -> None:
    file = own.with_suffix(".onnx")
    content = bytearray(file.read_bytes())
    if harm == "flipped":
        content[len(content) // 2] ^= 1
    file.write_bytes({"cut": content[:-100], "flipped": content, "empty": b"", "another's": content + b" "}[harm])
    with pytest.raises(CheckpointError, match=r"net\.onnx is damaged.*python -m train export"):
        open_network(own)
    assert isinstance(open_network(own, "cpu"), TorchNetwork)


def test_the_command_exports_by_path(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own.with_suffix(".onnx").unlink()
    assert main(["export", str(own)]) == 0
    assert capsys.readouterr().out.strip() == str(own.with_suffix(".onnx"))
    assert isinstance(open_network(own), OnnxNetwork)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_published_masks_are_the_references(name: str) -> None:
    fast, reference = Predictor(name), Predictor(name, "cpu")
    assert (fast.network.engine, reference.network.engine) == ("ONNX Runtime", "PyTorch")
    for photo in sorted((REPOSITORY / "examples").glob("*.jpg")):
        found, expected = fast.predict(photo), reference.predict(photo)
        np.testing.assert_allclose(found.whole.scores, expected.whole.scores, rtol=0, atol=1e-4)
        assert (found.labels != expected.labels).mean() < 1e-4
