"""The losses against their formulas in plain loops; they lack the bugs of the predecessor's loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hierseg.losses import ACTIVATION_OF, LOSSES, TITLE_OF, Reduction, region_mutual_information, soft_jaccard
from hierseg.tree import Hierarchy
from tests.trees import hierarchies, is_leaf, node_and_above, node_and_below, nodes_shown

TREE_LOSSES = ["tree_min", "focal_tree_min"]
FOCAL_LOSSES = ["focal", "focal_tree_min"]
NODE_LOSSES = ["bce", *FOCAL_LOSSES, "tree_min"]
SOFTMAX_LOSSES = ["level_cross_entropy", "leaf_cross_entropy"]
REDUCTIONS = get_args(Reduction)

EVERY_TREE = hierarchies()

every_loss = pytest.mark.parametrize("name", [*NODE_LOSSES, *SOFTMAX_LOSSES])
every_node_loss = pytest.mark.parametrize("name", NODE_LOSSES)
every_tree_loss = pytest.mark.parametrize("name", TREE_LOSSES)
every_softmax_loss = pytest.mark.parametrize("name", SOFTMAX_LOSSES)


@dataclass
class Case:
    """A random batch for a random tree."""

    tree: Hierarchy
    logits: Tensor
    targets: Tensor
    valid: Tensor | None
    weights: Tensor | None
    gamma: float


@st.composite
def cases(draw: st.DrawFn, trees: st.SearchStrategy[Hierarchy] = EVERY_TREE, consistent: bool | None = None) -> Case:
    """Draw a batch; its targets follow the tree, or are any zeros and ones, or (None) either.

    Logits have one decimal, so ties between relatives are among them.
    """
    tree = draw(trees)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1), label="seed"))
    batch, height, width = draw(st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 3)))
    shape = (batch, len(tree), height, width)
    pixels = (batch, height, width)
    if draw(st.booleans(), label="consistent") if consistent is None else consistent:
        targets = consistent_targets(tree, rng.integers(-1, len(tree), pixels))
    else:
        targets = rng.random(shape) < 0.5
    valid = draw(st.sampled_from([None, pixels, shape]), label="valid")
    weights = rng.uniform(0.2, 5, len(tree)) if draw(st.booleans(), label="weights") else None
    return Case(
        tree=tree,
        logits=torch.from_numpy(rng.uniform(-8, 8, shape).round(1)),
        targets=torch.from_numpy(targets),
        valid=None if valid is None else torch.from_numpy(rng.random(valid) < 0.7),
        weights=None if weights is None else torch.from_numpy(weights),
        gamma=draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.5]), label="gamma"),
    )


def consistent_targets(tree: Hierarchy, deepest: np.ndarray) -> np.ndarray:
    """Turn the deepest node of each pixel (-1 for background), shape (B, H, W), into targets (B, N, H, W)."""
    targets = np.zeros((len(deepest), len(tree), *deepest.shape[1:]), dtype=bool)
    for image, row, column in np.ndindex(deepest.shape):
        if deepest[image, row, column] >= 0:
            targets[image, node_and_above(tree, deepest[image, row, column]), row, column] = True
    return targets


# Brute-force twins: the formulas of the paper, pixel by pixel, with plain Python numbers.


def twin_term(
    name: str,
    logits: Sequence[float],
    targets: Sequence[bool],
    known: Sequence[bool],
    node: int,
    tree: Hierarchy,
    gamma: float,
) -> float:
    scores = [1 / (1 + math.exp(-logit)) for logit in logits]
    focusing = gamma if name in FOCAL_LOSSES else 0
    above = node_and_above(tree, node) if name in TREE_LOSSES else [node]
    below = node_and_below(tree, node) if name in TREE_LOSSES else [node]
    above, below = ([relative for relative in relatives if known[relative]] for relatives in (above, below))
    if targets[node]:
        p = min(scores[relative] for relative in above)
        return (1 - p) ** focusing * -math.log(p)
    p = max(scores[relative] for relative in below)
    return p**focusing * -math.log(1 - p)


def known_nodes(case: Case, image: int, row: int, column: int) -> list[bool]:
    """Return which nodes of a pixel are known."""
    if case.valid is None:
        return [True] * len(case.tree)
    if case.valid.ndim == 3:
        return [bool(case.valid[image, row, column])] * len(case.tree)
    return list(case.valid[image, :, row, column].tolist())


def twin_terms(name: str, case: Case) -> np.ndarray:
    terms = np.zeros(case.logits.shape)
    for image, node, row, column in np.ndindex(terms.shape):
        pixel = (image, slice(None), row, column)
        known = known_nodes(case, image, row, column)
        if known[node]:
            logits, targets = case.logits[pixel].tolist(), case.targets[pixel].tolist()
            terms[image, node, row, column] = twin_term(name, logits, targets, known, node, case.tree, case.gamma)
            if case.weights is not None and targets[node]:
                terms[image, node, row, column] *= case.weights[node]
    return terms


def twin_loss(terms: np.ndarray, case: Case, reduction: str) -> np.ndarray | float:
    if reduction == "none":
        return terms
    node_means = []
    for node in range(len(case.tree)):
        if case.valid is None:
            counted = terms[:, node].size
        else:
            counted = int((case.valid if case.valid.ndim == 3 else case.valid[:, node]).sum())
        node_means.append(terms[:, node].sum() / max(counted, 1))
    if reduction == "node":
        return sum(node_means) / len(node_means)
    levels: dict[int, list[float]] = {}
    for node, mean in enumerate(node_means):
        levels.setdefault(len(node_and_above(case.tree, node)), []).append(mean)
    return sum(sum(means) / len(means) for means in levels.values())


def loss_of(name: str, case: Case, reduction: Reduction, **changes: Any) -> Tensor:
    arguments = {"gamma": case.gamma, "valid": case.valid, "positive_weights": case.weights} | changes
    logits, targets = arguments.pop("logits", case.logits), arguments.pop("targets", case.targets)
    return LOSSES[name](logits, targets, case.tree, reduction=reduction, **arguments)


@every_node_loss
@given(case=cases())
def test_each_loss_is_that_of_a_loop_over_pixels_and_nodes(name: str, case: Case) -> None:
    terms = twin_terms(name, case)
    for reduction in REDUCTIONS:
        loss = loss_of(name, case, reduction)
        assert loss.dtype == torch.float64
        assert loss.shape == (case.logits.shape if reduction == "none" else ())
        np.testing.assert_allclose(loss.numpy(), twin_loss(terms, case, reduction), rtol=1e-9, atol=1e-12)


@every_loss
@settings(max_examples=8)
@given(data=st.data())
def test_each_gradient_is_that_of_finite_differences(name: str, data: st.DataObject) -> None:
    case = data.draw(cases(consistent=True if name in SOFTMAX_LOSSES else None))
    # All logits a step apart: where two relatives tie, min and max have no derivative.
    spread = torch.linspace(-4, 4, case.logits.numel(), dtype=torch.float64)
    order = torch.from_numpy(np.random.default_rng(data.draw(st.integers(0, 999))).permutation(len(spread)))
    logits = spread[order].view(case.logits.shape).requires_grad_()
    reduction = data.draw(st.sampled_from(["node", "level"]))
    assert torch.autograd.gradcheck(lambda logits: loss_of(name, case, reduction, logits=logits), logits)


@every_loss
@given(case=cases())
def test_targets_may_be_zeros_and_ones_of_any_type(name: str, case: Case) -> None:
    expected = loss_of(name, case, "none")
    for dtype in (torch.uint8, torch.int64, torch.float32):
        assert torch.equal(loss_of(name, case, "none", targets=case.targets.to(dtype)), expected)


@every_tree_loss
@given(tree=hierarchies())
def test_where_all_relatives_tie_the_farthest_alone_learns(name: str, tree: Hierarchy) -> None:
    for positive in (True, False):
        logits = torch.zeros(1, len(tree), 1, 1, requires_grad=True)
        terms = LOSSES[name](logits, torch.full_like(logits, positive), tree, reduction="none").flatten()
        for node, term in enumerate(terms):
            (gradient,) = torch.autograd.grad(term, logits, retain_graph=True)
            farthest = node
            if positive:
                farthest = node_and_above(tree, node)[-1]
            while not positive and tree.children[farthest]:
                farthest = tree.children[farthest][0]
            assert gradient.flatten().nonzero().flatten().tolist() == [farthest]


# Extremes


@every_node_loss
@given(case=cases())
def test_at_infinity_the_gradient_is_that_of_very_sure_scores(name: str, case: Case) -> None:
    gradients = []
    for surest in (1000.0, math.inf):
        logits = torch.where(case.logits > 0, surest, -surest).requires_grad_()
        gradients += torch.autograd.grad(loss_of(name, case, "node", logits=logits), logits)
    assert gradients[0].isfinite().all()
    assert torch.equal(*gradients)


@every_loss
@given(case=cases(consistent=True), gamma=st.sampled_from([0.5, 2.0, 5.0]))
def test_value_and_gradient_are_finite_for_the_surest_scores(name: str, case: Case, gamma: float) -> None:
    signs = (case.logits.sign(), torch.ones_like(case.logits), -torch.ones_like(case.logits))
    for dtype, sign in itertools.product((torch.float32, torch.bfloat16, torch.float16), signs):
        sure = (100 * sign).to(dtype).requires_grad_()
        loss = loss_of(name, case, "node", logits=sure, gamma=gamma, valid=None)
        (gradient,) = torch.autograd.grad(loss, sure)
        assert loss.dtype == torch.float32
        assert loss.isfinite() and gradient.isfinite().all()


@every_node_loss
@pytest.mark.parametrize("target", [0, 1])
def test_a_hopelessly_wrong_score_still_costs_and_learns(tree: Hierarchy, name: str, target: int) -> None:
    # A loss on clamped scores would be flat here and never recover.
    logits = torch.full((1, len(tree), 1, 1), 100.0 if target == 0 else -100.0, requires_grad=True)
    terms = LOSSES[name](logits, torch.full_like(logits, target), tree, reduction="none")
    torch.testing.assert_close(terms, torch.full_like(terms, 100.0))
    (gradient,) = torch.autograd.grad(terms.sum(), logits)
    torch.testing.assert_close(gradient.sum().item(), float(len(tree) if target == 0 else -len(tree)))


@every_node_loss
@given(case=cases())
def test_half_precision_is_computed_in_float32_and_the_gradient_is_as_the_logits_are(name: str, case: Case) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        logits = case.logits.to(dtype, memory_format=torch.channels_last).requires_grad_()
        plain = logits.detach().to(torch.float32, memory_format=torch.contiguous_format).requires_grad_()
        loss, expected = (loss_of(name, case, "node", logits=each) for each in (logits, plain))
        assert loss.dtype == torch.float32 and torch.equal(loss, expected)
        (gradient,), (other,) = torch.autograd.grad(loss, logits), torch.autograd.grad(expected, plain)
        assert gradient.stride() == logits.stride()
        assert torch.equal(gradient, other.to(dtype))


# Void


@pytest.mark.parametrize(
    ("name", "unknown"),
    [*((name, "pixels") for name in [*NODE_LOSSES, *SOFTMAX_LOSSES]), *((name, "nodes") for name in NODE_LOSSES)],
)
@given(case=cases(consistent=True), reduction=st.sampled_from(["node", "level"]), seed=st.integers(0, 999))
def test_what_is_not_known_changes_nothing(
    name: str, unknown: str, case: Case, reduction: Reduction, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    valid = torch.from_numpy(rng.random((case.logits[:, 0] if unknown == "pixels" else case.logits).shape) < 0.6)
    void = ~(valid.unsqueeze(1).expand_as(case.logits) if unknown == "pixels" else valid)
    noise = torch.from_numpy(rng.uniform(-50, 50, case.logits.shape))
    logits = torch.where(void, noise, case.logits).requires_grad_()
    loss = loss_of(name, case, reduction, logits=logits, targets=case.targets ^ (void & (noise > 0)), valid=valid)
    assert torch.equal(loss, loss_of(name, case, reduction, valid=valid))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[void] == 0).all()
    assert valid.any() or loss == 0


@every_loss
@given(case=cases(), seed=st.integers(0, 999))
def test_a_label_that_stops_at_a_node_teaches_nothing_of_what_lies_below(name: str, case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.array([*case.tree.labels, case.tree.background, case.tree.void], np.uint8)
    label_map = rng.choice(labels, case.logits[:, 0].shape)
    targets = torch.from_numpy(case.tree.node_masks(label_map))
    valid = torch.from_numpy(case.tree.known_masks(label_map))
    logits = case.logits.clone().requires_grad_()
    loss = loss_of(name, case, "node", logits=logits, targets=targets, valid=valid, positive_weights=None)
    (gradient,) = torch.autograd.grad(loss, logits)
    for image, row, column in np.ndindex(label_map.shape):
        pixel = (image, slice(None), row, column)
        label = label_map[image, row, column]
        stop = case.tree.labels.index(label) if label in case.tree.labels else None
        below = [] if stop is None else [node for node in node_and_below(case.tree, stop) if node != stop]
        if label == case.tree.void:
            assert (gradient[pixel] == 0).all()
        elif ACTIVATION_OF[name] == "sigmoid":
            assert (gradient[pixel][below] == 0).all()
        elif below and name == "leaf_cross_entropy":  # their shares among each other stay as they are
            leaves = [node for node in below if is_leaf(case.tree, node)]
            slopes = gradient[pixel][leaves]
            torch.testing.assert_close(slopes, case.logits[pixel][leaves].softmax(0) * slopes.sum())


# What is refused


@every_node_loss
def test_a_second_derivative_is_refused(tree: Hierarchy, name: str) -> None:
    logits = torch.zeros(1, len(tree), 1, 1, requires_grad=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(LOSSES[name](logits, logits > 0, tree), logits, create_graph=True)


@every_loss
@pytest.mark.parametrize(
    ("logits", "targets", "changes"),
    [
        ((1, 8, 2, 3), (1, 8, 2, 3), {}),
        ((9, 2, 3), (9, 2, 3), {}),
        ((1, 9, 2, 3), (1, 9, 3, 2), {}),
        ((1, 9, 2, 3), (1, 9, 1, 1), {}),
        ((2, 9, 2, 3), (1, 9, 2, 3), {}),
        ((1, 9, 2, 3), (1, 9, 2, 3), {"valid": (1, 3, 2)}),
        ((2, 9, 2, 3), (2, 9, 2, 3), {"valid": (1, 2, 3)}),
        ((1, 9, 2, 3), (1, 9, 2, 3), {"valid": (1, 8, 2, 3)}),
        ((1, 9, 2, 3), (1, 9, 2, 3), {"positive_weights": (1,)}),
        ((1, 9, 2, 3), (1, 9, 2, 3), {"positive_weights": (9, 1)}),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused_and_not_broadcast(
    tree: Hierarchy, name: str, logits: tuple[int, ...], targets: tuple[int, ...], changes: dict[str, tuple[int, ...]]
) -> None:
    more = {argument: torch.ones(shape) for argument, shape in changes.items()}
    with pytest.raises(ValueError, match=r"\(\d"):
        LOSSES[name](torch.zeros(logits), torch.zeros(targets), tree, **more)


@pytest.mark.parametrize("name", FOCAL_LOSSES)
def test_a_negative_gamma_is_refused(tree: Hierarchy, name: str) -> None:
    logits = torch.zeros(1, len(tree), 1, 1)
    with pytest.raises(ValueError, match=r"gamma must be at least 0, not -0\.5"):
        LOSSES[name](logits, logits, tree, gamma=-0.5)


@every_loss
def test_an_unknown_reduction_is_refused_with_those_there_are(tree: Hierarchy, name: str) -> None:
    logits = torch.zeros(1, len(tree), 1, 1)
    with pytest.raises(ValueError, match=r"'none', 'node' or 'level', not 'mean'"):
        LOSSES[name](logits, logits, tree, reduction="mean")


# The losses of a softmax


def classes_of(name: str, tree: Hierarchy) -> list[list[int]]:
    """Return the nodes of each softmax, by walking the tree."""
    leaves = [node for node in range(len(tree)) if is_leaf(tree, node)]
    if name == "leaf_cross_entropy":
        return [leaves]
    return [nodes_shown(tree, depth) for depth in range(len(tree.level_names))]


def twin_cross_entropies(
    name: str,
    tree: Hierarchy,
    logits: Sequence[float],
    targets: Sequence[bool],
    known: Sequence[bool],
    weights: Sequence[float] | None,
) -> list[float]:
    """Compute the terms of one pixel with plain Python numbers."""
    on = [node for node in range(len(tree)) if known[node] and targets[node]]
    leaves = [node for node in range(len(tree)) if is_leaf(tree, node)]
    paths = [[], *(node_and_above(tree, leaf) for leaf in leaves)]

    def agreeing(nodes: Sequence[int]) -> list[list[int]]:
        return [path for path in paths if all((node in path) == targets[node] for node in nodes)]

    possible = agreeing([node for node in range(len(tree)) if known[node]])
    if not possible:  # the label stops at the deepest node that is on: off below it means that nothing is known
        deepest = max(on, key=lambda node: len(node_and_above(tree, node)))
        possible = [path for path in paths if deepest in path]
    terms = []
    for nodes in classes_of(name, tree):
        whole = 1 + sum(math.exp(logits[node]) for node in nodes)
        allowed = {next((node for node in nodes if node in path), None) for path in possible}
        share = sum(1.0 if node is None else math.exp(logits[node]) for node in allowed) / whole
        own = [node for node in nodes if targets[node] and known[node]]
        weight = weights[own[0]] if weights is not None and own else 1.0
        terms.append(-weight * math.log(share))
    return terms


@every_softmax_loss
@given(case=cases(consistent=True))
def test_a_cross_entropy_is_that_of_a_loop_over_pixels(name: str, case: Case) -> None:
    expected = np.zeros((len(case.logits), len(classes_of(name, case.tree)), *case.logits.shape[2:]))
    counted = 0
    for image, row, column in np.ndindex(*case.logits[:, 0].shape):
        known = known_nodes(case, image, row, column)
        if any(known):
            counted += 1
            pixel = (image, slice(None), row, column)
            expected[pixel] = twin_cross_entropies(
                name,
                case.tree,
                case.logits[pixel].tolist(),
                case.targets[pixel].tolist(),
                known,
                None if case.weights is None else case.weights.tolist(),
            )
    means = expected.sum((0, 2, 3)) / max(counted, 1)
    for reduction, value in (("none", expected), ("node", means.mean()), ("level", means.sum())):
        torch.testing.assert_close(loss_of(name, case, reduction), torch.tensor(value))


def test_every_loss_has_a_title_and_an_activation() -> None:
    assert TITLE_OF.keys() == LOSSES.keys()
    own = [name for name, loss in LOSSES.items() if loss.__module__.startswith("hierseg.")]  # studies may add others
    assert {name: ACTIVATION_OF[name] for name in own} == {
        name: {"level_cross_entropy": "level_softmax", "leaf_cross_entropy": "leaf_softmax"}.get(name, "sigmoid")
        for name in own
    }


# The region terms


@given(case=cases(), seed=st.integers(0, 999))
def test_soft_jaccard_is_that_of_a_loop_over_pixels(case: Case, seed: int) -> None:
    known = torch.from_numpy(np.random.default_rng(seed).random(case.logits.shape) < 0.7)
    scores, targets = case.logits.sigmoid(), case.targets
    losses = []
    for node in range(len(case.tree)):
        there = [
            (float(scores[at]), bool(targets[at]))
            for pixel in np.ndindex(case.logits[:, 0].shape)
            if known[at := (pixel[0], node, *pixel[1:])]
        ]
        if any(target for _, target in there):
            both = sum(score * target for score, target in there)
            either = sum(score + target - score * target for score, target in there)
            losses.append(1 - (both + 1) / (either + 1))
    expected = sum(losses) / len(losses) if losses else 0.0
    assert float(soft_jaccard(scores, targets, known)) == pytest.approx(expected, abs=1e-9)


def test_soft_jaccard_of_a_batch_without_any_node_has_gradients_of_zero(tree: Hierarchy) -> None:
    scores = torch.rand(1, len(tree), 3, 3).requires_grad_()
    nothing = torch.zeros(scores.shape, dtype=torch.bool)
    loss = soft_jaccard(scores, nothing, ~nothing)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert loss == 0
    assert (gradient == 0).all()


def test_soft_jaccard_adds_up_the_sums_of_all_processes(tree: Hierarchy) -> None:
    generator = torch.Generator().manual_seed(1)
    scores, other = torch.rand(2, 1, len(tree), 4, 4, generator=generator)
    targets, known = torch.rand(2, 2, len(tree), 4, 4, generator=generator) < 0.6
    parts: list[Tensor] = []
    soft_jaccard(other, targets[1:], known[1:], lambda sums: parts.append(sums) or sums)
    found = soft_jaccard(scores, targets[:1], known[:1], lambda sums: sums + parts[0])
    torch.testing.assert_close(found, soft_jaccard(torch.cat([scores, other]), targets, known))


def twin_mutual_information(scores: np.ndarray, targets: np.ndarray) -> float:
    """Return the loss of one node of one image, (H, W) each, in loops over squares and pixels."""

    def pooled(values: np.ndarray) -> np.ndarray:
        height, width = ((side + 2 - 3) // 3 + 1 for side in values.shape)
        found = np.zeros((height, width))
        for row, column in np.ndindex(height, width):
            top, left = 3 * row - 1, 3 * column - 1
            found[row, column] = values[max(top, 0) : top + 3, max(left, 0) : left + 3].max()
        return found

    def squares(values: np.ndarray) -> list[list[float]]:
        height, width = values.shape
        return [
            [values[row + down, column + across] for down in range(3) for across in range(3)]
            for row, column in np.ndindex(height - 2, width - 2)
        ]

    ys, ps = (np.array(squares(pooled(each.astype(float)))) for each in (targets, scores))
    yy, yp, pp = np.zeros((3, 9, 9))
    for y, p in zip(ys - ys.mean(0), ps - ps.mean(0), strict=True):
        yy, yp, pp = yy + np.outer(y, y), yp + np.outer(y, p), pp + np.outer(p, p)
    least = 1e-3 * np.eye(9)
    sign, value = np.linalg.slogdet(yy - yp @ np.linalg.inv(pp + least) @ yp.T + least)
    assert sign == 1
    return float(value / 18)


@settings(max_examples=20)
@given(seed=st.integers(0, 999), size=st.tuples(st.integers(7, 14), st.integers(7, 14)), nodes=st.integers(1, 3))
def test_region_mutual_information_is_that_of_loops_over_squares(seed: int, size: tuple[int, int], nodes: int) -> None:
    random = np.random.default_rng(seed)
    scores, targets, known = random.random((3, 2, nodes, *size))
    scores, targets, known = scores.astype(np.float32), targets < 0.3, known < 0.8
    found = region_mutual_information(*(torch.from_numpy(each) for each in (scores, targets, known)))
    expected = [
        [twin_mutual_information(*each) for each in zip(s, t, strict=True)]
        for s, t in zip(scores * known, targets & known, strict=True)
    ]
    assert float(found) == pytest.approx(np.mean(expected, axis=0).sum(), rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_region_mutual_information_of_flat_scores_or_of_no_node_is_finite(value: float) -> None:
    scores = torch.full((1, 1, 9, 9), value, requires_grad=True)
    for targets in (torch.zeros(1, 1, 9, 9), torch.ones(1, 1, 9, 9), torch.eye(9).view(1, 1, 9, 9)):
        loss = region_mutual_information(scores, targets, torch.ones_like(targets, dtype=torch.bool))
        (gradient,) = torch.autograd.grad(loss, scores)
        assert loss.isfinite() and gradient.isfinite().all()


def test_region_mutual_information_refuses_what_has_no_neighbourhoods() -> None:
    small = torch.rand(1, 2, 9, 6)
    with pytest.raises(ValueError, match=r"at least 7 by 7 pixels, not \(9, 6\)"):
        region_mutual_information(small, small, small > 0)


@pytest.mark.parametrize("term", [soft_jaccard, region_mutual_information])
def test_a_region_term_refuses_shapes_that_differ(term: Callable[..., Tensor], tree: Hierarchy) -> None:
    scores = torch.rand(1, len(tree), 2, 3)
    with pytest.raises(
        ValueError, match=r"Scores are \(1, 9, 2, 3\), targets \(1, 9, 2, 3\) and the valid mask \(1, 2"
    ):
        term(scores, scores, scores[:, 0])
