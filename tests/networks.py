"""Networks with random weights that answer like trained ones: other scores from pixel to pixel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hierseg.network.model import ModelSpec, build


def warmed_up(spec: ModelSpec, side: int = 64) -> tuple[nn.Module, Tensor]:
    """Build a network whose batch norms have seen noise; return it in eval mode, with the noise (4, 3, side, side)."""
    network = build(spec)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    noise = torch.randn(4, 3, side, side)
    network.train()(noise)
    return network.eval(), noise


def head_of(network: nn.Module) -> nn.Conv2d:
    """Return the convolution that makes the scores."""
    (head,) = (
        module for module in network.get_submodule("segmentation_head").children() if isinstance(module, nn.Conv2d)
    )
    return head


def varied(spec: ModelSpec, seed: int) -> nn.Module:
    """Build a network whose scores lie on both sides of one half."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        network, noise = warmed_up(spec)
        head = head_of(network)
        head.weight.copy_(torch.randn_like(head.weight))
        assert head.bias is not None
        head.bias.copy_(-network(noise).mean((0, 2, 3)))
    return network
