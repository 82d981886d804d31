"""Scores to labels: one root-to-leaf path or background per pixel, so that no output can break the tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from hierseg.calibration import Calibration, lines, on_lines
from hierseg.tree import BoolMask, Hierarchy, UInt8Map

Scores = npt.NDArray[np.float32]
# Rounding does not swap scores this far apart: positions in a resized map are exact to a few 1e-5 of a pixel.
_FIRM = 1e-4


@dataclass(frozen=True)
class Decoded:
    """What decoding makes of the scores of one photo.

    Attributes:
        labels: Label of each pixel's deepest node, or background, uint8 (H, W).
        confidence: Mean score of each pixel's best path, float32 (H, W), 0 to 1; also where it is background.
    """

    labels: UInt8Map
    confidence: npt.NDArray[np.float32]


@dataclass(frozen=True)
class BestPaths:
    """Each pixel's path of highest mean score, before anything is decided about it.

    Attributes:
        leaves: Index of the node the path ends in, uint8 (H, W).
        confidence: Mean score of the path, float32 (H, W), 0 to 1.
        scores: Score of the path's node at each depth, calibrated where a calibration was given, float32 (D, H, W), 0
            to 1; a shorter path repeats its leaf.
    """

    leaves: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.float32]
    scores: Scores


def best_paths(scores: Scores, hierarchy: Hierarchy, calibration: Calibration | None = None) -> BestPaths:
    """Find each pixel's best path, from which `decode` follows for every threshold and certainty.

    Args:
        scores: Sigmoid scores, float32, shape (N, H, W), 0 to 1.
        hierarchy: The tree.
        calibration: Of the nodes, see `hierseg.calibration`; changes nothing but `BestPaths.scores`.

    Returns:
        The paths; of two that are equally good, the one whose leaf comes first.

    Raises:
        ValueError: The scores do not have one channel per node.
    """
    _check(scores, hierarchy)
    best, confidence = _best(_means(scores, hierarchy))
    return BestPaths(_mapped(best, hierarchy.leaves), confidence, _along(scores, best, hierarchy, calibration))


def decode(
    scores: Scores,
    hierarchy: Hierarchy,
    threshold: float = 0.5,
    certainty: float = 0.0,
    calibration: Calibration | None = None,
) -> Decoded:
    """Give each pixel the path of highest mean score, or background.

    The rule is the one of Li et al., CVPR 2022, section 3.3, with a background that the tree itself does not have.

    Args:
        scores: Sigmoid scores, float32, shape (N, H, W), 0 to 1.
        hierarchy: The tree.
        threshold: A pixel is background unless the mean score of its best path is above this.
        certainty: A pixel goes down its path only while calibrated node scores are above this, so it may stop at body
            or upper where the parts are unsure. Its root stays. 0 always reaches a leaf.
        calibration: Of the nodes, see `hierseg.calibration`; the certainty alone depends on it.

    Returns:
        Labels and confidence.

    Raises:
        ValueError: The scores do not have one channel per node.
    """
    _check(scores, hierarchy)
    best, confidence = _best(_means(scores, hierarchy))
    nodes = _mapped(best, hierarchy.leaves)
    if certainty > 0:
        nodes = _deepest_certain(_along(scores, best, hierarchy, calibration), best, hierarchy, certainty)
    return _labelled(nodes, confidence, hierarchy, threshold)


def path_means(scores: Scores, hierarchy: Hierarchy) -> Scores:
    """Return the mean score of every path, all that `decode_means` needs.

    Means commute with whatever is linear, such as resizing: taken before it, there are fewer maps to resize.

    Args:
        scores: Sigmoid scores, float32, shape (N, H, W).
        hierarchy: The tree.

    Returns:
        Means, float32, shape (P, H, W), in the order of the tree's P paths.

    Raises:
        ValueError: The scores do not have one channel per node.
    """
    _check(scores, hierarchy)
    return np.stack(list(_means(scores, hierarchy)))


def decode_means(means: Scores, hierarchy: Hierarchy, threshold: float = 0.5) -> Decoded:
    """Decode like `decode` without a certainty, from the `path_means` alone.

    Args:
        means: Mean score of every path, float32, shape (P, H, W).
        hierarchy: The tree.
        threshold: A pixel is background unless the highest mean is above this.

    Returns:
        Labels and confidence.

    Raises:
        ValueError: There is not one channel per path.
    """
    if means.ndim != 3 or len(means) != len(hierarchy.paths):
        raise ValueError(f"Expected ({len(hierarchy.paths)}, H, W), got {means.shape}.")
    best, confidence = _best(means)
    return _labelled(_mapped(best, hierarchy.leaves), confidence, hierarchy, threshold)


def decode_firmly(means: Scores, hierarchy: Hierarchy, threshold: float = 0.5) -> UInt8Map:
    """Decode like `decode_means`, but only what holds between pixels too.

    A mean between pixels lies between theirs. So does its distance to another mean and to the threshold: between pixels
    of one label there is no other.

    Args:
        means: As for `decode_means`.
        hierarchy: The tree.
        threshold: As for `decode_means`.

    Returns:
        Labels, uint8 (H, W): void where rounding could decide.

    Raises:
        ValueError: There is not one channel per path.
    """
    decoded = decode_means(means, hierarchy, threshold)
    labels, confidence = decoded.labels, decoded.confidence
    # The best of all but the best: where a path takes the lead, the one that had it before.
    lead, second = means[0], np.full_like(means[0], -np.inf)
    for mean in means[1:]:
        np.maximum(second, np.minimum(lead, mean), out=second)
        lead = np.maximum(lead, mean)
    close = np.abs(confidence - np.float32(threshold)) < _FIRM
    close |= (labels != hierarchy.background) & (lead - second < _FIRM)
    labels[close] = hierarchy.void
    return labels


def decode_rounding(scores: Scores, hierarchy: Hierarchy) -> BoolMask:
    """Cut each node's scores at 0.5 by itself: the predecessor's rule for its metric. It can break the tree.

    Args:
        scores: Sigmoid scores, float32, shape (N, H, W).
        hierarchy: The tree.

    Returns:
        One mask per node, bool, shape (N, H, W).

    Raises:
        ValueError: The scores do not have one channel per node.
    """
    _check(scores, hierarchy)
    return scores > 0.5


def violations(masks: BoolMask, hierarchy: Hierarchy) -> BoolMask:
    """Tell where masks break the tree: a node is on and its parent is off.

    Args:
        masks: One mask per node, bool, shape (N, H, W), for instance from `decode_rounding`.
        hierarchy: The tree.

    Returns:
        Mask, bool, shape (H, W).

    Raises:
        ValueError: There is not one mask per node.
    """
    _check(masks, hierarchy)
    broken = np.zeros(masks.shape[1:], dtype=bool)
    for node, parent in enumerate(hierarchy.parents):
        if parent >= 0:
            broken |= masks[node] & ~masks[parent]
    return broken


def person_pixels(labels: UInt8Map, broken: BoolMask, hierarchy: Hierarchy) -> BoolMask:
    """Tell which pixels are the person's, the whole of which a share of broken pixels is: decoded to a node, or broken.

    Of all pixels, most are background and easy; and what is broken need not be decoded to a node.

    Args:
        labels: What `decode` made of the photo, uint8 (H, W).
        broken: Where masks break the tree, bool (H, W), from `violations`.
        hierarchy: The tree.

    Returns:
        Mask, bool, shape (H, W).
    """
    return np.asarray((labels != hierarchy.background) | broken)


def _best(means: Iterable[Scores]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Return for each pixel (H, W) the index of its best path and that path's mean score, from those of all paths."""
    # One path after the other, with whole-array operations only: a matrix product of so few rows, an argmax across
    # channels that lie far apart in memory, and masked writes take several times as long.
    first, *others = means
    confidence = np.array(first)
    best = np.zeros(first.shape, dtype=np.uint8)
    for number, mean in enumerate(others, 1):
        better = (mean > confidence).view(np.uint8)
        better *= number
        np.maximum(best, better, out=best)  # numbers rise, so the last that was better is the largest
        np.maximum(confidence, mean, out=confidence)
    # A mean of ones can round to just above 1.
    return best, np.minimum(confidence, 1, out=confidence)


