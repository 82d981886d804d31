"""What the labels of each source tell: as the tree says, and more where a source rules nodes out.

A mask may stop at an inner node. Where such a label is drawn around shirts, it never means a head, and a recipe says
so: `never: {upper: [head]}`. In crops that label then has a number of its own, whose row of the tables knows more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hierseg.tree import BoolMask, Hierarchy, UInt8Map
from train.recipe import Source


@dataclass(frozen=True)
class Knowledge:
    """The label numbers of a run's crops, and what each tells.

    Attributes:
        membership: As `Hierarchy.membership`, bool (256, N).
        knowledge: As `Hierarchy.knowledge`, bool (256, N).
        numbers: For each source, the number in crops of each label in its masks, uint8 (256,).
    """

    membership: BoolMask
    knowledge: BoolMask
    numbers: tuple[UInt8Map, ...]

    @staticmethod
    def of(tree: Hierarchy, sources: Sequence[Source]) -> Knowledge:
        """Return what the labels of some sources tell.

        Args:
            tree: The tree.
            sources: The sources; the nodes that they name are the tree's, see `Recipe`.
        """
        membership, knowledge = tree.membership.copy(), tree.knowledge.copy()
        free = iter(sorted({*range(256)} - {*tree.labels, tree.background, tree.void}))
        numbers = [np.arange(256, dtype=np.uint8) for _ in sources]
        for own, source in zip(numbers, sources, strict=True):
            for name, absent in source.never.items():
                label, number = tree.labels[tree.index(name)], next(free)
                own[label] = number
                membership[number], knowledge[number] = membership[label], knowledge[label]
                for node in absent:
                    knowledge[number] |= tree.descendants[tree.index(node)]
        return Knowledge(membership, knowledge, tuple(numbers))
