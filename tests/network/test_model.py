"""A spec builds the network it names or says why not, and torchvision can be imported beside any torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hierseg.network.model import ModelError, ModelSpec, build, normalize
from tests import REPOSITORY

TINY = "tu-test_efficientnet"

# The spec ------------------------------------------------------------------------------------------------------------

shares = st.floats(0.01, 1.0)
specs = st.builds(
    ModelSpec,
    architecture=st.sampled_from(["Unet", "FPN", "DeepLabV3Plus"]),
    encoder=st.sampled_from(["resnet101", TINY]),
    classes=st.integers(1, 200),
    input_size=st.integers(32, 2048),
    mean=st.tuples(shares, shares, shares),
    std=st.tuples(shares, shares, shares),
    options=st.dictionaries(
        st.sampled_from(["decoder_channels", "encoder_depth"]), st.integers(1, 9) | st.lists(st.integers(1, 9))
    ),
)


@given(specs)
def test_a_spec_survives_its_dict_and_json(spec: ModelSpec) -> None:
    assert ModelSpec.from_dict(spec.to_dict()) == spec
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@given(specs)
def test_changing_the_dict_does_not_change_the_spec(spec: ModelSpec) -> None:
    before = json.dumps(spec.to_dict())
    values = spec.to_dict()
    values["options"]["decoder_channels"] = "changed"
    assert json.dumps(spec.to_dict()) == before


def test_missing_keys_take_the_defaults() -> None:
    assert ModelSpec.from_dict({}) == ModelSpec()
    assert ModelSpec.from_dict({"classes": 3}).encoder == ModelSpec().encoder


def test_an_unknown_key_is_refused_and_the_known_ones_listed() -> None:
    with pytest.raises(
        ModelError, match=r"has no inputsize; it has activation, architecture, classes, encoder, input_size"
    ):
        ModelSpec.from_dict({"inputsize": 320})


# Building ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["Unet", "UnetPlusPlus", "FPN", "DeepLabV3Plus", "Linknet", "Segformer"])
@pytest.mark.parametrize(("classes", "height", "width"), [(9, 64, 96), (2, 96, 32)])
def test_a_network_gives_one_logit_map_per_class_at_the_size_of_its_input(
    architecture: str, classes: int, height: int, width: int
) -> None:
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        network = build(ModelSpec(architecture=architecture, encoder=TINY, classes=classes)).eval()
        logits = network(torch.randn(2, 3, height, width))
    assert logits.shape == (2, classes, height, width)
    assert logits.min() < 0  # logits, not probabilities: the sigmoid is not in the network


def test_options_reach_the_network() -> None:
    def size(**options: Any) -> int:
        return sum(weight.numel() for weight in build(ModelSpec(encoder=TINY, options=options)).parameters())

    assert size(decoder_channels=[8, 8, 8, 8, 8]) < size(decoder_channels=[16, 16, 16, 16, 16]) < size()


def test_building_fetches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refuse(*_: Any) -> None:
        raise AssertionError("building asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    build(ModelSpec(encoder="tu-tf_efficientnet_lite0"))
    build(ModelSpec(encoder="resnet18"))


def test_a_deprecated_encoder_is_refused_naming_the_right_one() -> None:
    with pytest.raises(ModelError, match=r"deprecated .* use 'tu-tf_efficientnet_lite2'\.$"):
        build(ModelSpec(encoder="timm-tf_efficientnet_lite2"))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"architecture": "Onet"}, "Onet"),
        ({"encoder": "resnet102"}, "resnet102"),
        ({"encoder": "tu-no_such_network"}, "no_such_network"),
        ({"encoder": "tu-"}, "tu-"),
        ({"options": {"no_such_option": 1}}, "no_such_option"),
        ({"options": {"decoder_channels": 8}}, "int"),
        ({"options": {"decoder_channels": [8]}}, "decoder_channels"),
        ({"options": {"encoder_depth": 99}}, "99"),
        ({"options": {"encoder_name": "resnet18"}}, "encoder_name"),
        ({"options": {"decoder_attention_type": "none of these"}}, "none of these"),
    ],
)
def test_what_cannot_be_built_is_refused_naming_what_and_why(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError, match=r"^segmentation_models_pytorch cannot build ") as refusal:
        build(ModelSpec(**{"encoder": TINY, **values}))
    assert named in str(refusal.value)


# Normalisation -------------------------------------------------------------------------------------------------------


def test_the_default_normalisation_maps_bytes_to_minus_one_to_one() -> None:
    black_grey_white = torch.tensor([0, 51, 204, 255], dtype=torch.uint8).view(1, 1, 4).expand(3, 1, 4)
    network_input = normalize(black_grey_white, ModelSpec())
    assert network_input.dtype == torch.float32
    torch.testing.assert_close(network_input, torch.tensor([-1.0, -0.6, 0.6, 1.0]).expand(3, 1, 4))


@given(specs, st.integers(0, 2**31 - 1), st.sampled_from([(), (1,), (2, 3)]))
def test_each_channel_is_shifted_and_scaled_by_its_own_mean_and_std(
    spec: ModelSpec, seed: int, leading: tuple[int, ...]
) -> None:
    images = torch.randint(
        0, 256, (*leading, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    network_input = normalize(images, spec)
    assert network_input.shape == images.shape
    for channel in range(3):
        twin = (images[..., channel, :, :].double() / 255 - spec.mean[channel]) / spec.std[channel]
        torch.testing.assert_close(network_input[..., channel, :, :].double(), twin, rtol=1e-5, atol=1e-4)


# torchvision, in fresh processes because an import happens once ------------------------------------------------------

# Stands in for torch, whose loader and registry are all that the module under test uses of it.
SIMULATED = """
import importlib.util, sys, types
asked, declared = [], []
def library(namespace, kind):
    declared.append((namespace, kind))
    return types.SimpleNamespace(define=declared.append)