def _means(scores: Scores, hierarchy: Hierarchy) -> Iterator[Scores]:
    """Yield the mean score of every path, float32 (H, W)."""
    for first, *others in hierarchy.paths:
        mean = np.array(scores[first])
        for node in others:
            mean += scores[node]
        mean *= np.float32(1 / (1 + len(others)))
        yield mean


def _labelled(
    nodes: npt.NDArray[np.uint8], confidence: npt.NDArray[np.float32], hierarchy: Hierarchy, threshold: float
) -> Decoded:
    """Return the labels of nodes, which may be changed, or background where confidence is not above the threshold."""
    nodes += 1  # 0 becomes background
    nodes *= confidence > threshold
    return Decoded(_mapped(nodes, (hierarchy.background, *hierarchy.labels)), confidence)


def _steps(hierarchy: Hierarchy) -> list[tuple[int, ...]]:
    """Return the node of every path at every depth, D tuples; a shorter path repeats its leaf."""
    depth = max(hierarchy.depths) + 1
    return list(zip(*(path + path[-1:] * (depth - len(path)) for path in hierarchy.paths), strict=True))


def _along(
    scores: Scores, best: npt.NDArray[np.uint8], hierarchy: Hierarchy, calibration: Calibration | None
) -> Scores:
    """Return the score, calibrated, that each pixel's best path has at each depth, (D, H, W)."""
    steps = _steps(hierarchy)
    along = np.stack([_chosen(scores, best, step) for step in steps])
    if calibration is None:
        return along
    slopes, intercepts = lines(calibration, len(hierarchy))[:, np.array(steps)]  # each (D, P)
    chosen = (np.take(numbers, best, axis=1) for numbers in (slopes, intercepts))  # five times as fast as [:, best]
    return on_lines(along, *chosen)  # of fewer scores than all nodes have


