"""Describe a network and its input in a `ModelSpec`, and build it with segmentation_models.pytorch.

A spec is plain data, so that it fits into a YAML recipe and a checkpoint's metadata.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hierseg.errors import UserError
from hierseg.network.activations import ACTIVATIONS

if TYPE_CHECKING:  # PyTorch takes seconds to import, and a spec needs none of it
    from torch import Tensor, nn


class ModelError(UserError):
    """A model cannot be built. The message says what to do."""


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """A network and its input.

    Attributes:
        architecture: Class name in segmentation_models_pytorch, for instance "Unet" or "DeepLabV3Plus", or
            "GuidedSegformer", see `hierseg.network.guided`.
        encoder: Encoder name in segmentation_models_pytorch; timm's have the prefix "tu-".
        classes: Output channels, one per node of the tree.
        input_size: Longest side of the letterboxed photo in pixels.
        mean: Per-channel mean, subtracted from RGB in [0, 1].
        std: Per-channel divisor after that.
        options: Further arguments of the architecture, for instance decoder_channels.
        activation: Name of the function in `hierseg.network.activations` that turns logits into node scores.
    """

    architecture: str = "Unet"
    encoder: str = "tu-tf_efficientnet_lite2"
    classes: int = 9
    input_size: int = 320
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    activation: str = "sigmoid"  # also for checkpoints older than this field

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ModelError: A value is invalid.
        """
        for name in ("classes", "input_size"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ModelError(f"A model's {name} must be a whole number above 0, not {getattr(self, name)!r}.")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != 3 or not all(isinstance(value, int | float) for value in values):
                raise ModelError(f"A model's {name} must be three numbers, not {values!r}.")
        if not min(self.std) > 0:
            raise ModelError(f"A model's std must be above 0, not {self.std!r}.")
        if not isinstance(self.activation, str) or self.activation not in ACTIVATIONS:
            raise ModelError(f"A model's activation must be {', '.join(ACTIVATIONS)}, not {self.activation!r}.")

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ModelSpec:
        """Build a spec from plain values.

        Raises:
            ModelError: A key is unknown.
        """
        known = {field.name for field in dataclasses.fields(ModelSpec)}
        if unknown := set(values) - known:
            raise ModelError(f"A model has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}.")
        values = {key: tuple(value) if key in ("mean", "std") else value for key, value in values.items()}
        return ModelSpec(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values from which `from_dict` builds the same spec."""
        return dataclasses.asdict(self)


def build(spec: ModelSpec) -> nn.Module:
    """Build the network of a spec with random weights.

    Args:
        spec: The network.

    Returns:
        A module from normalised RGB (B, 3, H, W), H and W multiples of 32, to logits (B, classes, H, W).

    Raises:
        ModelError: segmentation_models_pytorch has no such architecture or encoder, or refuses an option.
    """
    if spec.encoder.startswith("timm-"):
        raise ModelError(
            f"The encoder {spec.encoder!r} is smp's deprecated copy with other batch norm and padding; "
            f"use 'tu-{spec.encoder.removeprefix('timm-')}'."
        )
    if ":" in spec.encoder:
        raise ModelError(f"The encoder {spec.encoder!r} names a hub; a network is built from installed packages only.")
    from hierseg.network import _torchvision  # noqa: F401  # must come before smp

    if spec.encoder.startswith("tu-movenet_"):
        from hierseg.network import movenet  # noqa: F401  # registers the encoder with timm

    import segmentation_models_pytorch as smp  # isort: skip

    make: Callable[..., nn.Module] = functools.partial(smp.create_model, spec.architecture)
    if spec.architecture == "GuidedSegformer":
        from hierseg.network.guided import GuidedSegformer

        make = GuidedSegformer
    try:
        return make(encoder_name=spec.encoder, encoder_weights=None, classes=spec.classes, **spec.options)
    except Exception as error:  # smp, timm and the hub's client raise many kinds
        raise ModelError(
            f"segmentation_models_pytorch cannot build {spec.architecture} with the encoder {spec.encoder!r}: {error}"
        ) from error


def normalize(images: Tensor, spec: ModelSpec) -> Tensor:
    """Turn RGB bytes into the network's input.

    Args:
        images: uint8, shape (..., 3, H, W).
        spec: The network.

    Returns:
        float32, same shape.
    """
    import torch

    mean = torch.tensor(spec.mean, device=images.device).view(3, 1, 1) * 255
    std = torch.tensor(spec.std, device=images.device).view(3, 1, 1) * 255
    return (images.float() - mean) / std
