"""Make a training step faster on a processor and change nothing else; not used on graphics cards."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def keep_depthwise_in_float32(model: nn.Module) -> None:
    """Exclude depthwise convolutions from bf16 autocast on the CPU.

    oneDNN's bf16 backward pass of a depthwise convolution is about five times slower than its float32 one.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            # A bound method, not a closure: deepcopy rebinds it, so the averaged copy uses its own weights.
            module.forward = MethodType(_forward_in_float32, module)  # type: ignore[method-assign]


def _forward_in_float32(convolution: nn.Conv2d, features: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return type(convolution).forward(convolution, features.float())


class DenseGradients(TorchFunctionMode):
    """Store the gradients of resized features densely, channels last.

    The backward pass of a concatenation returns slices. For these, PyTorch's backward pass of a bilinear resize on the
    CPU uses its channels-first code, which is eight times slower: a seventh of a step in the loss comparison.
    """

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        """Call a function; the output of `interpolate` gets dense gradients."""
        result = function(*arguments, **(options or {}))
        return _Dense.apply(result) if function is nn.functional.interpolate else result  # type: ignore[no-untyped-call]


class _Dense(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, features: Tensor) -> Tensor:
        return features.view_as(features)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous(memory_format=torch.channels_last)
