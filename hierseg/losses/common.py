"""Shared by all losses: checks of shapes, masks of known nodes, and reductions."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hierseg.tree import Hierarchy

Reduction = Literal["none", "node", "level"]


def reduce(terms: Tensor, hierarchy: Hierarchy, reduction: Reduction, counts: Tensor | None = None) -> Tensor:
    """Reduce the terms of a loss.

    Args:
        terms: A loss with the reduction "none": (B, N, H, W), or (B, levels, H, W) for a cross-entropy.
        hierarchy: The tree.
        reduction: As for `focal_tree_min`; for terms by level, "node" is the mean over levels and "level" their sum.
        counts: Number of known pixels for each node or level, (N,), (levels,) or (1,); None if all are known.

    Returns:
        A scalar, or the terms with "none".

    Raises:
        ValueError: The reduction is unknown.
    """
    if reduction == "none":
        return terms
    pixels = (0, 2, 3)
    means = terms.mean(pixels) if counts is None else terms.sum(pixels) / counts.clamp(min=1)
    if reduction == "node":
        return means.mean()
    if reduction == "level":
        if len(means) != len(hierarchy):
            return means.mean() * len(means)
        depths = torch.tensor(hierarchy.depths, device=terms.device)
        return torch.stack([means[depths == depth].mean() for depth in range(max(hierarchy.depths) + 1)]).sum()
    raise ValueError(f"reduction must be 'none', 'node' or 'level', not {reduction!r}.")


def counts_of(valid: Tensor) -> Tensor:
    """Return the number of pixels that are True in each channel of a mask (B, N, H, W), shape (N,)."""
    return valid.sum((0, 2, 3))


def check(logits: Tensor, targets: Tensor, hierarchy: Hierarchy, positive_weights: Tensor | None = None) -> None:
    """Raise a ValueError if shapes do not fit the tree."""
    if logits.ndim != 4 or logits.shape[1] != len(hierarchy):
        raise ValueError(f"Expected (B, {len(hierarchy)}, H, W), got {tuple(logits.shape)}.")
    if logits.shape != targets.shape:
        raise ValueError(f"Logits are {tuple(logits.shape)} but targets are {tuple(targets.shape)}.")
    if positive_weights is not None and positive_weights.shape != (len(hierarchy),):
        raise ValueError(f"Expected ({len(hierarchy)},) positive weights, got {tuple(positive_weights.shape)}.")


def known_nodes(valid: Tensor | None, logits: Tensor) -> Tensor | None:
    """Return `valid` as a mask (B, 1, H, W) or (B, N, H, W); None if all nodes are known."""
    if valid is None:
        return None
    if valid.shape == logits[:, 0].shape:
        return valid.bool().unsqueeze(1)
    if valid.shape == logits.shape:
        return valid.bool()
    raise ValueError(f"Logits are {tuple(logits.shape)} but the valid mask is {tuple(valid.shape)}.")
