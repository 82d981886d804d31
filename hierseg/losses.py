"""Pure functions of (logits, targets, hierarchy): BCE, focal, tree-min and focal tree-min.

The tree losses are those of Li et al., "Deep Hierarchical Semantic Segmentation", CVPR 2022 (arXiv 2203.14335),
equations 4 to 6, computed exactly. All four share one form. Let z be a logit that is large where the prediction agrees
with the target; then a term is

    sigmoid(-z) ** gamma * softplus(-z)

and the losses differ only in z: the node's own logit (plain), or, since min and max commute with the sigmoid, the
lowest logit among its ancestors where the target is 1 and the highest among its descendants where it is 0 (tree-min).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from hierseg.hierarchy import Hierarchy

Reduction = Literal["none", "node", "level"]


def bce(
    logits: Tensor,
    targets: Tensor,
    hierarchy: Hierarchy,
    gamma: float = 0.0,
    valid: Tensor | None = None,
    reduction: Reduction = "node",
    positive_weights: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of each node by itself; takes and ignores `gamma`. Arguments as for `focal_tree_min`."""
    z = _plain(logits, targets, hierarchy)
    return _reduce(_terms(z, 0.0), targets, hierarchy, valid, reduction, positive_weights)


def focal(
    logits: Tensor,
    targets: Tensor,
    hierarchy: Hierarchy,
    gamma: float = 2.0,
    valid: Tensor | None = None,
    reduction: Reduction = "node",
    positive_weights: Tensor | None = None,
) -> Tensor:
    """Focal loss of each node by itself (Lin et al., ICCV 2017). Arguments as for `focal_tree_min`."""
    z = _plain(logits, targets, hierarchy)
    return _reduce(_terms(z, gamma), targets, hierarchy, valid, reduction, positive_weights)


def tree_min(
    logits: Tensor,
    targets: Tensor,
    hierarchy: Hierarchy,
    gamma: float = 0.0,
    valid: Tensor | None = None,
    reduction: Reduction = "node",
    positive_weights: Tensor | None = None,
) -> Tensor:
    """Tree-min loss (Li et al., eq. 5); takes and ignores `gamma`. Arguments as for `focal_tree_min`."""
    z = _tree(logits, targets, hierarchy)
    return _reduce(_terms(z, 0.0), targets, hierarchy, valid, reduction, positive_weights)


def focal_tree_min(
    logits: Tensor,
    targets: Tensor,
    hierarchy: Hierarchy,
    gamma: float = 2.0,
    valid: Tensor | None = None,
    reduction: Reduction = "node",
    positive_weights: Tensor | None = None,
) -> Tensor:
    """Focal tree-min loss (Li et al., eq. 6).

    A positive node is charged for the least sure of itself and the nodes above it, a negative one for the most sure of
    itself and the nodes below it, so a prediction that breaks the tree always pays.

    Args:
        logits: Scores before the sigmoid, float, shape (B, N, H, W) in the tree's node order.
        targets: Node masks, bool or 0/1 numbers, same shape.
        hierarchy: The tree.
        gamma: Focusing exponent, at least 0; at 0 this is `tree_min`.
        valid: Which pixels count, bool, shape (B, H, W) for all nodes or (B, N, H, W) for each; None for all.
        reduction: "node" is the mean over pixels, then over nodes (as the seed did); "level" is the mean over each
            level, summed over levels (as the paper's code does); "none" returns the terms.
        positive_weights: Factor on each node's positive terms, shape (N,), for nodes that are rare; None for 1.

    Returns:
        A scalar, or the terms (B, N, H, W), zero where not valid, with "none". At least float32 whatever the logits.

    Raises:
        ValueError: A shape does not fit the tree, gamma is negative, or the reduction has no such name.
    """
    z = _tree(logits, targets, hierarchy)
    return _reduce(_terms(z, gamma), targets, hierarchy, valid, reduction, positive_weights)


LossFunction = Callable[..., Tensor]
LOSSES: dict[str, LossFunction] = {
    "bce": bce,
    "focal": focal,
    "tree_min": tree_min,
    "focal_tree_min": focal_tree_min,
}


def _plain(logits: Tensor, targets: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Return the agreement logit of the losses that take each node by itself, (B, N, H, W)."""
    _check(logits, targets, hierarchy)
    logits = _at_least_float32(logits)
    return torch.where(targets.bool(), logits, -logits)


def _tree(logits: Tensor, targets: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Return the agreement logit of the tree-min losses, (B, N, H, W)."""
    _check(logits, targets, hierarchy)
    own = _at_least_float32(logits).unbind(1)
    lowest: list[Tensor] = []  # over a node and all above it
    for index, parent in enumerate(hierarchy.parents):  # level order: a parent comes before its children
        lowest.append(own[index] if parent < 0 else torch.minimum(own[index], lowest[parent]))
    highest = list(own)  # over a node and all below it
    for index in reversed(range(len(hierarchy))):
        for child in hierarchy.children[index]:
            highest[index] = torch.maximum(highest[index], highest[child])
    return torch.where(targets.bool(), torch.stack(lowest, 1), -torch.stack(highest, 1))


def _terms(z: Tensor, gamma: float) -> Tensor:
    if gamma < 0:
        raise ValueError(f"gamma must be at least 0, not {gamma}.")
    if gamma == 0:
        return functional.softplus(-z)
    # sigmoid(-z) ** gamma, written so that its gradient is finite where the sigmoid is 0.
    return torch.exp(-gamma * functional.softplus(z)) * functional.softplus(-z)


def _reduce(
    terms: Tensor,
    targets: Tensor,
    hierarchy: Hierarchy,
    valid: Tensor | None,
    reduction: Reduction,
    positive_weights: Tensor | None,
) -> Tensor:
    if positive_weights is not None:
        if positive_weights.shape != (len(hierarchy),):
            raise ValueError(f"Expected ({len(hierarchy)},) positive weights, got {tuple(positive_weights.shape)}.")
        weights = positive_weights.to(terms).view(1, -1, 1, 1)
        terms = torch.where(targets.bool(), terms * weights, terms)
    if valid is not None:
        if valid.shape == terms[:, 0].shape:
            valid = valid.unsqueeze(1).expand_as(terms)
        if valid.shape != terms.shape:
            raise ValueError(f"Logits are {tuple(terms.shape)} but the valid mask is {tuple(valid.shape)}.")
        valid = valid.bool()
        terms = terms.masked_fill(~valid, 0.0)
    if reduction == "none":
        return terms
    pixels = (0, 2, 3)
    node_means = terms.mean(pixels) if valid is None else terms.sum(pixels) / valid.sum(pixels).clamp(min=1)
    if reduction == "node":
        return node_means.mean()
    if reduction == "level":
        depths = torch.tensor(hierarchy.depths, device=terms.device)
        return torch.stack([node_means[depths == depth].mean() for depth in range(max(hierarchy.depths) + 1)]).sum()
    raise ValueError(f"reduction must be 'none', 'node' or 'level', not {reduction!r}.")


def _check(logits: Tensor, targets: Tensor, hierarchy: Hierarchy) -> None:
    if logits.ndim != 4 or logits.shape[1] != len(hierarchy):
        raise ValueError(f"Expected (B, {len(hierarchy)}, H, W), got {tuple(logits.shape)}.")
    if logits.shape != targets.shape:
        raise ValueError(f"Logits are {tuple(logits.shape)} but targets are {tuple(targets.shape)}.")


def _at_least_float32(logits: Tensor) -> Tensor:
    """Half formats lose the small differences that a log needs; float64 stays."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
