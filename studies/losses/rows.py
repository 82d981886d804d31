"""The rows of the loss comparison.

The predecessor's loss is one of them. Importing this module enters it among the losses that a recipe can name, under
the name that stored results have.
"""

from __future__ import annotations

from typing import Any

from hierseg.losses import ACTIVATION_OF, LOSSES, TITLE_OF
from studies.predecessor.loss import focal_tree_min
from train.recipe import Triplet

PREDECESSOR = "predecessor_focal_tree_min"

LOSSES[PREDECESSOR] = focal_tree_min
ACTIVATION_OF[PREDECESSOR] = "sigmoid"
TITLE_OF[PREDECESSOR] = "Focal-Tree-Min of the predecessor"

_LOSSES = ("bce", "focal", "tree_min", "focal_tree_min", PREDECESSOR, "level_cross_entropy", "leaf_cross_entropy")

# By name: what each row does to the recipe that all share.
ROWS: dict[str, dict[str, Any]] = {
    **{loss: {"loss": loss, "triplet": None} for loss in _LOSSES},
    "focal_tree_min_triplet": {"loss": "focal_tree_min", "triplet": Triplet()},
}
TITLES = {
    **{loss: TITLE_OF[loss] for loss in _LOSSES},
    "focal_tree_min_triplet": f"{TITLE_OF['focal_tree_min']} + triplet",
}
