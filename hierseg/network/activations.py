"""Turn logits into node scores: pure functions of (logits, hierarchy), one for each kind of loss.

With every activation, a network has one channel per node and gives one score per node, so decoding, metrics and the
page need not know which it is. In a softmax, background has the logit 0. Nothing is lost by this: adding a constant to
all logits does not change a softmax.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hierseg.tree import Hierarchy

if TYPE_CHECKING:  # PyTorch takes seconds to import, and the names alone need none of it
    from torch import Tensor


def sigmoid(logits: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Score each node independently. Arguments as for `level_softmax`."""
    return logits.sigmoid()


def level_softmax(logits: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Apply a softmax over background and the nodes of each level.

    A leaf above a level is also a class of that level, as in `Hierarchy.levels`; its score is taken from the level of
    its own depth. Levels are independent, so the scores can break the tree.

    Args:
        logits: Float, shape (B, N, H, W) in the tree's node order.
        hierarchy: The tree.

    Returns:
        Scores, same shape and type, 0 to 1.
    """
    import torch

    levels = []
    for depth, members in enumerate(hierarchy.levels.values()):
        own = sum(hierarchy.depths[node] == depth for node in members)
        # In level order, leaves from above come first; without them, the levels join up in node order.
        levels.append(_softmax(_with_background(logits, members))[:, -own:])
    return torch.cat(levels, 1)


def leaf_softmax(logits: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Apply a softmax over background and the leaves; a parent's score is the sum of its children's.

    The scores never break the tree. Channels of inner nodes are ignored. This is the flat network of Weber et al.,
    "Flattening the Parent Bias", CVPR 2024. Arguments as for `level_softmax`.
    """
    return sums_of_leaves(_softmax(_with_background(logits, hierarchy.leaves))[:, 1:], hierarchy)


def sums_of_leaves(shares: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Return the scores of all nodes, (B, N, H, W), from those of leaves: a parent's is their sum, at most 1."""
    import torch

    scores = dict(zip(hierarchy.leaves, shares.unbind(1), strict=True))
    for node in reversed(range(len(hierarchy))):  # level order: children come before their parent
        if hierarchy.children[node]:
            scores[node] = torch.stack([scores[child] for child in hierarchy.children[node]]).sum(0)
    # The sum of a softmax, too, can round to just above 1.
    return torch.stack([scores[node] for node in range(len(hierarchy))], 1).clamp(max=1)


Activation = Callable[["Tensor", Hierarchy], "Tensor"]
ACTIVATIONS: dict[str, Activation] = {each.__name__: each for each in (sigmoid, level_softmax, leaf_softmax)}


def _with_background(logits: Tensor, nodes: tuple[int, ...]) -> Tensor:
    """Return the logits of background and the given nodes, (B, 1 + nodes, H, W)."""
    import torch

    return torch.cat([torch.zeros_like(logits[:, :1]), logits[:, list(nodes)]], 1)


def _softmax(logits: Tensor) -> Tensor:
    """Return the softmax over the channels of (B, C, H, W).

    ONNX Runtime transposes the maps for its own, which then takes a sixth of the network's time.
    """
    powers = (logits - logits.amax(1, keepdim=True)).exp()
    return powers / powers.sum(1, keepdim=True)
