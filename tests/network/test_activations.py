"""The activations against plain loops, and properties of their scores for any tree."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hierseg.network.activations import ACTIVATIONS
from hierseg.network.model import ModelError, ModelSpec
from hierseg.tree import Hierarchy
from tests.trees import hierarchies, is_leaf, node_and_above, node_and_below, nodes_shown

every_activation = pytest.mark.parametrize("name", list(ACTIVATIONS))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Hierarchy, Tensor]:
    """Draw a tree and logits for it, (2, N, 2, 3), in float64."""
    tree = draw(hierarchies())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    return tree, 4 * torch.randn(2, len(tree), 2, 3, generator=generator, dtype=torch.float64)


def twin_score(name: str, tree: Hierarchy, logits: list[float], node: int) -> float:
    """Compute one node's score of one pixel with plain Python numbers."""
    if name == "sigmoid":
        return 1 / (1 + math.exp(-logits[node]))
    if name == "level_softmax":
        level = nodes_shown(tree, len(node_and_above(tree, node)) - 1)
        return math.exp(logits[node]) / (1 + sum(math.exp(logits[member]) for member in level))
    leaves = [leaf for leaf in range(len(tree)) if is_leaf(tree, leaf)]
    own = [leaf for leaf in leaves if leaf in node_and_below(tree, node)]
    return sum(math.exp(logits[leaf]) for leaf in own) / (1 + sum(math.exp(logits[leaf]) for leaf in leaves))


@every_activation
@given(case=cases())
def test_scores_are_those_of_a_loop_over_pixels(name: str, case: tuple[Hierarchy, Tensor]) -> None:
    tree, logits = case
    scores = ACTIVATIONS[name](logits, tree)
    expected = torch.empty_like(logits)
    for image, node, row, column in torch.cartesian_prod(*(torch.arange(side) for side in logits.shape)).tolist():
        expected[image, node, row, column] = twin_score(name, tree, logits[image, :, row, column].tolist(), node)
    torch.testing.assert_close(scores, expected)


@every_activation
@settings(max_examples=10)
@given(case=cases())
def test_gradients_are_those_of_small_differences(name: str, case: tuple[Hierarchy, Tensor]) -> None:
    tree, logits = case
    # Small logits, as the clamp at 1 has no slope where a sum reaches it.
    pixel = logits[:1, :, :1, :1].clamp(-3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: ACTIVATIONS[name](values, tree), pixel)


@given(case=cases(), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_scores_of_a_leaf_softmax_never_rise_on_the_way_down(
    case: tuple[Hierarchy, Tensor], dtype: torch.dtype
) -> None:
    tree, logits = case
    scores = ACTIVATIONS["leaf_softmax"]((10 * logits).to(dtype), tree)
    for node, parent in enumerate(tree.parents):
        if parent >= 0:
            assert (scores[:, node] <= scores[:, parent]).all()


@every_activation
@given(case=cases(), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_scores_lie_between_0_and_1_for_the_surest_logits_too(
    name: str, case: tuple[Hierarchy, Tensor], dtype: torch.dtype
) -> None:
    tree, logits = case
    for factor in (1, 1000):
        scores = ACTIVATIONS[name]((factor * logits).to(dtype), tree)
        assert scores.dtype == dtype
        assert ((scores >= 0) & (scores <= 1)).all()


def test_an_activation_that_there_is_not_is_refused_with_those_there_are() -> None:
    for wrong in ("softmax", 3, ["sigmoid"]):
        with pytest.raises(ModelError, match=r"must be sigmoid, level_softmax, leaf_softmax,.* not "):
            ModelSpec(activation=wrong)  # type: ignore[arg-type]


def test_a_spec_that_is_older_than_activations_means_the_sigmoid() -> None:
    values = ModelSpec().to_dict()
    del values["activation"]
    assert ModelSpec.from_dict(values).activation == "sigmoid"
