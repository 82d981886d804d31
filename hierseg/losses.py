"""Pure functions of (logits, targets, hierarchy): BCE, focal, tree-min, focal tree-min and their rivals.

The tree losses are those of Li et al., "Deep Hierarchical Semantic Segmentation", CVPR 2022 (arXiv 2203.14335),
equations 4 to 6, computed exactly. The first four share one form. Let z be a logit that is large where the prediction
contradicts the target; then a term is

    sigmoid(z) ** gamma * softplus(z)

and the losses differ only in z. For plain losses it is the node's own logit where the target is 0, and minus that where
it is 1. Min and max commute with the sigmoid, so for tree-min it is the highest such logit among the node and its
descendants where the target is 0, among the node and its ancestors where it is 1.

The gradient is written out: automatic differentiation of these steps costs several times as much.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

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
        reduction: "node" is the mean over the pixels of which a node is known, then over nodes (as the seed did);
            "level" is the mean over each level, summed over levels (as the paper's code does); "none" returns the
            terms.
        positive_weights: Factor on each node's positive terms, shape (N,), for nodes that are rare; None for 1.

    Returns:
        A scalar, or the terms (B, N, H, W), zero where not valid, with "none". At least float32 whatever the logits.

    Raises:
        ValueError: A shape does not fit the tree, gamma is negative, or the reduction has no such name.
    """
    return _loss(logits, targets, hierarchy, _edges(hierarchy), gamma, valid, reduction, positive_weights)


def seed_focal_tree_min(
    logits: Tensor,
    targets: Tensor,
    hierarchy: Hierarchy,
    gamma: float = 2.0,
    valid: Tensor | None = None,
    reduction: Reduction = "node",
    positive_weights: Tensor | None = None,
) -> Tensor:
    """Focal tree-min loss with the fault of this project's seed, only to be compared with.

    Going up the tree, the seed loops over the nodes of a level and, for each, over all nodes of the next level, and
    each turn writes the node's value anew instead of adding to it. So the last turn stands, also over what was written
    on the way down; where its node is no child, that is the node's own score. This is left of minimum and maximum:

    - positive: a leaf has the minimum over itself and all above it, as it should; other nodes have their own score;
    - negative: a root has the maximum over itself and what its children have; the parent of the last node of the next
      level has the maximum over itself and that node; other nodes have their own score.

    In the default tree, upper is trained as if it had no tree, and lower sees no part of it but the lower leg.
    Arguments as for `focal_tree_min`.
    """
    _check(logits, targets, hierarchy)
    compared = _seed_logits(logits, targets, hierarchy)
    return _loss(compared, targets, hierarchy, (), gamma, valid, reduction, positive_weights)


