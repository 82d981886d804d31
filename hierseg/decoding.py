"""Scores to labels: one root-to-leaf path or background per pixel, so that no output can break the tree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hierseg.hierarchy import BoolMask, Hierarchy, UInt8Map

Scores = npt.NDArray[np.float32]


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
        leaves: Index of the node the path ends in, intp (H, W).
        confidence: Mean score of the path, float32 (H, W), 0 to 1.
        scores: Score of the path's node at each depth, float32 (D, H, W), 0 to 1; a shorter path repeats its leaf.
    """

    leaves: npt.NDArray[np.intp]
    confidence: npt.NDArray[np.float32]
    scores: Scores


def best_paths(scores: Scores, hierarchy: Hierarchy) -> BestPaths:
    """Find each pixel's best path, from which `decode` follows for every threshold and certainty.

    Args:
        scores: Sigmoid scores, float32, shape (N, H, W), 0 to 1.
        hierarchy: The tree.

    Returns:
        The paths; of two that are equally good, the one whose leaf comes first.

    Raises:
        ValueError: The scores do not have one channel per node.
    """
    _check(scores, hierarchy)
    shape = scores.shape[1:]
    best, confidence = _best(scores, hierarchy)
    flat = scores.reshape(len(hierarchy), -1)
    along = [np.take_along_axis(flat, step[best][None], axis=0)[0].reshape(shape) for step in _steps(hierarchy)]
    leaves = np.asarray(hierarchy.leaves)[best]
    return BestPaths(leaves.reshape(shape), confidence.reshape(shape), np.stack(along))


def decode(scores: Scores, hierarchy: Hierarchy, threshold: float = 0.5, certainty: float = 0.0) -> Decoded:
    """Give each pixel the path of highest mean score, or background.

    The rule is the one of Li et al., CVPR 2022, section 3.3, with a background that the tree itself does not have.

    Args:
        scores: Sigmoid scores, float32, shape (N, H, W), 0 to 1.
        hierarchy: The tree.
        threshold: A pixel is background unless the mean score of its best path is above this.
        certainty: A pixel goes down its path only while node scores are above this, so it may stop at body or upper
            where the parts are unsure. Its root stays. 0 always reaches a leaf.

    Returns:
        Labels and confidence.

    Raises:
        ValueError: The scores do not have one channel per node.
    """
    _check(scores, hierarchy)
    shape = scores.shape[1:]
    best, confidence = _best(scores, hierarchy)
    if certainty > 0:
        node = _deepest_certain(scores.reshape(len(hierarchy), -1), best, hierarchy, certainty)
    else:
        node = np.asarray(hierarchy.leaves)[best]
    labels = np.asarray(hierarchy.labels, dtype=np.uint8)[node]
    labels[confidence <= threshold] = hierarchy.background
    return Decoded(labels.reshape(shape), confidence.reshape(shape))


def decode_rounding(scores: Scores, hierarchy: Hierarchy, threshold: float = 0.5) -> BoolMask:
    """Cut each node's scores at the threshold by itself: the seed's rule for its metric. It can break the tree.

    Args:
        scores: Sigmoid scores, float32, shape (N, H, W).
        hierarchy: The tree.
        threshold: Scores above it are on.

    Returns:
        One mask per node, bool, shape (N, H, W).

    Raises:
        ValueError: The scores do not have one channel per node.
    """
    _check(scores, hierarchy)
    return scores > threshold


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


def _best(scores: Scores, hierarchy: Hierarchy) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Return for each pixel (P,) the index of its best path and that path's mean score."""
    path_means = hierarchy.path_table @ scores.reshape(len(hierarchy), -1)
    best = path_means.argmax(axis=0)
    # A mean of ones can round to just above 1.
    return best, np.minimum(np.take_along_axis(path_means, best[None], axis=0)[0], 1)


def _steps(hierarchy: Hierarchy) -> npt.NDArray[np.intp]:
    """Return the node of every path at every depth, (D, paths); a shorter path repeats its leaf."""
    depth = max(hierarchy.depths) + 1
    return np.array([path + path[-1:] * (depth - len(path)) for path in hierarchy.paths]).T


def _deepest_certain(
    scores: Scores, best: npt.NDArray[np.intp], hierarchy: Hierarchy, certainty: float
) -> npt.NDArray[np.intp]:
    """Return for each pixel (P,) the last node of its best path before one that is not certain."""
    root, *below = _steps(hierarchy)
    node: npt.NDArray[np.intp] = root[best]
    certain = np.ones(best.shape, dtype=bool)
    for nodes in below:
        step = nodes[best]
        certain &= np.take_along_axis(scores, step[None], axis=0)[0] > certainty
        node = np.where(certain, step, node)
    return node


def _check(channels: npt.NDArray[np.generic], hierarchy: Hierarchy) -> None:
    if channels.ndim != 3 or channels.shape[0] != len(hierarchy):
        raise ValueError(f"Expected ({len(hierarchy)}, H, W), got {channels.shape}.")
