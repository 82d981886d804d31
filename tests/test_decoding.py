"""Decoding against loops over pixels, and the promise that its output cannot break the tree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierseg.calibration import calibrated
from hierseg.decoding import (
    best_paths,
    decode,
    decode_firmly,
    decode_means,
    decode_rounding,
    path_means,
    person_pixels,
    violations,
)
from hierseg.tree import Hierarchy
from tests.trees import hierarchies, is_leaf, node_and_above, nodes_of_label, score_maps

HAIR = 1e-6  # two float32 means closer than this may come out in either order

cuts = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1)


def twin_labels(scores: np.ndarray, tree: Hierarchy, threshold: float, certainty: float) -> set[int]:
    """Return the labels that the scores (N,) of one pixel may decode to: one, or more where paths all but tie."""
    paths = [node_and_above(tree, leaf)[::-1] for leaf in range(len(tree)) if is_leaf(tree, leaf)]
    means = [sum(float(scores[node]) for node in path) / len(path) for path in paths]
    allowed = set()
    for path, mean in zip(paths, means, strict=True):
        if mean < max(means) - HAIR:
            continue
        if mean <= threshold + HAIR:
            allowed.add(tree.background)
        if mean > threshold - HAIR:
            reached = path[0]
            for node in path[1:]:
                if certainty > 0 and not scores[node] > np.float32(certainty):
                    break
                reached = node
            allowed.add(tree.labels[reached])
    return allowed


@given(data=st.data(), threshold=cuts, certainty=cuts)
def test_certainty_alone_is_compared_with_calibrated_scores(
    data: st.DataObject, threshold: float, certainty: float
) -> None:
    tree = data.draw(hierarchies())
    scores = data.draw(score_maps(tree))
    pairs = st.tuples(st.just(0.0) | st.floats(0, 3), st.floats(-3, 3))
    lines = tuple(data.draw(st.lists(pairs, min_size=len(tree), max_size=len(tree))))
    plain = decode(scores, tree, threshold)
    for found in (decode(scores, tree, threshold, 0, lines), decode(scores, tree, threshold, certainty, lines)):
        np.testing.assert_array_equal(found.confidence, plain.confidence)
        np.testing.assert_array_equal(found.labels == tree.background, plain.labels == tree.background)
    np.testing.assert_array_equal(decode(scores, tree, threshold, 0, lines).labels, plain.labels)
    sure = calibrated(scores, lines)
    for pixel in np.ndindex(plain.labels.shape):
        label = plain.labels[pixel]
        if label == tree.background or certainty == 0:
            continue
        allowed = []
        for hair in (-1e-5, 1e-5):
            reached, *below = node_and_above(tree, tree.labels.index(label))[::-1]
            for node in below:
                if sure[(node, *pixel)] <= certainty + hair:
                    break
                reached = node
            allowed.append(tree.labels[reached])
        assert found.labels[pixel] in allowed
    np.testing.assert_allclose(
        best_paths(scores, tree, lines).scores[0], np.choose(_roots(scores, tree), sure[list(tree.roots)]), atol=1e-5
    )


def _roots(scores: np.ndarray, tree: Hierarchy) -> np.ndarray:
    """Return which root each pixel's best path has."""
    roots = [tree.roots.index(tree.lineages[leaf][0]) for leaf in range(len(tree))]
    return np.array(roots)[best_paths(scores, tree).leaves]


def twin_confidence(scores: np.ndarray, tree: Hierarchy) -> float:
    paths = [node_and_above(tree, leaf) for leaf in range(len(tree)) if is_leaf(tree, leaf)]
    return max(sum(float(scores[node]) for node in path) / len(path) for path in paths)


@given(data=st.data(), threshold=cuts, certainty=cuts)
def test_decoding_is_that_of_a_loop_over_pixels(data: st.DataObject, threshold: float, certainty: float) -> None:
    tree = data.draw(hierarchies())
    scores = data.draw(score_maps(tree))
    decoded = decode(scores, tree, threshold, certainty)
    for row, column in np.ndindex(scores.shape[1:]):
        pixel = scores[:, row, column]
        assert decoded.labels[row, column] in twin_labels(pixel, tree, threshold, certainty)
        assert decoded.confidence[row, column] == pytest.approx(twin_confidence(pixel, tree), abs=HAIR)


