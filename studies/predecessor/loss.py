"""The predecessor's Focal-Tree-Min, with its fault."""

from __future__ import annotations

import torch
from torch import Tensor

from hierseg.losses import Reduction, focal
from hierseg.losses.common import check
from hierseg.tree import Hierarchy


def focal_tree_min(
    logits: Tensor,
    targets: Tensor,
    hierarchy: Hierarchy,
    gamma: float = 2.0,
    valid: Tensor | None = None,
    reduction: Reduction = "node",
    positive_weights: Tensor | None = None,
) -> Tensor:
    """Focal tree-min loss with the predecessor's fault, only to be compared with.

    Going up the tree, the predecessor loops over the nodes of a level and, for each, over all nodes of the next level,
    and each turn writes the node's value anew instead of adding to it. So the last turn stands, also over what was
    written on the way down; where its node is no child, that is the node's own score. This is left of minimum and
    maximum:

    - positive: a leaf has the minimum over itself and all above it, as it should; other nodes have their own score;
    - negative: a root has the maximum over itself and what its children have; the parent of the last node of the next
      level has the maximum over itself and that node; other nodes have their own score.

    In the default tree, upper is trained as if it had no tree, and lower sees no part of it but the lower leg.
    Arguments as for `hierseg.losses.focal_tree_min`.
    """
    check(logits, targets, hierarchy)
    return focal(_compared(logits, targets, hierarchy), targets, hierarchy, gamma, valid, reduction, positive_weights)


def _compared(logits: Tensor, targets: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Return the logits that the predecessor compares with the targets, (B, N, H, W)."""
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
