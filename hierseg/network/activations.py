"""Logits to node scores: pure functions of (logits, hierarchy), one for each way to train.

Whatever the activation, a network has one output channel a node and a checkpoint gives one score a node, so decoding,
metrics and the page need not know which it is. The softmax ones give background a logit of 0: a softmax of N + 1 logits
does not change when all are moved together, so nothing is lost by fixing one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hierseg.tree import Hierarchy

if TYPE_CHECKING:  # PyTorch takes seconds to import, and the names alone need none of it
    from torch import Tensor


def sigmoid(logits: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Score each node by itself. Arguments as for `level_softmax`."""
    return logits.sigmoid()


def level_softmax(logits: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Let the nodes of each level and background share a probability of 1.

    A leaf that lies above a level stands for itself there, as in `Hierarchy.levels`; its score is its share on the
    level of its own depth. Nothing ties one level to another, so the scores can break the tree.

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
        # In level order the leaves from above come first, so what is kept of all levels is again in node order.
        levels.append(_with_background(logits, members).softmax(1)[:, -own:])
    return torch.cat(levels, 1)


def leaf_softmax(logits: Tensor, hierarchy: Hierarchy) -> Tensor:
    """Let the leaves and background share a probability of 1; a parent's is the sum of its children's.

    The scores never break the tree. Channels of inner nodes are not looked at. This is the flat network of Weber et
    al., "Flattening the Parent Bias", CVPR 2024. Arguments as for `level_softmax`.
    """
    import torch

    shares = _with_background(logits, hierarchy.leaves).softmax(1)[:, 1:]
    scores = dict(zip(hierarchy.leaves, shares.unbind(1), strict=True))
    for node in reversed(range(len(hierarchy))):  # level order: children come before their parent
        if hierarchy.children[node]:
            scores[node] = torch.stack([scores[child] for child in hierarchy.children[node]]).sum(0)
    # A sum can round to just above 1.
    return torch.stack([scores[node] for node in range(len(hierarchy))], 1).clamp(max=1)


Activation = Callable[["Tensor", Hierarchy], "Tensor"]
ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": sigmoid,
    "level_softmax": level_softmax,
    "leaf_softmax": leaf_softmax,
}


def _with_background(logits: Tensor, nodes: tuple[int, ...]) -> Tensor:
    """Return the logits of background and of some nodes, (B, 1 + nodes, H, W)."""
    import torch

    return torch.cat([torch.zeros_like(logits[:, :1]), logits[:, list(nodes)]], 1)
