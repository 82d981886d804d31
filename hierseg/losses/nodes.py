"""Binary losses per node: BCE, focal, tree-min and focal tree-min.

The tree losses are those of Li et al., "Deep Hierarchical Semantic Segmentation", CVPR 2022 (arXiv 2203.14335),
equations 4 to 6, computed exactly. The term of node v in a pixel is

    sigmoid(z) ** gamma * softplus(z)

for all four losses, with gamma = 0 for BCE and tree-min. They differ in z. With logits x, ancestors A(v) and
descendants C(v), both including v,

                        target 0                  target 1
    BCE, focal          z = x[v]                  z = -x[v]
    tree-min            z = max of x over C(v)    z = max of -x over A(v)

since min and max commute with the sigmoid. The backward pass is written by hand; autograd would take several times as
long.
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
    """Binary cross-entropy of each node; ignores `gamma`. Arguments as for `focal_tree_min`."""
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
    """Focal loss of each node (Lin et al., ICCV 2017). Arguments as for `focal_tree_min`."""
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
    """Tree-min loss (Li et al., eq. 5); ignores `gamma`. Arguments as for `focal_tree_min`."""
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

    With scores s, and the node's ancestors A and descendants C, both including the node,

        p = min over A of s,  term = (1 - p) ** gamma * -log(p)      where the target is 1
        p = max over C of s,  term = p ** gamma * -log(1 - p)        where it is 0

    so a prediction that breaks the tree is always penalised. The gradient goes only to the node that gives p; in a tie
    to the farthest, and among siblings to the first. There is no second derivative.

    Args:
        logits: Scores before the sigmoid, float, shape (B, N, H, W) in the tree's node order.
        targets: Node masks, bool or 0/1 numbers, same shape.
        hierarchy: The tree.
        gamma: Focusing exponent, at least 0; at 0 this is `tree_min`.
        valid: True where the target is known, bool, per pixel (B, H, W) or per node and pixel (B, N, H, W), as
            `Hierarchy.known_masks` returns it; None if all is known. An unknown node has no term, and is left out of
            the minima and maxima of other nodes.
        reduction: "node" averages over the pixels where a node is known, then over nodes (as the predecessor did);
            "level" averages within each level, then sums over levels (as the paper's code does); "none" returns the
            terms.
        positive_weights: Factor on each node's positive terms, shape (N,), for rare nodes; None for 1.

    Returns:
        A scalar, or the terms (B, N, H, W), zero where not valid, with "none". At least float32.

    Raises:
        ValueError: A shape does not fit the tree, gamma is negative, or the reduction is unknown.
    """
    return _loss(logits, targets, hierarchy, _edges(hierarchy), gamma, valid, reduction, positive_weights)


_Edges = tuple[tuple[int, int], ...]


def _edges(hierarchy: Hierarchy) -> _Edges:
    """Return (node, parent) for each node with a parent, in level order: from the roots down."""
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
    """The terms (B, N, H, W), weighted where the target is 1; 0 where not valid."""

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
            for values in (below, above):  # never the maximum
                values.masked_fill_(~valid, -torch.inf)
        for node, parent in reversed(edges):  # the highest of a node and all below it
            torch.maximum(below[:, parent], below[:, node], out=below[:, parent])
        for node, parent in edges:  # the highest of a node and all above it
            torch.maximum(above[:, node], above[:, parent], out=above[:, node])

        z = torch.where(positive, above, below)
        if valid is not None:
            z.masked_fill_(~valid, -torch.inf)  # no loss and no gradient
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
        # Each slope starts at its own node and moves, edge by edge, to the node that gave the maximum.
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
        del down  # before another array of this size is made
        # In the memory layout of the logits: any other slows the network's backward pass.
        return torch.empty_like(logits).copy_(up), None, None, None, None, None


def _move(source: Tensor, target: Tensor, where: Tensor) -> None:
    """Move numbers where a mask of 0.0 and 1.0 is 1; a bool mask would take several times as long."""
    target.addcmul_(source, where)
    source.addcmul_(source, where, value=-1)
