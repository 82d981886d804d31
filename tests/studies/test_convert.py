"""Converted files of the predecessor give the results of the predecessor's own network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hierseg.network import _torchvision, checkpoint  # noqa: F401  # before smp
from hierseg.network.model import normalize
from hierseg.photo import open_photo
from hierseg.predictor import Predictor
from hierseg.tree import Hierarchy
from studies.predecessor.__main__ import main
from studies.predecessor.convert import SPEC, ConversionError, convert
from tests import REPOSITORY
from tests.data import LeavesAMark

import segmentation_models_pytorch as smp  # isort: skip

CAMERA = REPOSITORY / "examples" / "camera.jpg"


@pytest.fixture(scope="module")
def their_network() -> torch.nn.Module:
    """The predecessor's network with its sigmoid, random weights, and statistics that make its scores vary."""
    torch.manual_seed(0)
    network = smp.Unet("resnet101", encoder_weights=None, classes=9, activation="sigmoid")
    with torch.no_grad():
        for _ in range(8):
            network(torch.rand(2, 3, 64, 64))  # fills the running statistics
        network.segmentation_head[0].weight.mul_(4)
    return network.eval()


@pytest.fixture(scope="module")
def their_file(their_network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as the predecessor's notebook saves it."""
    optimizer = torch.optim.Adam(their_network.segmentation_head.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    path = tmp_path_factory.mktemp("predecessor") / "tree_min.pt"
    torch.save(
        {
            "epoch": 39,
            "model_state_dict": their_network.state_dict(),
            "optimizer_state_dict": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
            "losses": [0.5, 0.25],
        },
        path,
    )
    return path


@pytest.fixture(scope="module")
def converted(their_file: Path) -> Path:
    """The same, converted by the command."""
    out = their_file.with_name("predecessor-ftm.safetensors")
    assert main(["convert", str(their_file), "--out", str(out), "--title", "Theirs"]) == 0
    return out


def test_scores_are_those_of_the_predecessors_network(their_network: torch.nn.Module, converted: Path) -> None:
    prediction = Predictor(converted, "cpu").using(mirror=False, zoom=None).predict(CAMERA).whole
    red, green, blue = (round(mean * 255) for mean in SPEC.mean)
    canvas = prediction.letterbox.apply(open_photo(CAMERA), (red, green, blue))
    with torch.inference_mode():
        own = their_network(normalize(torch.from_numpy(canvas).permute(2, 0, 1), SPEC)[None])[0]
    # Weights are stored in half precision.
    np.testing.assert_allclose(prediction.scores, prediction.letterbox.crop(own.numpy()), atol=0.01, rtol=0)
    assert own.std() > 0.05


def test_the_card_says_where_the_weights_are_from(converted: Path, tree: Hierarchy) -> None:
    card = checkpoint.read_card(converted)
    assert (card.title, card.inference.threshold, card.hierarchy) == ("Theirs", 0.5, tree)
    assert card.record["source"] == {"file": "tree_min.pt", "epoch": 39}


def test_names_of_wrapped_networks_are_understood(
    their_network: torch.nn.Module, converted: Path, tmp_path: Path
) -> None:
    weights = {f"module._orig_mod.{name}": value for name, value in their_network.state_dict().items()}
    torch.save(weights, tmp_path / "bare.pt")  # also without the training state around it
    convert(tmp_path / "bare.pt", tmp_path / "bare.safetensors", "Bare")
    found, expected = (load_file(path) for path in (tmp_path / "bare.safetensors", converted))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    torch.save({"model_state_dict": LeavesAMark(tmp_path / "mark")}, tmp_path / "harmful.pt")
    with pytest.raises(ConversionError, match="nothing in it was run"):
        convert(tmp_path / "harmful.pt", tmp_path / "out.safetensors", "Harm")
    assert [path.name for path in tmp_path.iterdir()] == ["harmful.pt"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"epoch": 3}, "holds no model_state_dict"),
        ([1, 2], "holds a list"),
        ({"model_state_dict": {"weight": torch.zeros(2)}}, "does not hold a U-Net on ResNet101"),
        (None, "does not exist"),
        (b"not a pickle", "is damaged, or more than plain weights"),
        (b"", "is damaged, or more than plain weights"),
    ],
)
def test_other_files_end_with_status_1_and_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, said: str
) -> None:
    path = tmp_path / "file.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    out = tmp_path / "out.safetensors"
    assert main(["convert", str(path), "--out", str(out)]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and said in message and not out.exists()
