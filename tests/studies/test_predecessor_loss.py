"""The predecessor's faulty loss against its loops, in which each step overwrites the last."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierseg.tree import Hierarchy
from studies.losses.rows import PREDECESSOR
from tests.losses.test_losses import Case, cases, loss_of
from tests.trees import hierarchies, node_and_above


def twin_scores(tree: Hierarchy, scores: Sequence[float], targets: Sequence[bool]) -> list[float]:
    """Return the values that the predecessor compares with targets, by its own loops."""
    depths = [len(node_and_above(tree, node)) - 1 for node in range(len(tree))]
    found = list(scores)
    for node, parent in enumerate(tree.parents):
        if targets[node] and parent >= 0:
            found[node] = min(found[parent], scores[node])
    for node in range(len(tree)):
        if tree.children[node] and depths[node] > 0:
            for below in range(len(tree)):
                if depths[below] == depths[node] + 1:
                    seen = tree.parents[below] == node and not targets[node]
                    found[node] = max(scores[node], scores[below]) if seen else scores[node]
    for node, parent in enumerate(tree.parents):
        if parent < 0 and not targets[node]:
            found[node] = max([scores[node], *(found[child] for child in tree.children[node])])
    return found


@given(case=cases(hierarchies() | st.just(Hierarchy.default()), consistent=True))
def test_the_loss_is_that_of_the_predecessors_loops(case: Case) -> None:
    terms = loss_of(PREDECESSOR, case, "none", valid=None, positive_weights=None)
    for image, row, column in np.ndindex(*case.logits[:, 0].shape):
        pixel = (image, slice(None), row, column)
        targets = case.targets[pixel].tolist()
        for node, p in enumerate(twin_scores(case.tree, case.logits[pixel].sigmoid().tolist(), targets)):
            wrong = 1 - p if targets[node] else p
            assert terms[image, node, row, column].item() == pytest.approx(wrong**case.gamma * -math.log(1 - wrong))
