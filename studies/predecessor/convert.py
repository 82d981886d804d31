"""Convert the predecessor's published files to checkpoints.

They hold a training state; its `model_state_dict` is that of a U-Net on ResNet101 that ends in a sigmoid. A sigmoid has
no weights, so a network without it takes the same weights and gives logits, like every checkpoint here.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from hierseg.errors import UserError
from hierseg.network import checkpoint
from hierseg.network.checkpoint import Card
from hierseg.network.model import ModelSpec, build
from hierseg.tree import Hierarchy

SPEC = ModelSpec(
    architecture="Unet",
    encoder="resnet101",
    classes=9,
    input_size=224,
    mean=(0.485, 0.456, 0.406),  # ImageNet's, as torchvision's ResNets expect
    std=(0.229, 0.224, 0.225),
)


class ConversionError(UserError):
    """The file is not one of the predecessor's. The message says what it holds instead."""


def convert(source: str | Path, out: str | Path, title: str) -> Card:
    """Write a checkpoint with the weights of one of the predecessor's files.

    The channels must be in the order of the default tree, which is the predecessor's.

    Args:
        source: The predecessor's file: a dictionary with `model_state_dict`, or that state dict itself.
        out: Where to write.
        title: Name that people see on the page.

    Returns:
        The card of the new checkpoint.

    Raises:
        ConversionError: The file cannot be read without running code in it, or holds another network.
    """
    source = Path(source)
    content = _read(source)
    weights = content.get("model_state_dict", content)
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ConversionError(f"{source} holds no model_state_dict with weights, but {', '.join(map(str, content))}.")
    for wrapper in ("module.", "_orig_mod."):  # prefixes from DataParallel and torch.compile
        consume_prefix_in_state_dict_if_present(weights, wrapper)
    model = build(SPEC)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ConversionError(f"{source} does not hold a U-Net on ResNet101 with nine channels: {error}") from error
    epoch = content.get("epoch")
    record = {
        "loss": title,
        "source": {"file": source.name, **({"epoch": epoch} if isinstance(epoch, int) else {})},
    }
    card = Card(spec=SPEC, hierarchy=Hierarchy.default(), title=title, record=record)
    checkpoint.save(out, model, card)
    return card


def _read(source: Path) -> dict[str, Any]:
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ConversionError(f"{source} does not exist.") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        # Not torch's own message: it advises loading the file in a way that runs its code.
        raise ConversionError(f"{source} is damaged, or more than plain weights; nothing in it was run.") from error
    if not isinstance(content, dict):
        raise ConversionError(f"{source} holds a {type(content).__name__}, not a training state.")
    return content
