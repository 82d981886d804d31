"""Losses of each node: BCE, focal, tree-min and focal tree-min.

The tree losses are those of Li et al., "Deep Hierarchical Semantic Segmentation", CVPR 2022 (arXiv 2203.14335),
equations 4 to 6, computed exactly. They share one form. Let z be a logit that is large where the prediction
contradicts the target; then a term is

    sigmoid(z) ** gamma * softplus(z)

and the losses differ only in z. For plain losses it is the node's own logit where the target is 0, and minus that where
it is 1. Min and max commute with the sigmoid, so for tree-min it is the highest such logit among the node and its
descendants where the target is 0, among the node and its ancestors where it is 1.

The gradient is written out: automatic differentiation of these steps costs several times as much.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hierseg.losses.common import Reduction, check, counts_of, known_nodes, reduce
from hierseg.tree import Hierarchy


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
    return _loss(logits, targets, hierarchy, (), 0.0, valid, reduction, positive_weights)


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
    return _loss(logits, targets, hierarchy, (), gamma, valid, reduction, positive_weights)


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
    return _loss(logits, targets, hierarchy, _edges(hierarchy), 0.0, valid, reduction, positive_weights)


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

    With scores s, the node's ancestors A and descendants C, each with itself among them,

        p = min over A of s,  term = (1 - p) ** gamma * -log(p)      where the target is 1
        p = max over C of s,  term = p ** gamma * -log(1 - p)        where it is 0

    so a prediction that breaks the tree always costs. The gradient goes to the one node that gives p; where several
    tie, to the farthest, and of siblings to the first. Second derivatives are refused.

    Args:
        logits: Scores before the sigmoid, float, shape (B, N, H, W) in the tree's node order.
        targets: Node masks, bool or 0/1 numbers, same shape.
        hierarchy: The tree.
        gamma: Focusing exponent, at least 0; at 0 this is `tree_min`.
        valid: What is known, bool: of which pixels, shape (B, H, W), or of which nodes of each pixel, (B, N, H, W),
            as `Hierarchy.known_masks` gives it for labels that stop at an inner node; None for everything. What is
            not known has no term and is left out of the minima and maxima of other terms.
        reduction: "node" is the mean over the pixels of which a node is known, then over nodes (as the predecessor
            did); "level" is the mean over each level, summed over levels (as the paper's code does); "none" returns
            the terms.
        positive_weights: Factor on each node's positive terms, shape (N,), for nodes that are rare; None for 1.

    Returns:
        A scalar, or the terms (B, N, H, W), zero where not valid, with "none". At least float32 whatever the logits.

    Raises:
        ValueError: A shape does not fit the tree, gamma is negative, or the reduction has no such name.
    """
    return _loss(logits, targets, hierarchy, _edges(hierarchy), gamma, valid, reduction, positive_weights)


_Edges = tuple[tuple[int, int], ...]


def _edges(hierarchy: Hierarchy) -> _Edges:
    """Return (node, parent) of each node that has one; in level order, so from the roots down."""
    return tuple((node, parent) for node, parent in enumerate(hierarchy.parents) if parent >= 0)


def _loss(
    logits: Tensor,
    targets: Tensor,
    hierarchy: Hierarchy,
    edges: _Edges,
    gamma: float,
    valid: Tensor | None,
    reduction: Reduction,
    positive_weights: Tensor | None,
) -> Tensor:
    check(logits, targets, hierarchy, positive_weights)
    if gamma < 0:
        raise ValueError(f"gamma must be at least 0, not {gamma}.")
    valid = known_nodes(valid, logits)
    terms = _Terms.apply(logits, targets, edges, gamma, valid, positive_weights)  # type: ignore[no-untyped-call]
    return reduce(terms, hierarchy, reduction, None if valid is None else counts_of(valid))


class _Terms(torch.autograd.Function):
    """The terms (B, N, H, W), those of positive targets weighted; 0 where not valid."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        targets: Tensor,
        edges: _Edges,
        gamma: float,
        valid: Tensor | None,
        positive_weights: Tensor | None,
    ) -> Tensor:
        dtype = torch.promote_types(logits.dtype, torch.float32)  # half formats lose small differences that a log needs
        positive = targets.bool().contiguous()
        below = logits.to(dtype, copy=True, memory_format=torch.contiguous_format)
        above = -below
        if edges and valid is not None and valid.shape[1] > 1:
            for values in (below, above):  # never the highest
                values.masked_fill_(~valid, -torch.inf)
        for node, parent in reversed(edges):  # the highest of a node and all below it
            torch.maximum(below[:, parent], below[:, node], out=below[:, parent])
        for node, parent in edges:  # the highest of a node and all above it
            torch.maximum(above[:, node], above[:, parent], out=above[:, node])

        z = torch.where(positive, above, below)
        if valid is not None:
            z.masked_fill_(~valid, -torch.inf)  # right beyond doubt: no cost and no slope
        terms = functional.softplus(z)
        slopes = z.sigmoid_()
        if gamma > 0:
            focus = slopes**gamma
            finite = terms.clamp(max=torch.finfo(dtype).max)  # 0 * inf is not a number
            slopes.add_((1 - slopes).mul_(finite), alpha=gamma).mul_(focus)
            terms.mul_(focus)
        if positive_weights is not None:
            weights = torch.where(positive, positive_weights.to(terms).view(-1, 1, 1), 1.0)
            slopes.mul_(weights)
            terms.mul_(weights)

        ctx.save_for_backward(logits, slopes, positive, *((above, below) if edges else ()))
        ctx.edges = edges
        return terms

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("The losses have no second derivative: differentiate them without create_graph.")
        logits, slopes, positive, *relatives = ctx.saved_tensors
        slopes = slopes * upstream
        # Each slope starts at its own node and moves, edge by edge, to the relative that the term was made of.
        down = torch.where(positive, 0.0, slopes)
        up = torch.sub(down, slopes, out=slopes)  # negative, as `above` is made of negated logits
        if relatives:
            above, below = relatives
            same = torch.empty_like(up[:, 0])
            for node, parent in reversed(ctx.edges):
                torch.eq(above[:, node], above[:, parent], out=same)
                _move(up[:, node], up[:, parent], same)
            for node, parent in ctx.edges:
                torch.eq(below[:, node], below[:, parent], out=same)
                _move(down[:, parent], down[:, node], same)
        up += down
        del down  # before another array as large is made
        # In the layout of the logits: on another the backward pass of the network is slower.
        return torch.empty_like(logits).copy_(up), None, None, None, None, None


def _move(source: Tensor, target: Tensor, where: Tensor) -> None:
    """Move numbers where a mask of 0.0 and 1.0 is 1; with a mask of bools this takes several times as long."""
    target.addcmul_(source, where)
    source.addcmul_(source, where, value=-1)
