"""A recipe's loss on label maps, in one process or several."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor

from hierseg.losses import ACTIVATION_OF, LOSSES, reduce, region_mutual_information, soft_jaccard
from hierseg.network.activations import ACTIVATIONS
from hierseg.tree import Hierarchy
from train.distributed import mean_over_processes
from train.knowledge import Knowledge
from train.recipe import Recipe


class Objective:
    """A recipe's loss on label maps."""

    def __init__(self, recipe: Recipe, tree: Hierarchy, accelerator: Accelerator) -> None:
        """Prepare the recipe's loss for a device."""
        self._losses = recipe.loss_weights or {recipe.loss: 1.0}
        self._activation = ACTIVATIONS[ACTIVATION_OF[recipe.loss]]
        self._recipe = recipe
        self._tree = tree
        self._processes = accelerator.num_processes
        labels = Knowledge.of(tree, recipe.data)
        self._membership = torch.from_numpy(labels.membership).to(accelerator.device)
        self._knowledge = torch.from_numpy(labels.knowledge).to(accelerator.device)
        weights = recipe.node_weights()
        self._weights = None if weights is None else weights.to(accelerator.device)

    def __call__(self, logits: Tensor, label_maps: Tensor) -> Tensor:
        """Return the loss of logits (B, N, H, W) against label maps of crops, uint8 (B, H, W).

        The mean over processes is the loss of the whole batch, even if they differ in their number of known pixels.
        """
        labels = label_maps.long()
        targets, known = (table[labels].permute(0, 3, 1, 2) for table in (self._membership, self._knowledge))
        losses = [weight * self._of_pixels(name, logits, targets, known) for name, weight in self._losses.items()]
        loss = torch.stack(losses).sum()
        if self._recipe.jaccard:
            scores = self._activation(logits.float(), self._tree)
            loss = loss + self._recipe.jaccard * soft_jaccard(scores, targets, known, self._reduce_sums)
        if self._recipe.rmi:
            loss = loss + self._recipe.rmi * region_mutual_information(logits.float().sigmoid(), targets, known)
        return loss

    def _of_pixels(self, name: str, logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        terms = LOSSES[name](
            logits,
            targets,
            self._tree,
            gamma=self._recipe.gamma,
            valid=known,
            reduction="none",
            positive_weights=self._weights,
        )
        by_level = ACTIVATION_OF[name].endswith("softmax")
        counts = known.any(1).sum().view(1) if by_level else known.sum((0, 2, 3))
        if self._processes > 1:
            counts = mean_over_processes(counts.float())
        return reduce(terms, self._tree, self._recipe.reduction, counts)

    def _reduce_sums(self, sums: Tensor) -> Tensor:
        return mean_over_processes(sums) * self._processes if self._processes > 1 else sums