def load_library(path):
    asked.append(path)
    {loading}
sys.modules["torch"] = types.SimpleNamespace(
    ops=types.SimpleNamespace(load_library=load_library), library=types.SimpleNamespace(Library=library)
)
"""
REPORT = "import hierseg.network._torchvision as ours; print(bool(asked), declared, ours._declared)"


def run_fresh(program: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "error"}
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=REPOSITORY, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


@pytest.mark.slow
def test_smp_and_torchvision_import_after_ours() -> None:
    program = (
        "import hierseg.network._torchvision, segmentation_models_pytorch, torchvision\n"
        "print(torchvision.ops.nms.__name__)"
    )
    assert run_fresh(program) == "nms"


@pytest.mark.slow
def test_beside_a_matching_torch_nothing_is_declared() -> None:
    assert run_fresh(SIMULATED.format(loading="pass") + REPORT) == "True [] None"


@pytest.mark.slow
def test_without_torchvision_nothing_is_declared() -> None:
    absent = "importlib.util.find_spec = lambda name: None\n"
    assert run_fresh(SIMULATED.format(loading="pass") + absent + REPORT) == "False [] None"


@pytest.mark.slow
def test_beside_another_torch_exactly_two_operators_are_declared() -> None:
    schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    expected = [("torchvision", "DEF"), f"nms{schema}", f"qnms{schema}"]
    simulated = SIMULATED.format(loading='raise OSError("libcudart.so: cannot open shared object file")')
    assert run_fresh(simulated + REPORT).startswith(f"True {expected} namespace(")


@pytest.mark.slow
def test_the_declaration_lasts_after_garbage_collection() -> None:
    program = """
import gc, torch
def load_library(path):
    raise OSError("libcudart.so: cannot open shared object file")
torch.ops.load_library = load_library
import hierseg.network._torchvision
gc.collect()
print(torch.ops.torchvision.nms.default._schema)
"""
    assert run_fresh(program) == "torchvision::nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@pytest.mark.parametrize(
    "values",
    [
        {"classes": 0},
        {"classes": "9"},
        {"input_size": -320},
        {"input_size": 320.5},
        {"mean": (0.5, 0.5)},
        {"mean": ("a", "b", "c")},
        {"std": (0.5, 0.0, 0.5)},
        {"std": (float("nan"), 0.5, 0.5)},
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=next(iter(values))):
        ModelSpec.from_dict(values)


def test_an_encoder_of_a_hub_is_refused_without_asking_for_it() -> None:
    with pytest.raises(ModelError, match="names a hub"):
        build(ModelSpec(encoder="tu-hf-hub:someone/something"))
