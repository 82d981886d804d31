"""Losses: pure functions of (logits, targets, hierarchy), by name in `LOSSES`.

Each learns only from nodes that are known: see `valid` of `focal_tree_min`.
"""

from collections.abc import Callable

from torch import Tensor

from hierseg.about_losses import ABOUT
from hierseg.losses.common import Reduction, reduce
from hierseg.losses.nodes import bce, focal, focal_tree_min, tree_min
from hierseg.losses.region import region_mutual_information, soft_jaccard
from hierseg.losses.softmax import leaf_cross_entropy, level_cross_entropy

__all__ = [
    "ACTIVATION_OF",
    "LOSSES",
    "TITLE_OF",
    "LossFunction",
    "Reduction",
    "bce",
    "focal",
    "focal_tree_min",
    "leaf_cross_entropy",
    "level_cross_entropy",
    "reduce",
    "region_mutual_information",
    "soft_jaccard",
    "tree_min",
]

LossFunction = Callable[..., Tensor]
LOSSES: dict[str, LossFunction] = {
    loss.__name__: loss for loss in (bce, focal, tree_min, focal_tree_min, level_cross_entropy, leaf_cross_entropy)
}
# The activation in `hierseg.network.activations` for logits trained with each loss.
ACTIVATION_OF = dict.fromkeys(LOSSES, "sigmoid") | {
    "level_cross_entropy": "level_softmax",
    "leaf_cross_entropy": "leaf_softmax",
}
TITLE_OF = {name: about.title for name, about in ABOUT.items()}
