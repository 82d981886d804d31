"""The predecessor's faulty loss against its loops, in which each step overwrites the last."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given

from hierseg.tree import Hierarchy
from studies.losses.rows import PREDECESSOR
from studies.predecessor.loss import focal_tree_min
from tests.losses.test_losses import Case, cases, loss_of, pixel
from tests.trees import node_and_above


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


@given(case=cases(consistent=True))
def test_the_loss_is_that_of_the_predecessors_loops(case: Case) -> None:
    terms = loss_of(PREDECESSOR, case, "none", valid=None, positive_weights=None)
    for image, row, column in np.ndindex(*case.logits[:, 0].shape):
        pixel = (image, slice(None), row, column)
        targets = case.targets[pixel].tolist()
        for node, p in enumerate(twin_scores(case.tree, case.logits[pixel].sigmoid().tolist(), targets)):
            wrong = 1 - p if targets[node] else p
            assert terms[image, node, row, column].item() == pytest.approx(wrong**case.gamma * -math.log(1 - wrong))


def test_its_faults_are_those_of_the_tree_that_it_was_made_for(tree: Hierarchy) -> None:
    def p(node: str, truth: list[str], **scores: float) -> float:
        logits = torch.tensor([scores.get(name, 0.5) for name in tree.nodes]).logit().view(1, -1, 1, 1)
        term = focal_tree_min(logits, pixel(tree, 1, 0, *truth), tree, gamma=0, reduction="none")
        score = 1 - math.exp(-term[0, tree.index(node), 0, 0].item())
        return 1 - score if node in truth else score

    person = ["body", "upper", "head"]
    assert p("head", person, body=0.1, upper=0.3, head=0.4) == pytest.approx(0.1)  # as it should be
    assert p("upper", person, body=0.1, upper=0.3) == pytest.approx(0.3)  # should be .1
    assert p("upper", [], head=0.9, upper=0.3) == pytest.approx(0.3)  # should be .9
    assert p("lower", [], upper_leg=0.9, lower=0.3, lower_leg=0.4) == pytest.approx(0.4)  # should be .9
    assert p("body", [], body=0.1, upper=0.2, head=0.9, lower=0.3, lower_leg=0.6, upper_leg=0.9) == pytest.approx(0.6)