def level_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    hierarchy: Hierarchy,
    gamma: float = 0.0,
    valid: Tensor | None = None,
    reduction: Reduction = "node",
    positive_weights: Tensor | None = None,
) -> Tensor:
    """Cross-entropy of each level over the nodes it shows and background, for `activations.level_softmax`.

    A pixel that is annotated higher in the tree than a level may be any of the level's nodes below: their
    probabilities are added up. On a level a leaf from above stands for itself.

    Args:
        logits: Float, shape (B, N, H, W) in the tree's node order; background has the logit 0.
        targets: Node masks, bool or 0/1 numbers, same shape; on in a pixel are the nodes of one path or none.
        hierarchy: The tree.
        gamma: Taken and ignored.
        valid: What is known, bool: of which pixels, shape (B, H, W), or of which nodes of each pixel, (B, N, H, W);
            None for everything. A class counts as possible where nothing that is known contradicts it, and the loss is
            that of the possible classes' sum. A pixel of which no node is known does not count.
        reduction: "node" is the mean over pixels, then over levels; "level" is the mean over pixels, summed over
            levels; "none" returns the terms.
        positive_weights: Factor on the terms of pixels of each node, shape (N,); None for 1. Background has 1.

    Returns:
        A scalar, or the terms (B, levels, H, W), zero where not valid, with "none". At least float32.

    Raises:
        ValueError: A shape does not fit the tree, or the reduction has no such name.
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


def soft_jaccard(
    scores: Tensor, targets: Tensor, valid: Tensor, reduce_sums: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Soft Jaccard loss, a region term beside a loss of pixels (Rahman and Wang, ISVC 2016).

    With scores s and targets t of a node, summed over all pixels of the batch of which the node is known,

        1 - (sum(s t) + 1) / (sum(s + t - s t) + 1)

    and the mean over the nodes that the batch holds.

    Args:
        scores: Node scores, float (B, N, H, W), 0 to 1.
        targets: Node masks, bool or 0/1 numbers, same shape.
        valid: Of which nodes of each pixel it is known whether they are on, bool, same shape.
        reduce_sums: Adds up sums (3, N) over all processes, with a gradient; None where there is one process.

    Returns:
        A scalar, at least float32; 0 with gradients of 0 where the batch holds no node.

    Raises:
        ValueError: The shapes differ.
    """
    if not scores.shape == targets.shape == valid.shape:
        raise ValueError(
            f"Scores are {tuple(scores.shape)}, targets {tuple(targets.shape)} and the valid mask {tuple(valid.shape)}."
        )
    pixels = (0, 2, 3)
    known = valid.to(torch.promote_types(scores.dtype, torch.float32))
    truth = targets * known
    sums = torch.stack([(scores * truth).sum(pixels), (scores * known).sum(pixels), truth.sum(pixels)])
    both, found, there = sums if reduce_sums is None else reduce_sums(sums)
    losses = 1 - (both + 1) / (found + there - both + 1)
    held = there > 0
    mean: Tensor = (losses * held).sum() / held.sum().clamp(min=1)
    return mean


LossFunction = Callable[..., Tensor]
LOSSES: dict[str, LossFunction] = {
    "bce": bce,
    "focal": focal,
    "tree_min": tree_min,
    "focal_tree_min": focal_tree_min,
    "seed_focal_tree_min": seed_focal_tree_min,
    "level_cross_entropy": level_cross_entropy,
    "leaf_cross_entropy": leaf_cross_entropy,
}
# What makes scores of the logits that a loss trains, see `hierseg.activations`.
ACTIVATION_OF = dict.fromkeys(LOSSES, "sigmoid") | {
    "level_cross_entropy": "level_softmax",
    "leaf_cross_entropy": "leaf_softmax",
}

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
    _check(logits, targets, hierarchy, positive_weights)
    if gamma < 0:
        raise ValueError(f"gamma must be at least 0, not {gamma}.")
    valid = _known(valid, logits)
    terms = _Terms.apply(logits, targets, edges, gamma, valid, positive_weights)  # type: ignore[no-untyped-call]
    return reduce(terms, hierarchy, reduction, None if valid is None else _counts(valid))


def _check(logits: Tensor, targets: Tensor, hierarchy: Hierarchy, positive_weights: Tensor | None = None) -> None:
    if logits.ndim != 4 or logits.shape[1] != len(hierarchy):
        raise ValueError(f"Expected (B, {len(hierarchy)}, H, W), got {tuple(logits.shape)}.")
    if logits.shape != targets.shape:
        raise ValueError(f"Logits are {tuple(logits.shape)} but targets are {tuple(targets.shape)}.")
    if positive_weights is not None and positive_weights.shape != (len(hierarchy),):
        raise ValueError(f"Expected ({len(hierarchy)},) positive weights, got {tuple(positive_weights.shape)}.")


