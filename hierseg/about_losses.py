"""Texts about the losses: the title, one sentence and the source of each; without PyTorch, which the page lacks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """Texts about a loss.

    Attributes:
        title: Its name.
        line: One sentence on what it teaches about the tree.
        tree: Whether it teaches the tree, by training a node together with its ancestors.
        consistent: Whether scores cannot break the tree, as those of an inner node are the sum of its leaves'.
        paper: Authors, venue and year of its source, and the address; None if there is no single source.
    """

    title: str
    line: str
    tree: bool = False
    consistent: bool = False
    paper: tuple[str, str] | None = None


_TREE_MIN = ("Li et al., CVPR 2022", "https://arxiv.org/abs/2203.14335")
_LEAVES = ("Weber et al., CVPR 2024", "https://arxiv.org/abs/2404.03778")
ABOUT = {
    "bce": About("BCE", "Each node learns by itself, so a part can be found where no body is."),
    "focal": About(
        "Focal",
        "Each node learns by itself, and pixels that are still wrong count most.",
        paper=("Lin et al., ICCV 2017", "https://arxiv.org/abs/1708.02002"),
    ),
    "tree_min": About(
        "Tree-Min", "A part is trained to score no higher than what it is part of.", tree=True, paper=_TREE_MIN
    ),
    "focal_tree_min": About(
        "Focal-Tree-Min",
        "A part is trained to score no higher than what it is part of, and pixels that are still wrong count most.",
        tree=True,
        paper=_TREE_MIN,
    ),
    "level_cross_entropy": About("Softmax per level", "Each level learns by itself which of its nodes a pixel is."),
    "leaf_cross_entropy": About(
        "Softmax over leaves",
        "Only the smallest parts are learnt; each larger one scores its parts' sum, so nothing can break the tree.",
        consistent=True,
        paper=_LEAVES,
    ),
}