def _deepest_certain(
    along: Scores, best: npt.NDArray[np.uint8], hierarchy: Hierarchy, certainty: float
) -> npt.NDArray[np.uint8]:
    """Return for each pixel (H, W) the last node of its best path before one whose score, of `along`, is too low."""
    root, *below = _steps(hierarchy)
    nodes = _mapped(best, root)
    certain = np.ones(best.shape, dtype=bool)
    for step, scores in zip(below, along[1:], strict=True):
        certain &= scores > certainty
        np.copyto(nodes, _mapped(best, step), where=certain)
    return nodes


def _chosen(scores: Scores, best: npt.NDArray[np.uint8], nodes: Sequence[int]) -> npt.NDArray[np.float32]:
    """Return for each pixel (H, W) the score of the node that its best path has among those of all paths."""
    first, *others = dict.fromkeys(nodes)
    chosen = np.array(scores[first])
    for node in others:
        np.copyto(chosen, scores[node], where=_mapped(best, [other == node for other in nodes]).view(bool))
    return chosen


def _mapped(indices: npt.NDArray[np.uint8], values: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Return the value, a byte, at each index, like `values[indices]` but several times faster."""
    table = np.zeros(256, dtype=np.uint8)
    table[: len(values)] = values
    return np.asarray(cv2.LUT(indices, table), dtype=np.uint8)


def _check(channels: npt.NDArray[np.generic], hierarchy: Hierarchy) -> None:
    if channels.ndim != 3 or channels.shape[0] != len(hierarchy):
        raise ValueError(f"Expected ({len(hierarchy)}, H, W), got {channels.shape}.")
