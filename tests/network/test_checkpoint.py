"""A checkpoint loads exactly as it was saved, is written atomically, and no other file is accepted."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import io
import json
import pickle
import re
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hierseg import __version__
from hierseg.inference import Inference, Zoom
from hierseg.network import checkpoint
from hierseg.network.checkpoint import Card, CheckpointError, available, find, load, read_card, save, write_card
from hierseg.network.model import ModelSpec
from hierseg.tree import Hierarchy
from tests import CHECKPOINTS
from tests.data import LeavesAMark
from tests.networks import warmed_up

Forge = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def network(tiny_spec: ModelSpec) -> nn.Module:
    """A tiny network whose batch norms have seen data, so that its output varies from pixel to pixel."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        network, _ = warmed_up(tiny_spec)
    assert outputs(network).std() > 0.1
    return network


@pytest.fixture(scope="module")
def card(tiny_spec: ModelSpec, tree: Hierarchy) -> Card:
    """A card with every field filled."""
    record = {"loss": "ftm", "figures": {"iou": [0.5, None, True]}}
    return Card(tiny_spec, tree, "Focal-Tree-Min", Inference(320, threshold=0.37), record)


@pytest.fixture(scope="module")
def saved(network: nn.Module, card: Card, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid file; tests that change it work on a copy."""
    path = tmp_path_factory.mktemp("saved") / "ftm.safetensors"
    save(path, network, card)
    return path


@torch.inference_mode()
def outputs(network: nn.Module) -> Tensor:
    return torch.as_tensor(network(torch.linspace(-1, 1, 3 * 64 * 64).sin().view(1, 3, 64, 64)))


def tensors_and_metadata(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safetensors.safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118  # no mapping


def forged(saved: Path, path: Path, change: Forge, sealed: bool = True) -> Path:
    """Write a copy with other metadata, with or without a checksum that fits them."""
    tensors, metadata = tensors_and_metadata(saved)
    content = json.loads(metadata["hierseg"])
    change(content)
    if sealed:
        del content["metadata_sha256"]
        content["metadata_sha256"] = twin_of_the_metadata_checksum(content)
    safetensors.torch.save_file(tensors, path, {"hierseg": json.dumps(content)})
    return path


def twin_of_the_metadata_checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def assert_refused(path: Path, match: str, *readers: Callable[[Path], object]) -> None:
    for reader in readers or (load, read_card):
        with pytest.raises(CheckpointError, match=match) as refusal:
            reader(path)
        sentence = str(refusal.value)
        assert str(path) in sentence
        # A library's message about a network that it cannot build helps, plain or not.
        assert sentence[-1] == "." or "segmentation_models_pytorch" in sentence
        for word in ("Error", "Exception", "Traceback", "deserializ", "NoneType", "dict", "\n"):
            assert word not in sentence.replace(str(path), "")


# There and back ------------------------------------------------------------------------------------------------------


def test_half_precision_rounds_weights_and_keeps_vectors(network: nn.Module, saved: Path) -> None:
    loaded, _ = load(saved)
    stored, _ = tensors_and_metadata(saved)
    assert loaded.state_dict().keys() == network.state_dict().keys()
    assert not any(module.training for module in loaded.modules())
    for name, tensor in network.state_dict().items():
        expected = tensor.half().float() if tensor.ndim > 1 else tensor
        assert torch.equal(loaded.state_dict()[name], expected)
        assert loaded.state_dict()[name].dtype == tensor.dtype
        assert stored[name].dtype == (torch.float16 if tensor.ndim > 1 else tensor.dtype)
    spread = outputs(network).std()
    assert (outputs(loaded) - outputs(network)).abs().max() < 0.01 * spread
    assert not torch.equal(outputs(loaded), outputs(network))


def test_saving_leaves_the_network_as_it_is(network: nn.Module, card: Card, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    save(tmp_path / "one.safetensors", network.train(), card)
    assert network.training
    network.eval()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


inferences = st.builds(
    Inference,
    input_size=st.none() | st.integers(1),
    mirror=st.booleans(),
    mirror_size=st.none() | st.integers(1),
    zoom=st.none() | st.builds(Zoom, windows=st.integers(1, 9), weight=st.floats(0, 1)),
    threshold=st.floats(0, 1),
)


@settings(max_examples=25)  # each one is a file flushed to the disk
@given(st.text(max_size=30), inferences, st.dictionaries(st.text(max_size=8), json_values))
def test_every_card_comes_back_equal(
    tree: Hierarchy, tmp_path_factory: pytest.TempPathFactory, title: str, inference: Inference, record: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("card") / "card.safetensors"
    card = Card(ModelSpec(mean=(0.1, 0.2, 0.3)), tree, title, inference, record)
    save(path, nn.Linear(1, 1), card)
    assert read_card(path) == card


def test_writing_a_card_changes_nothing_else(network: nn.Module, card: Card, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save(path, network, card)
    before = path.read_bytes()
    other = dataclasses.replace(card, title="Other", inference=Inference(384, mirror=False, zoom=None))
    write_card(path, other)
    assert read_card(path) == other
    write_card(path, card)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_files_that_are_older_than_their_inference_are_used_as_ever(name: str) -> None:
    path = find(name).parent / "stages" / f"{name}-1.safetensors"
    assert b"inference" not in path.read_bytes()
    zoom = Zoom(3, 0.3, 0.25, 0.2, 0.7, 0.6, 0.7, 0.12)
    expected = Inference(None, mirror=True, mirror_size=None, zoom=zoom, threshold=read_card(path).inference.threshold)
    assert read_card(path).inference == expected


def test_the_metadata_say_all_that_is_needed_to_use_and_to_trust_the_file(saved: Path, card: Card) -> None:
    data = saved.read_bytes()  # by the format's own description, so that any program can read it
    (length,) = struct.unpack("<Q", data[:8])
    content = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["hierseg"])
    assert content.pop("metadata_sha256") == twin_of_the_metadata_checksum(content)
    assert content.pop("sha256") == twin_of_the_weights_checksum(saved)
    assert content == {
        "format": "hierseg-1",
        "spec": json.loads(json.dumps(card.spec.to_dict())),
        "hierarchy": card.hierarchy.to_dict(),
        "title": card.title,
        "inference": dataclasses.asdict(card.inference),
        "record": card.record,
        "version": __version__,
    }


def twin_of_the_weights_checksum(path: Path) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors_and_metadata(path)[0].items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


# Damage --------------------------------------------------------------------------------------------------------------


@given(data=st.data())
def test_no_flipped_bit_that_means_anything_goes_unnoticed(
    data: st.DataObject, saved: Path, card: Card, tmp_path_factory: pytest.TempPathFactory
) -> None:
    sound = bytearray(saved.read_bytes())
    header = 8 + struct.unpack("<Q", sound[:8])[0]
    offset = data.draw(st.integers(0, 7) | st.integers(8, header - 1) | st.integers(header, len(sound) - 1))
    sound[offset] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.mktemp("flipped") / "flipped.safetensors"
    path.write_bytes(sound)
    try:
        network, found = load(path)
    except CheckpointError as refusal:
        assert str(path) in str(refusal)
    else:  # JSON has two ways to write some things, such as 1e-5 and 1E-5
        assert offset < header
        assert found == card
        assert torch.equal(outputs(network), outputs(load(saved)[0]))


def test_no_truncation_goes_unnoticed(saved: Path, tmp_path: Path) -> None:
    sound = saved.read_bytes()
    header = 8 + struct.unpack("<Q", sound[:8])[0]
    path = tmp_path / "short.safetensors"
    for length in (0, 1, 7, 8, 9, header // 2, header - 1, header, header + 1, len(sound) // 2, len(sound) - 1):
        path.write_bytes(sound[:length])
        assert_refused(path, "damaged")


CHANGES: dict[str, Forge] = {
    "title": lambda content: content.update(title="Binary cross-entropy"),
    "colour": lambda content: content["hierarchy"]["tree"][0].update(color="#000000"),
    "weights' checksum": lambda content: content.update(sha256="0" * 64),
    "format": lambda content: content.update(format="hierseg-3"),
    "extra": lambda content: content.update(extra=1),
    "no checksum": lambda content: content.pop("metadata_sha256"),
    "no weights' checksum": lambda content: content.pop("sha256"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_no_change_of_the_metadata_goes_unnoticed(change: Forge, saved: Path, tmp_path: Path) -> None:
    path = forged(saved, tmp_path / "changed.safetensors", change, sealed=False)
    assert_refused(path, "metadata do not match their checksum|not a hierseg checkpoint")


@pytest.mark.parametrize("kind", ["F4", "F6_E2M3", "F8_E8M0", "C64", "X9"])
def test_a_type_of_numbers_that_is_unknown_is_refused(kind: str, saved: Path, tmp_path: Path) -> None:
    sound = saved.read_bytes()
    length = struct.unpack("<Q", sound[:8])[0]
    header = json.loads(sound[8 : 8 + length])
    first = next(name for name in header if name != "__metadata__")
    header[first]["dtype"] = kind
    text = json.dumps(header).encode()
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + sound[8 + length :])
    assert_refused(path, "damaged|does not hold the weights", load)


@pytest.mark.parametrize("damage", ["dropped", "renamed", "reshaped", "retyped", "added"])
def test_no_change_of_the_tensors_goes_unnoticed(damage: str, saved: Path, tmp_path: Path) -> None:
    tensors, metadata = tensors_and_metadata(saved)
    name, tensor = next((name, tensor) for name, tensor in tensors.items() if tensor.ndim == 4)
    if damage != "added":
        del tensors[name]
    if damage == "renamed":
        tensors[f"{name}_"] = tensor
    if damage == "reshaped":
        tensors[name] = tensor.reshape(tensor.shape[::-1])
    if damage == "retyped":
        tensors[name] = tensor.view(torch.bfloat16)
    if damage == "added":
        tensors["added"] = torch.zeros(1)
    path = tmp_path / "changed.safetensors"
    safetensors.torch.save_file(tensors, path, metadata)
    assert_refused(path, "weights do not match their checksum", load)


# Valid files with impossible metadata --------------------------------------------------------------------------------


def deep(levels: int) -> dict[str, Any]:
    node: dict[str, Any] = {"name": "leaf", "label": 1, "color": "#ffffff"}
    for level in range(levels):
        node = {"name": f"node {level}", "color": "#ffffff", "children": [node]}
    return node


NONSENSE: dict[str, Forge] = {
    "neither inference nor threshold": lambda content: content.pop("inference"),
    "inference in words": lambda content: content.update(inference="thorough"),
    "unknown pass": lambda content: content["inference"].update(third_look=True),
    "mirror in words": lambda content: content["inference"].update(mirror="no"),
    "input size of nothing": lambda content: content["inference"].update(input_size=0),
    "threshold in words": lambda content: content["inference"].update(threshold="high"),
    "threshold no number": lambda content: content["inference"].update(threshold=float("nan")),
    "threshold beyond one": lambda content: content["inference"].update(threshold=37),
    "threshold beyond all numbers": lambda content: content["inference"].update(threshold=10**400),
    "zoom in words": lambda content: content["inference"].update(zoom="close"),
    "zoom without windows": lambda content: content["inference"]["zoom"].update(windows=0),
    "zoom no share": lambda content: content["inference"]["zoom"].update(weight=1.5),
    "record is a word": lambda content: content.update(record="good"),
    "unknown key of the spec": lambda content: content["spec"].update(input_seize=320),
    "spec is a list": lambda content: content.update(spec=["classes"]),
    "spec is a number": lambda content: content.update(spec=3),
    "mean is a number": lambda content: content["spec"].update(mean=3),
    "no tree": lambda content: content.pop("hierarchy"),
    "tree is a word": lambda content: content.update(hierarchy="oak"),
    "empty tree": lambda content: content["hierarchy"].update(tree=[]),
    "tree too deep": lambda content: content["hierarchy"].update(tree=[deep(400)]),
    "tree of other size": lambda content: content["hierarchy"]["tree"][0]["children"].pop(),
    "other classes": lambda content: content["spec"].update(classes=8),
}


@pytest.mark.parametrize("change", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_with_a_fitting_checksum_is_refused(change: Forge, saved: Path, tmp_path: Path) -> None:
    path = forged(saved, tmp_path / "nonsense.safetensors", change)
    assert_refused(path, "invalid metadata|channels for a tree of")


UNFIT: dict[str, tuple[Forge, str]] = {
    "unknown architecture": (lambda content: content["spec"].update(architecture="Onet"), "cannot build Onet"),
    "other architecture": (
        lambda content: content["spec"].update(architecture="FPN", options={}),
        "does not hold the weights of the FPN",
    ),
    "other decoder": (
        lambda content: content["spec"]["options"].update(decoder_channels=[16, 8, 8, 8, 8]),
        "does not hold the weights of the Unet",
    ),
}


@pytest.mark.parametrize(("change", "match"), UNFIT.values(), ids=UNFIT)
def test_weights_that_are_not_the_specs_are_refused(change: Forge, match: str, saved: Path, tmp_path: Path) -> None:
    path = forged(saved, tmp_path / "unfit.safetensors", change)
    assert_refused(path, match, load)
    assert isinstance(read_card(path), Card)


# What is not a checkpoint --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"format": "pt"},
        {"hierseg": "not JSON"},
        {"hierseg": "[]"},
        {"hierseg": "{}"},
        {"hierseg": "[" * 10**5},
    ],
    ids=["none", "empty", "other", "no JSON", "list", "blank", "nested"],
)
def test_other_safetensors_files_are_refused(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(2, 2)}, path, metadata)
    assert_refused(path, "not a hierseg checkpoint|not a safetensors file")


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 64, b"\xff" * 64, b"{}", b"PK\x03\x04" + bytes(60)])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    assert_refused(path, r"not a safetensors file, or it is damaged\. .* must be converted first")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "missing.safetensors", "does not exist")
    assert_refused(tmp_path, "does not exist")


@pytest.mark.parametrize("name", ["evil.safetensors", "evil.pt"])
@pytest.mark.parametrize("packed_by", ["pickle", "torch", "old torch"])
def test_no_pickle_is_ever_executed(packed_by: str, name: str, tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / name
    if packed_by == "pickle":
        path.write_bytes(pickle.dumps(LeavesAMark(mark)))
    else:
        torch.save({"state_dict": LeavesAMark(mark)}, path, _use_new_zipfile_serialization=packed_by == "torch")
    assert_refused(path, r"not a safetensors file, or it is damaged\. .* must be converted first")
    assert not mark.exists()
    # The proof that it would have shown.
    if packed_by == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
    assert mark.is_dir()


def test_no_code_unpickles_anything_but_weights() -> None:
    root = Path(checkpoint.__file__).resolve().parents[2]
    loads: list[str] = []
    folders = ("hierseg", "train", "studies")
    for path in [root / "app.py", *(path for folder in folders for path in (root / folder).rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            assert not re.search(r"pickle\.(loads?|Unpickler)|joblib|shelve|marshal|read_pickle", called), path
            assert "allow_pickle=True" not in ast.unparse(node), path
            if called == "torch.load":
                loads.append(path.name)
                assert "weights_only=True" in ast.unparse(node), path
    assert loads  # or the search found nothing at all


# Whole or not at all -------------------------------------------------------------------------------------------------


def test_a_saved_file_is_readable_by_others_and_its_folder_is_made(card: Card, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "ftm" / "last.safetensors"
    save(path, nn.Linear(1, 1), card)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]


# Finding -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of published checkpoints, with other files in it."""
    monkeypatch.setattr(checkpoint, "default_folder", lambda: tmp_path)
    for name in ("ftm", "bce", "deeplab.v3", "._ftm"):
        (tmp_path / f"{name}.safetensors").touch()
    for name in ("README.md", ".ftm.safetensors.x7"):
        (tmp_path / name).touch()
    return tmp_path


def test_checkpoints_are_listed_by_name_in_order_without_hidden_files(folder: Path) -> None:
    assert list(available(folder).items()) == [
        ("bce", folder / "bce.safetensors"),
        ("deeplab.v3", folder / "deeplab.v3.safetensors"),
        ("ftm", folder / "ftm.safetensors"),
    ]
    assert available(str(folder)) == available(folder)
    assert available(folder / "missing") == {}


def test_a_checkpoint_is_found_by_its_name_or_its_path(folder: Path) -> None:
    assert find("ftm") == folder / "ftm.safetensors"
    assert find("deeplab.v3") == folder / "deeplab.v3.safetensors"
    assert find(folder / "bce.safetensors") == folder / "bce.safetensors"
    assert find(str(folder / "bce.safetensors")) == folder / "bce.safetensors"


def test_an_unknown_name_lists_those_there_are(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint 'fmt'\. Checkpoints by name: bce, deeplab\.v3, ftm\.$"):
        find("fmt")


def test_an_empty_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "default_folder", lambda: tmp_path)
    with pytest.raises(CheckpointError, match="none in ") as refusal:
        find("ftm")
    assert str(tmp_path) in str(refusal.value)
