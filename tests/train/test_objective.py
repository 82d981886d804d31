"""A recipe's loss as the sum of what the recipe names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from hierseg.losses import LOSSES, region_mutual_information
from hierseg.network.model import ModelSpec
from hierseg.tree import Hierarchy
from train.objective import Objective
from train.recipe import Recipe


def batch(tree: Hierarchy) -> tuple[Tensor, Tensor]:
    """Return logits and label maps with labels of every kind."""
    random = np.random.default_rng(0)
    labels = random.choice([tree.background, tree.void, *tree.labels], (2, 12, 12)).astype(np.uint8)
    return torch.from_numpy(random.normal(0, 2, (2, len(tree), 12, 12))).float(), torch.from_numpy(labels)


@pytest.mark.parametrize("reduction", ["node", "level"])
@pytest.mark.parametrize("weights", [{}, {"level_cross_entropy": 3.0}, {"tree_min": 0.5, "level_cross_entropy": 2.0}])
def test_losses_are_added_up_by_their_weights(weights: dict[str, float], reduction: Any, tree: Hierarchy) -> None:
    logits, labels = batch(tree)
    spec = ModelSpec(activation="level_softmax")
    recipe = Recipe(loss="level_cross_entropy", model=spec, loss_weights=weights, reduction=reduction, rmi=0.25)
    targets, known = (torch.from_numpy(of(labels.numpy())) for of in (tree.node_masks, tree.known_masks))
    expected = 0.25 * region_mutual_information(logits.sigmoid(), targets, known)
    for name, weight in (weights or {"level_cross_entropy": 1.0}).items():
        expected = expected + weight * LOSSES[name](logits, targets, tree, valid=known, reduction=reduction)
    torch.testing.assert_close(Objective(recipe, tree, Accelerator(cpu=True))(logits, labels), expected)
