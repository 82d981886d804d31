"""The encoder of MoveNet Thunder, Google's network for human key points: architecture and weights.

It is MobileNetV2 (Sandler et al., CVPR 2018, arXiv 1801.04381), 1.75 times as wide. Importing this module registers the
encoder `tu-movenet_thunder`.

In the published weights, each batch norm is folded into the convolution before it, which has a bias.
`restore_batch_norms` restores the norms for training.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from hierseg.network import _torchvision  # noqa: F401  # must come before timm
from hierseg.network.model import ModelError

import timm  # isort: skip
from timm.models.efficientnet import _gen_mobilenet_v2  # isort: skip

# timm warns about a model without a configuration. This has no URL, as timm cannot fetch the weights.
default_cfgs = timm.models.generate_default_cfgs({"movenet_thunder": {}})
_LAYER = re.compile(r"/model_1/model/(?!Conv_1/).+/(Conv2D|depthwise)_(weights|bn_offset)$")  # Conv_1 is a head


@timm.models.register_model
def movenet_thunder(pretrained: bool = False, **options: Any) -> nn.Module:
    """Build the encoder of MoveNet Thunder: 32, 40, 56, 168 and 560 channels at strides 2 to 32.

    Args:
        pretrained: Passed by timm to every model; timm has no weights for this one.
        options: Options of timm's EfficientNet.
    """
    options = {"pad_type": "same", "bn_eps": 1e-3, **options}  # as in TensorFlow
    network: nn.Module = _gen_mobilenet_v2("movenet_thunder", 1.75, pretrained=pretrained, **options)  # type: ignore[no-untyped-call]
    return network


def encoder_tensors(tensors: dict[str, Any]) -> list[Tensor]:
    """Pick the tensors of MoveNet's encoder, in PyTorch's layout.

    Args:
        tensors: From `hierseg.network.tfjs.read`; the graph lists layers in the order of the network.

    Returns:
        For each layer, the kernel of its convolution, then its bias, which becomes that of the batch norm after it.

    Raises:
        ModelError: A kernel does not have four dimensions.
    """
    found = []
    for name, values in tensors.items():
        if layer := _LAYER.search(name):
            if layer[2] == "weights":  # HWIO to OIHW; depthwise HWC1 to C1HW
                if values.ndim != 4:
                    raise ModelError(f"The tensor {name} has the shape {values.shape}, not that of a convolution.")
                values = values.transpose((3, 2, 0, 1) if layer[1] == "Conv2D" else (2, 3, 0, 1))
            found.append(torch.from_numpy(values.copy()))
    return found


def batch_norms(encoder: nn.Module) -> list[nn.BatchNorm2d]:
    """Return the encoder's batch norms."""
    return [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]


@torch.no_grad()
def fold_batch_norms(encoder: nn.Module) -> None:
    """Make each batch norm only add its bias in evaluation mode, as in the published weights."""
    for norm in batch_norms(encoder):
        norm.running_mean.zero_()  # type: ignore[union-attr]
        norm.running_var.fill_(1 - norm.eps)  # type: ignore[union-attr]
        norm.weight.fill_(1)


@torch.no_grad()
def restore_batch_norms(encoder: nn.Module, images: Tensor) -> None:
    """Set folded batch norms from the statistics of images, so that they normalise in training.

    A folded norm computes x + b. With the mean m and the variance v of its inputs, it becomes
    (x - m) / sqrt(v + eps) * weight + bias, where weight = sqrt(v + eps) and bias = m + b: the same function.

    Args:
        encoder: An encoder after `fold_batch_norms`, changed in place; its output in evaluation mode stays the same.
        images: Normalised RGB, shape (B, 3, H, W), B at least 2.
    """
    hooks = [norm.register_forward_hook(_record) for norm in batch_norms(encoder)]
    was_training = encoder.training
    encoder.eval()(images.to(next(encoder.parameters()).device))
    encoder.train(was_training)
    for hook in hooks:
        hook.remove()


def _record(norm: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
    """Restore a folded norm after it has computed its output."""
    assert isinstance(norm, nn.BatchNorm2d)
    variance, mean = torch.var_mean(inputs[0].float(), dim=(0, 2, 3))
    norm.running_mean.copy_(mean)  # type: ignore[union-attr]
    norm.running_var.copy_(variance)  # type: ignore[union-attr]
    norm.weight.copy_((variance + norm.eps).sqrt())  # above 0 even where a channel is constant
    norm.bias.add_(mean)
