"""The rows of the loss comparison: how each changes the shared recipe.

Two losses belong to this study alone: the predecessor's, and BCE on the leaves. Importing this module registers them
for recipes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from hierseg.losses import ACTIVATION_OF, LOSSES, TITLE_OF
from hierseg.network.activations import ACTIVATIONS
from studies.losses.leaves import leaf_bce, leaf_sigmoid
from studies.predecessor.loss import focal_tree_min
from train.recipe import Recipe, Triplet

PREDECESSOR = "predecessor_focal_tree_min"

LOSSES |= {PREDECESSOR: focal_tree_min, "leaf_bce": leaf_bce}
ACTIVATIONS["leaf_sigmoid"] = leaf_sigmoid
ACTIVATION_OF |= {PREDECESSOR: "sigmoid", "leaf_bce": "leaf_sigmoid"}
TITLE_OF |= {PREDECESSOR: "Predecessor's Focal-Tree-Min", "leaf_bce": "BCE on leaves"}

# The eight in the picture.
FIRST: dict[str, dict[str, Any]] = {
    **{
        loss: {"loss": loss}
        for loss in (
            *("bce", "focal", "tree_min", "focal_tree_min"),
            *(PREDECESSOR, "level_cross_entropy", "leaf_cross_entropy"),
        )
    },
    "focal_tree_min_triplet": {"loss": "focal_tree_min", "triplet": Triplet()},
}
_SUM = {"loss": "level_cross_entropy", "loss_weights": {"level_cross_entropy": 1.0, "tree_min": 0.5}}
ROWS = FIRST | {
    **{f"{loss}_long": {"loss": loss, "epochs": 10} for loss in ("bce", "tree_min", "leaf_cross_entropy")},
    "bce_x9_unclipped": {"loss": "bce", "loss_weights": {"bce": 9.0}, "optimizer": {"clip": None}},
    "leaf_cross_entropy_unclipped": {"loss": "leaf_cross_entropy", "optimizer": {"clip": None}},
    "leaf_bce": {"loss": "leaf_bce"},
    "focal_tree_min_triplet_02": {"loss": "focal_tree_min", "triplet": Triplet(weight=0.02)},
    "focal_tree_min_triplet_05": {"loss": "focal_tree_min", "triplet": Triplet(weight=0.05)},
    "focal_tree_min_gamma_1": {"loss": "focal_tree_min", "gamma": 1.0},
    "level_sum": _SUM,
    # Distance and margin of the code that Li et al. published for this data set: 1 - cos and 0.1 + (4 - 2) / 4.
    "level_sum_triplet": {**_SUM, "triplet": Triplet(features="encoder", margin=0.6)},
    # That code's sum without triplets, logits for background and a second head. It does not clip, and halves its region
    # term twice: in the term and in the sum.
    "published": {
        "loss": "level_cross_entropy",
        "loss_weights": {"level_cross_entropy": 1.0, "focal_tree_min": 0.5},
        "rmi": 0.25,
        "reduction": "level",
        "optimizer": {"clip": None},
    },
}
TITLES = {
    **{row: TITLE_OF[row] for row in FIRST if row in LOSSES},
    "focal_tree_min_triplet": "Focal-Tree-Min + triplet",
    "bce_long": "BCE, twice the epochs",
    "tree_min_long": "Tree-Min, twice the epochs",
    "leaf_cross_entropy_long": "Softmax over leaves, twice the epochs",
    "bce_x9_unclipped": "BCE x 9, unclipped",
    "leaf_cross_entropy_unclipped": "Softmax over leaves, unclipped",
    "leaf_bce": "BCE on leaves",
    "focal_tree_min_triplet_02": "Focal-Tree-Min + .02 triplet",
    "focal_tree_min_triplet_05": "Focal-Tree-Min + .05 triplet",
    "focal_tree_min_gamma_1": "Focal-Tree-Min, gamma 1",
    "level_sum": "Softmax per level + .5 Tree-Min",
    "level_sum_triplet": "Softmax per level + .5 Tree-Min + triplet",
    "published": "Softmax per level + .5 Focal-Tree-Min + RMI",
}


def plan(recipe: Recipe, row: str, seed: int) -> Recipe:
    """Return the recipe of one run: the shared one, changed by the row, with a seed."""
    changes: dict[str, Any] = {"triplet": None, **ROWS[row], "seed": seed}
    changes["optimizer"] = dataclasses.replace(recipe.optimizer, **changes.get("optimizer", {}))
    changes["model"] = dataclasses.replace(recipe.model, activation=ACTIVATION_OF[changes["loss"]])
    return dataclasses.replace(recipe, **changes)