@given(data=st.data(), threshold=cuts)
def test_decoding_the_means_of_paths_is_decoding_the_scores(data: st.DataObject, threshold: float) -> None:
    tree = data.draw(hierarchies())
    scores = data.draw(score_maps(tree))
    from_means, from_scores = decode_means(path_means(scores, tree), tree, threshold), decode(scores, tree, threshold)
    np.testing.assert_array_equal(from_means.labels, from_scores.labels)
    np.testing.assert_array_equal(from_means.confidence, from_scores.confidence)
    with pytest.raises(ValueError, match=rf"Expected \({len(tree.paths)}, H, W\)"):
        decode_means(scores[: len(tree.paths) - 1], tree)


@given(data=st.data(), threshold=cuts)
def test_between_pixels_of_one_firm_label_there_is_no_other(data: st.DataObject, threshold: float) -> None:
    tree = data.draw(hierarchies())
    means = path_means(data.draw(score_maps(tree)), tree)
    firm, plain = decode_firmly(means, tree, threshold), decode_means(means, tree, threshold).labels
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    for label in set(firm.ravel().tolist()) - {tree.void}:
        assert (plain[firm == label] == label).all()
        shares = random.dirichlet(np.full((firm == label).sum(), 0.2), 20)
        between = means[:, firm == label].astype(np.float64) @ shares.T
        leaves = np.array(tree.labels)[list(tree.leaves)][between.argmax(axis=0)]
        assert (np.where(between.max(axis=0) > threshold, leaves, tree.background) == label).all()
    for pixel in np.argwhere(firm == tree.void):  # no more is left open than has to be
        *others, best = np.sort(means[(slice(None), *pixel)])
        assert min(best - max(others, default=-1), abs(best - threshold)) < 2e-4


@given(data=st.data(), threshold=st.floats(-1, 2), certainty=st.floats(-1, 2))
def test_decoding_never_breaks_the_tree(data: st.DataObject, threshold: float, certainty: float) -> None:
    tree = data.draw(hierarchies())
    labels = decode(data.draw(score_maps(tree)), tree, threshold, certainty).labels
    masks = tree.node_masks(labels)  # refuses numbers that are no label
    assert not violations(masks, tree).any()
    for pixel in np.ndindex(labels.shape):
        on = {node for node in range(len(tree)) if masks[(node, *pixel)]}
        assert on == set(nodes_of_label(tree, labels[pixel]))
        assert labels[pixel] != tree.void


@given(data=st.data(), threshold=cuts)
def test_confidence_lies_between_0_and_1_and_says_what_is_background(data: st.DataObject, threshold: float) -> None:
    tree = data.draw(hierarchies())
    decoded = decode(data.draw(score_maps(tree)), tree, threshold)
    assert decoded.confidence.dtype == np.float32
    assert (decoded.confidence >= 0).all()
    assert (decoded.confidence <= 1).all()
    assert np.array_equal(decoded.labels == tree.background, decoded.confidence <= np.float32(threshold))


# The predecessor's rule and what it breaks


@given(st.data())
def test_rounding_cuts_each_node_by_itself(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    scores = data.draw(score_maps(tree))
    masks = decode_rounding(scores, tree)
    assert masks.dtype == bool
    for place in np.ndindex(scores.shape):
        assert masks[place] == (scores[place] > 0.5)


@given(st.data())
def test_violations_are_those_of_a_loop_over_pixels_and_nodes(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    masks = decode_rounding(data.draw(score_maps(tree)), tree)
    broken = violations(masks, tree)
    assert broken.dtype == bool
    assert broken.shape == masks.shape[1:]
    for row, column in np.ndindex(broken.shape):
        on = masks[:, row, column]
        expected = any(on[node] and not all(on[node_and_above(tree, node)]) for node in range(len(tree)))
        assert broken[row, column] == expected


@given(st.data())
def test_the_persons_pixels_are_those_that_are_decoded_or_broken(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    scores = data.draw(score_maps(tree))
    labels, broken = decode(scores, tree).labels, violations(decode_rounding(scores, tree), tree)
    person = person_pixels(labels, broken, tree)
    for place in np.ndindex(person.shape):
        assert person[place] == (bool(broken[place]) or labels[place] != tree.background)


# What is refused


@pytest.mark.parametrize("shape", [(8, 2, 3), (10, 2, 3), (9, 2), (9,), (1, 9, 2, 3), (2, 3, 9)])
def test_scores_without_one_channel_a_node_are_refused(tree: Hierarchy, shape: tuple[int, ...]) -> None:
    scores = np.zeros(shape, np.float32)
    for use in (decode, decode_rounding):
        with pytest.raises(ValueError, match=r"Expected \(9, H, W\), got"):
            use(scores, tree)
    with pytest.raises(ValueError, match=r"Expected \(9, H, W\), got"):
        violations(scores > 0, tree)