def reduce(terms: Tensor, hierarchy: Hierarchy, reduction: Reduction, counts: Tensor | None = None) -> Tensor:
    """Reduce the terms of a loss, as the losses do.

    Args:
        terms: What a loss gives with the reduction "none": (B, N, H, W), or (B, levels, H, W) of a cross-entropy.
        hierarchy: The tree.
        reduction: As for `focal_tree_min`; for terms by level, "node" is the mean over levels and "level" their sum.
        counts: How many pixels each node's or level's terms are of, (N,), (levels,) or (1,); None for all.

    Returns:
        A scalar, or the terms with "none".

    Raises:
        ValueError: The reduction has no such name.
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


def _counts(valid: Tensor) -> Tensor:
    return valid.sum((0, 2, 3))


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


def _seed_logits(logits: Tensor, targets: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Return the logits that the seed compares with the targets, (B, N, H, W)."""
    own = logits.unbind(1)
    lowest = list(own)
    for path in hierarchy.paths:
        lowest[path[-1]] = torch.stack([own[node] for node in path]).amin(0)
    highest = list(own)
    for level in range(2, max(hierarchy.depths) + 1):
        last = max(node for node, depth in enumerate(hierarchy.depths) if depth == level)
        parent = hierarchy.parents[last]
        highest[parent] = torch.maximum(own[parent], own[last])
    for root in hierarchy.roots:
        highest[root] = torch.stack([own[root], *(highest[child] for child in hierarchy.children[root])]).amax(0)
    return torch.where(targets.bool(), torch.stack(lowest, 1), torch.stack(highest, 1))


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
    _check(logits, targets, hierarchy, positive_weights)
    known = _known(valid, logits)
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
    return reduce(terms.masked_fill(~counted, 0.0), hierarchy, reduction, _counts(counted))


def _known(valid: Tensor | None, logits: Tensor) -> Tensor | None:
    """Return a mask of what is known, (B, 1, H, W) or (B, N, H, W)."""
    if valid is None:
        return None
    if valid.shape == logits[:, 0].shape:
        return valid.bool().unsqueeze(1)
    if valid.shape == logits.shape:
        return valid.bool()
    raise ValueError(f"Logits are {tuple(logits.shape)} but the valid mask is {tuple(valid.shape)}.")


def _possible(on: Tensor, known: Tensor | None, hierarchy: Hierarchy) -> tuple[Tensor, Tensor]:
    """Return of which nodes a pixel may be, (B, N, H, W), and whether it may be background, (B, 1, H, W).

    Args:
        on: Nodes that are known to be on, (B, N, H, W).
        known: Nodes that are known to be on or off, (B, N, H, W), or (B, 1, H, W) for all alike; None for all.
        hierarchy: The tree.
    """
    entered = list(on.unbind(1))  # nodes that are on, and those above them, of which nothing need be known
    for node in reversed(range(len(hierarchy))):
        if (parent := hierarchy.parents[node]) >= 0:
            entered[parent] = entered[parent] | entered[node]
    background = ~torch.stack([entered[root] for root in hierarchy.roots]).any(0)
    if known is not None and known.shape[1] == on.shape[1]:
        possible = [either | unknown for either, unknown in zip(entered, (~known).unbind(1), strict=True)]
    else:
        possible = list(entered)
    for parent, children in ((-1, hierarchy.roots), *enumerate(hierarchy.children)):
        for child in children:  # of siblings one at most is on
            for sibling in children:
                if sibling != child:
                    possible[child] = possible[child] & ~entered[sibling]
            if parent >= 0:
                possible[child] = possible[child] & possible[parent]
    for node in reversed(range(len(hierarchy))):  # what has no possible child is off, unless it is known to be on
        if hierarchy.children[node]:
            possible[node] = entered[node] | torch.stack([possible[child] for child in hierarchy.children[node]]).any(0)
    for node, children in enumerate(hierarchy.children):  # the label stops here, and says nothing of what lies below
        if children:
            stops = possible[node] & ~torch.stack([possible[child] for child in children]).any(0)
            for child in children:
                possible[child] = possible[child] | stops
    return torch.stack(possible, 1), background.unsqueeze(1)
