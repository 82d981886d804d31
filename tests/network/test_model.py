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


def test_an_unknown_key_is_refused_and_the_known_ones_listed() -> None:
    with pytest.raises(
        ModelError, match=r"has no inputsize; it has activation, architecture, classes, encoder, input_size"
    ):
        ModelSpec.from_dict({"inputsize": 320})


# Building ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "architecture", ["Unet", "UnetPlusPlus", "FPN", "DeepLabV3Plus", "Linknet", "Segformer", "GuidedSegformer"]
)
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
@pytest.mark.parametrize("fits", [True, False])
def test_operators_are_declared_where_those_of_torchvision_do_not_load_and_there_alone(fits: bool) -> None:
    program = f"""
import gc, torch
def load_library(path):
    if not {fits}:
        raise OSError("libcudart.so: cannot open shared object file")
torch.ops.load_library = load_library
import hierseg.network._torchvision
gc.collect()
print(*(torch.ops.torchvision.nms.default._schema for _ in range(not {fits})), hasattr(torch.ops.torchvision, "nms"))
"""
    schema = "torchvision::nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    assert run_fresh(program) == ("False" if fits else f"{schema} True")


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
