"""Batch norm over all processes, so that several processes train as one.

torch's SyncBatchNorm runs only on GPUs, and skips timm's layers that combine norm and activation. On a CPU, each
process would normalise its own part of the batch, and the trained network would differ.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn


def share_batch_norm(model: nn.Module) -> None:
    """Make every batch norm of a network use the statistics of all processes during training.

    All processes must have the same number of pixels. Parameters, buffers and their names do not change.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def _forward(norm: nn.BatchNorm2d, features: Tensor) -> Tensor:
    if not norm.training:
        return type(norm).forward(norm, features)
    axes = (0, 2, 3)
    values = features.float()
    mean = mean_over_processes(values.mean(axes))
    centred = values - mean.view(1, -1, 1, 1)
    variance = mean_over_processes(centred.square().mean(axes))
    _update(norm, mean.detach(), variance.detach(), values.numel() // len(mean) * torch.distributed.get_world_size())
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    normed = (centred * scale.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)).to(features.dtype)
    for follower in ("drop", "act"):  # of timm's BatchNormAct2d
        if hasattr(norm, follower):
            normed = getattr(norm, follower)(normed)
    return normed


def mean_over_processes(values: Tensor) -> Tensor:
    """Return the mean of a float tensor over all processes."""
    return _MeanOverProcesses.apply(values)  # type: ignore[no-any-return,no-untyped-call]


class _MeanOverProcesses(torch.autograd.Function):
    """The mean of a tensor over all processes. Each process's loss depends on it, so its gradient is a mean too."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        values = values.clone()
        torch.distributed.all_reduce(values)
        return values / torch.distributed.get_world_size()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _MeanOverProcesses.forward(context, gradient)


@torch.no_grad()
def _update(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, pixels: int) -> None:
    """Update the running statistics as torch does, with the unbiased variance."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    share = norm.momentum if norm.momentum is not None else 1 / float(norm.num_batches_tracked)
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance * pixels / max(1, pixels - 1), share)
