"""Softmax cross-entropy: over the nodes of each level, or over the leaves."""

from __future__ import annotations

import torch
from torch import Tensor

from hierseg.losses.common import Reduction, check, counts_of, known_nodes, reduce
from hierseg.tree import Hierarchy


def level_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    hierarchy: Hierarchy,
    gamma: float = 0.0,
    valid: Tensor | None = None,
    reduction: Reduction = "node",
    positive_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy over background and the nodes of each level, for `activations.level_softmax`.

    A pixel annotated above a level may be any of the level's nodes below that label: their probabilities are added up.
    A leaf above a level is also a class of that level.

    Args:
        logits: Float, shape (B, N, H, W) in the tree's node order; background has the logit 0.
        targets: Node masks, bool or 0/1 numbers, same shape; in each pixel, the nodes of one path from a root, or none.
        hierarchy: The tree.
        gamma: Ignored.
        valid: True where the target is known, bool, per pixel (B, H, W) or per node and pixel (B, N, H, W); None if all
            is known. The loss is -log of the summed probabilities of all classes that agree with what is known. Pixels
            without a known node do not count.
        reduction: "node" averages over pixels, then over levels; "level" averages over pixels, then sums over levels;
            "none" returns the terms.
        positive_weights: Factor on the terms of pixels of each node, shape (N,); None for 1. Background has 1.

    Returns:
        A scalar, or the terms (B, levels, H, W), zero where not valid, with "none". At least float32.

    Raises:
        ValueError: A shape does not fit the tree, or the reduction is unknown.
    """
    levels = tuple(hierarchy.levels.values())
    return _cross_entropy(logits, targets, hierarchy, levels, valid, reduction, positive_weights)


def leaf_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    hierarchy: Hierarchy,
    gamma: float = 0.0,
    valid: Tensor | None = None,
    reduction: Reduction = "node",
    positive_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy over the leaves and background, for `activations.leaf_softmax` (Weber et al., CVPR 2024).

    Arguments as for `level_cross_entropy`, with the leaves as the only level.
    """
    return _cross_entropy(logits, targets, hierarchy, (hierarchy.leaves,), valid, reduction, positive_weights)


def _cross_entropy(
    logits: Tensor,
    targets: Tensor,
    hierarchy: Hierarchy,
    levels: tuple[tuple[int, ...], ...],
    valid: Tensor | None,
    reduction: Reduction,
    positive_weights: Tensor | None,
) -> Tensor:
    """Return the cross-entropy of a softmax over background and the nodes of each level."""
    check(logits, targets, hierarchy, positive_weights)
    known = known_nodes(valid, logits)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    on = targets.bool() if known is None else targets.bool() & known
    possible, background = _possible(on, known, hierarchy)
    columns = []
    for nodes in map(list, levels):
        shares = torch.cat([torch.zeros_like(logits[:, :1]), logits[:, nodes]], 1).log_softmax(1)
        true = torch.cat([background, possible[:, nodes]], 1)
        term = -shares.masked_fill(~true, -torch.inf).logsumexp(1)
        if positive_weights is not None:
            extra = (positive_weights[nodes] - 1).to(term).view(-1, 1, 1)
            term = term * (1 + (on[:, nodes] * extra).sum(1))
        columns.append(term)
    terms = torch.stack(columns, 1)
    if known is None:
        return reduce(terms, hierarchy, reduction)
    counted = known.any(1, keepdim=True)
    return reduce(terms.masked_fill(~counted, 0.0), hierarchy, reduction, counts_of(counted))


def _possible(on: Tensor, known: Tensor | None, hierarchy: Hierarchy) -> tuple[Tensor, Tensor]:
    """Return which nodes a pixel may belong to, (B, N, H, W), and whether it may be background, (B, 1, H, W).

    Args:
        on: Nodes known to be on, (B, N, H, W).
        known: Nodes known to be on or off, (B, N, H, W), or (B, 1, H, W) for all nodes at once; None if all are known.
        hierarchy: The tree.
    """
    entered = list(on.unbind(1))  # nodes that are on and all their ancestors, known or not
    for node in reversed(range(len(hierarchy))):
        if (parent := hierarchy.parents[node]) >= 0:
            entered[parent] = entered[parent] | entered[node]
    background = ~torch.stack([entered[root] for root in hierarchy.roots]).any(0)
    if known is not None and known.shape[1] == on.shape[1]:
        possible = [either | unknown for either, unknown in zip(entered, (~known).unbind(1), strict=True)]
    else:
        possible = list(entered)
    for parent, children in ((-1, hierarchy.roots), *enumerate(hierarchy.children)):
        for child in children:  # at most one sibling is on
            for sibling in children:
                if sibling != child:
                    possible[child] = possible[child] & ~entered[sibling]
            if parent >= 0:
                possible[child] = possible[child] & possible[parent]
    for node in reversed(range(len(hierarchy))):  # without a possible child, a node is off unless known to be on
        if hierarchy.children[node]:
            possible[node] = entered[node] | torch.stack([possible[child] for child in hierarchy.children[node]]).any(0)
    for node, children in enumerate(hierarchy.children):  # the label stops here and tells nothing about the children
        if children:
            stops = possible[node] & ~torch.stack([possible[child] for child in children]).any(0)
            for child in children:
                possible[child] = possible[child] | stops
    return torch.stack(possible, 1), background.unsqueeze(1)
