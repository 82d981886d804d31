"""Networks with random weights, and with weights set by hand; and a short training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hierseg.network.model import ModelSpec, build
from hierseg.tree import Hierarchy
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


def lively(spec: ModelSpec, seed: int, spread: float = 2.0, side: int = 64) -> nn.Module:
    """Build a network with random weights, warmed up, whose scores spread, so that every right and wrong occurs."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        network, _ = warmed_up(spec, side)
        head = head_of(network)
        head.weight.copy_(spread * torch.randn_like(head.weight) * head.weight[0].numel() ** -0.5)
    return network


def assert_only_the_encoder_changes(network: nn.Module, load: Callable[[], object]) -> None:
    """Check that loading an encoder leaves the decoder, the mode and the random numbers as they were."""
    decoder = network.get_submodule("decoder")
    before = {name: tensor.clone() for name, tensor in decoder.state_dict().items()}
    training, random_state = network.training, torch.get_rng_state()
    load()
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in decoder.state_dict().items())
    assert all(module.training == training and not module._forward_hooks for module in network.modules())
    assert all(weight.requires_grad and weight.grad is None for weight in network.parameters())


def head_of(network: nn.Module) -> nn.Conv2d:
    """Return the convolution that makes the scores."""
    (head,) = (
        module for module in network.get_submodule("segmentation_head").children() if isinstance(module, nn.Conv2d)
    )
    return head


def banded(spec: ModelSpec, turn: int = 0) -> nn.Module:
    """Build a network that takes each leaf for a band of brightness, black and white being background.

    What it says of a photo is known, and the same on every processor. The tiny Unet's first skip carries the brightness
    to the decoder's last blocks, where eight ReLUs make six hats side by side; a node's logit is the sum of its
    leaves' hats.

    Args:
        spec: The tiny Unet, with the default tree's nodes as classes.
        turn: How far the leaves are moved along the bands, and how much more is background: 0 to 5.
    """
    tree, network = Hierarchy.default(), build(spec).eval()
    stem, skip = "encoder.model.conv_stem", "encoder.model.blocks.0.0.conv"
    first, *others = (f"decoder.blocks.{block}.conv{number}.0" for block in (3, 4) for number in (1, 2))
    for name in (stem, skip, first, *others):
        nn.init.zeros_(network.get_parameter(f"{name}.weight"))

    def through(name: str) -> Tensor:
        """Return the weights of a convolution at the middle of its kernel."""
        return network.get_parameter(f"{name}.weight")[:, :, 1, 1]

    high = 16.0  # where SiLU is the identity
    edge = 0.9 - 0.1 * turn
    knots = torch.linspace(-edge, edge, 8)
    with torch.no_grad():
        through(stem)[0] = 1 / 3
        network.get_parameter("encoder.model.bn1.bias")[0] = high
        through(skip)[0, 0] = 1
        through(first)[:, 8] = 1
        network.get_parameter("decoder.blocks.3.conv1.1.bias").copy_(-high - knots)
        for name in others:
            through(name).fill_diagonal_(1)
        hats = torch.zeros(6, 8)
        for band in range(6):
            hats[band, band : band + 3] = torch.tensor([1.0, -2.0, 1.0]) / (knots[1] - knots[0])
        head = head_of(network)
        nn.init.zeros_(head.weight)
        assert head.bias is not None
        head.bias.fill_(-3)
        for place, leaf in enumerate(tree.leaves):
            for node in tree.lineages[leaf]:
                head.weight[node, :, 1, 1] += 6 * hats[(place + turn) % 6]
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
