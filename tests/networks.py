"""Networks with random weights and scores that vary between pixels, and a short training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hierseg.network.model import ModelSpec, build
from train.recipe import Crop, Optimizer, Recipe


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


def tiny_recipe(spec: ModelSpec, **changes: Any) -> Recipe:
    """Return a recipe that trains a tiny network within seconds, but for some changes."""
    usual = {
        "loss": "bce",
        "model": spec,
        "pretrained": False,
        "crop": Crop(size=64, scale=(0.8, 1.1)),
        "optimizer": Optimizer(lr=1e-2, encoder_lr=2e-3),
        "batch_size": 4,
        "ema_decay": 0.5,
        "threshold_photos": 4,
    }
    return Recipe(**{**usual, **changes})
