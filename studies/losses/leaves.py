"""BCE on the leaves alone; a parent scores the sum of its children: the softmax over leaves without its softmax."""

from __future__ import annotations

from torch import Tensor

from hierseg.losses import Reduction, bce, reduce
from hierseg.losses.common import counts_of, known_nodes
from hierseg.network.activations import sums_of_leaves
from hierseg.tree import Hierarchy


def leaf_bce(
    logits: Tensor,
    targets: Tensor,
    hierarchy: Hierarchy,
    gamma: float = 0.0,
    valid: Tensor | None = None,
    reduction: Reduction = "node",
    positive_weights: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of each leaf; the channels of inner nodes learn nothing.

    Arguments as for `hierseg.losses.focal_tree_min`. Terms are scaled so that "node" is the mean over leaves.
    """
    terms = bce(logits, targets, hierarchy, valid=valid, reduction="none", positive_weights=positive_weights)
    share = [0.0 if children else len(hierarchy) / len(hierarchy.leaves) for children in hierarchy.children]
    known = known_nodes(valid, logits)
    counts = None if known is None else counts_of(known)
    return reduce(terms * terms.new_tensor(share).view(-1, 1, 1), hierarchy, reduction, counts)


def leaf_sigmoid(logits: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Score each leaf by itself, and a parent by the sum of its children, at most 1.

    A pixel belongs to one leaf at most, so the probability of several is the sum of theirs, as in `leaf_softmax`, which
    differs in the scores of leaves alone. No score is above its parent's, so none breaks the tree. Arguments as for
    `hierseg.network.activations.level_softmax`.
    """
    return sums_of_leaves(logits[:, list(hierarchy.leaves)].sigmoid(), hierarchy)
