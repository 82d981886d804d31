"""The predecessor's Focal-Tree-Min, with its bug."""

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
    """Focal tree-min loss with the predecessor's bug, for comparison.

    Going up the tree, the predecessor loops over the nodes of a level and, for each node, over all nodes of the next
    level. Each step overwrites the node's value instead of updating it, so only the last step counts; it also
    overwrites the values from the way down. If the last node is not a child, the step writes the node's own score. With
    scores s, the value that is compared with the target is

    - target 1: for a leaf, the minimum of s over the leaf and its ancestors, as intended; for other nodes, s;
    - target 0: for a root, the maximum over its s and the values of its children; for the parent of the last node of
      the next level, the maximum of s over the parent and that node; for other nodes, s.

    In the default tree, upper is trained as without a tree, and lower uses only one of its parts, the lower leg.
    Arguments as for `hierseg.losses.focal_tree_min`.
    """
    check(logits, targets, hierarchy)
    return focal(_compared(logits, targets, hierarchy), targets, hierarchy, gamma, valid, reduction, positive_weights)


def _compared(logits: Tensor, targets: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Return the values that the predecessor compares with the targets, as logits (B, N, H, W)."""
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
