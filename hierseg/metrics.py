"""Measures of masks against the truth: each photo is counted once, and every score is a function of the counts.

Counts are arrays by name. `count` returns those of one photo, `stack` gives them a first axis of P photos, and `total`
adds them up. Of a tree of N nodes there are, with background last where there are N + 1,

    pixels    ()        all of the photo
    truth     (N + 1,)  pixels of each node
    boundary  (N,)      pixels of each node near its boundary
    broken    (2,)      pixels whose masks break the tree; nodes in them that are on under one that is off
    person    ()        the person's pixels, see `decoding.person_pixels`

and for the decoding NAME

    NAME/false_positives           (N + 1,)  pixels wrongly called the node
    NAME/false_negatives           (N + 1,)  pixels wrongly not called the node
    NAME/boundary_false_positives, NAME/boundary_false_negatives
                                   (N,)      the same of pixels near boundaries

A label of the truth may stop at an inner node. Then nothing is known of what lies below: a node is counted only in
pixels of which the truth says whether they belong to it, see `Hierarchy.knowledge`; `pixels` and `broken` count all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from hierseg.calibration import Calibration, calibrated
from hierseg.decoding import Scores, decode_rounding, person_pixels, violations
from hierseg.tree import BoolMask, Hierarchy, UInt8Map

Counts = Mapping[str, npt.NDArray[Any]]
Values = npt.NDArray[np.float64]

_SMOOTHING = 1e-8  # the predecessor's; makes a node that is absent and not predicted score 1
_BINS = 15  # of confidence, the usual number for the expected calibration error
_BOUNDARY = 0.02  # of the photo's diagonal, as far as a boundary reaches into its mask; Cheng et al.'s choice

# Least share of a photo that its people cover, for each class of person size.
PERSON_SIZES = {"under 2 %": 0.0, "2-10 %": 0.02, "over 10 %": 0.1}


# Counts


def count(
    decoded: Mapping[str, UInt8Map | BoolMask], truth: UInt8Map, hierarchy: Hierarchy, boundaries: Collection[str] = ()
) -> dict[str, npt.NDArray[np.uint32]]:
    """Count the pixels of one photo that are right and wrong.

    Args:
        decoded: What each decoding, by its name, made of the photo: labels, uint8 (H, W), or a mask for each node, bool
            (N, H, W), which may break the tree. Void is background there.
        truth: Labels, uint8 (H, W); may hold void.
        hierarchy: The tree.
        boundaries: Names of the decodings whose boundaries are counted too.

    Returns:
        `pixels`, `truth` and the counts of each decoding, uint32; `boundary` where boundaries are counted.

    Raises:
        ValueError: A decoding is not of the truth's size.
        HierarchyError: A label map holds an unknown label.
    """
    hierarchy.check_labels(truth)
    membership, knowledge = _tables(hierarchy)
    there, absent = membership & knowledge, ~membership & knowledge
    labels = np.bincount(truth.ravel(), minlength=256)
    counts: dict[str, Any] = {"pixels": truth.size, "truth": there @ labels}
    for name, content in decoded.items():
        if content.shape not in (truth.shape, (len(hierarchy), *truth.shape)):
            raise ValueError(f"The decoding {name!r} is {content.shape} but the truth is {truth.shape}.")
        called = _by_true_label(content, truth, hierarchy)
        counts[f"{name}/false_positives"] = (called * absent).sum(axis=1)
        counts[f"{name}/false_negatives"] = ((labels - called) * there).sum(axis=1)
    if boundaries:
        known = [_looked_up(truth, table) for table in knowledge[:-1]]
        near = _boundaries(truth, hierarchy)
        counts["boundary"] = _common(near, known)
        for name in boundaries:
            near_called = _boundaries(decoded[name], hierarchy)
            wrong = [(here ^ other) & counted for here, other, counted in zip(near_called, near, known, strict=True)]
            counts[f"{name}/boundary_false_positives"] = _common(wrong, near_called)
            counts[f"{name}/boundary_false_negatives"] = _common(wrong, near)
    return {key: np.array(values, np.uint32) for key, values in counts.items()}


def count_broken(masks: BoolMask, hierarchy: Hierarchy) -> npt.NDArray[np.uint32]:
    """Count where the masks of one photo, bool (N, H, W), break the tree; returns `broken`, shape (2,)."""
    edges = [masks[node] & ~masks[parent] for node, parent in enumerate(hierarchy.parents) if parent >= 0]
    return np.array([np.count_nonzero(violations(masks, hierarchy)), sum(map(np.count_nonzero, edges))], np.uint32)


def count_person(predicted: UInt8Map, masks: BoolMask, hierarchy: Hierarchy) -> npt.NDArray[np.uint32]:
    """Count the person's pixels of one photo, from labels (H, W) and masks, bool (N, H, W); returns `person`."""
    person = person_pixels(predicted, violations(masks, hierarchy), hierarchy)
    return np.array(np.count_nonzero(person), np.uint32)


def count_confidence(
    scores: Scores, predicted: UInt8Map, truth: UInt8Map, hierarchy: Hierarchy
) -> npt.NDArray[np.float64]:
    """Sort the pixels of one photo by confidence, for `calibration_error`.

    A pixel's confidence on a level is the score of the node it is given there, or, given background, what the best root
    leaves of 1. It counts where the truth says whether it is of that node.

    Args:
        scores: Node scores, float32 (N, H, W).
        predicted: What was decoded from them, uint8 (H, W).
        truth: Labels, uint8 (H, W); may hold void.
        hierarchy: The tree.

    Returns:
        For each level, for pixels called background and person, and for each of 15 equal bins of confidence: pixels,
        sum of confidence, right pixels. Shape (L, 2, 15, 3); may be added up over photos.
    """
    hierarchy.check_labels(truth)
    membership, knowledge = _tables(hierarchy)
    slots = np.full(256, len(hierarchy))
    slots[list(hierarchy.labels)] = np.arange(len(hierarchy))
    # The last channel is the confidence in background.
    confidences = np.concatenate([scores, 1 - scores[list(hierarchy.roots)].max(axis=0, keepdims=True)])
    confidences = confidences.reshape(len(hierarchy) + 1, -1)
    bins = np.zeros((len(hierarchy.levels), 2, _BINS, 3))
    for level, own in zip(hierarchy.levels, bins, strict=True):
        shown = slots[hierarchy.at_level(predicted, level).ravel()]
        known = np.flatnonzero(knowledge[shown, truth.ravel()])
        shown, labels = shown[known], truth.ravel()[known]
        confidence = confidences[shown, known]
        slot = (shown < len(hierarchy)) * _BINS + np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
        for column, weights in enumerate((None, confidence, membership[shown, labels])):
            own[..., column] = np.bincount(slot, weights, 2 * _BINS).reshape(2, _BINS)
    return bins


def boundary(mask: BoolMask) -> BoolMask:
    """Return the part of a mask that is near its boundary, for boundary IoU (Cheng et al., CVPR 2021).

    Args:
        mask: Bool (H, W).

    Returns:
        The pixels of it whose distance to one outside, by rows or columns, is at most 2 % of the diagonal. Beyond the
        photo's edge all is outside.
    """
    reach = max(1, round(_BOUNDARY * math.hypot(*mask.shape)))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    inner = cv2.erode(mask.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(mask & ~inner.view(bool))


def stack(photos: Sequence[Counts]) -> Counts:
    """Return the counts of P photos, of which there must be one, with a first axis of length P."""
    return {key: np.stack([photo[key] for photo in photos]) for key in photos[0]}


def total(counts: Counts, photos: Any = slice(None)) -> Counts:
    """Return stacked counts summed over photos, or over those that an index names."""
    return {key: values[photos].sum(axis=0) for key, values in counts.items()}


# Scores


def iou(counts: Counts, decoding: str) -> Values:
    """Return the intersection over union of each node and, last, of background, (..., N + 1); nan for what is nowhere.

    Of counts that `total` added up it is the data-set IoU.
    """
    return _iou(counts, "truth", f"{decoding}/")


def boundary_iou(counts: Counts, decoding: str) -> Values:
    """Return the boundary IoU (Cheng et al., CVPR 2021) of each node, (..., N); nan for one without any boundary."""
    return _iou(counts, "boundary", f"{decoding}/boundary_")


def predecessor_iou(counts: Counts, decoding: str) -> Values:
    """Return the IoU of each photo as the predecessor smoothed it, (P, N + 1); its measure is the mean over photos.

    A node that is absent and not predicted scores 1, so an empty prediction scores well above 0. The predecessor rounds
    scores at 0.5, see `decoding.decode_rounding`, and leaves background, the last column, out.
    """
    return _iou(counts, "truth", f"{decoding}/", _SMOOTHING)


def level_means(values: Values, hierarchy: Hierarchy, with_background: bool = False) -> dict[str, Values]:
    """Return the mean over each level's nodes; those that are nan are left out.

    Args:
        values: Of each node, (..., N), or with background last, (..., N + 1).
        hierarchy: The tree.
        with_background: Count background among the nodes of each level.

    Returns:
        For each level shape (...); nan where no node has a value.
    """
    extra = [len(hierarchy)] if with_background else []
    means = {}
    for level, nodes in hierarchy.levels.items():
        of_level = values[..., [*nodes, *extra]]
        present = ~np.isnan(of_level)
        means[level] = ratio(np.where(present, of_level, 0).sum(-1), present.sum(-1))
    return means


def calibration_error(bins: Values, hierarchy: Hierarchy) -> dict[str, dict[str, float]]:
    """Return the expected calibration error of each level (Guo et al., ICML 2017), 0 to 1; nan without pixels.

    It is the mean over pixels of the distance between their bin's mean confidence and its share of right pixels.

    Args:
        bins: See `count_confidence`.
        hierarchy: The tree.

    Returns:
        The error of each level, over `all_pixels` and over `person_pixels`: those that were not decoded to background,
        which is most of a photo and easy.
    """
    errors = {}
    for kind, of_kind in (("all_pixels", bins.sum(axis=1)), ("person_pixels", bins[:, 1])):
        pixels, confidence, right = np.moveaxis(of_kind, -1, 0)
        of_levels = ratio(np.abs(confidence - right).sum(-1), pixels.sum(-1)).tolist()
        errors[kind] = dict(zip(hierarchy.levels, of_levels, strict=True))
    return errors


def violations_of_person(counts: Counts) -> dict[str, Any]:
    """Return which share of the person's pixels is broken: median and mean over photos, 0 to 1.

    Args:
        counts: Stacked, with `broken` and `person`.

    Returns:
        `photos` in which there is anybody, `median` and `mean`; nan where there is no such photo.
    """
    somebody = counts["person"] > 0
    shares = ratio(counts["broken"][somebody, 0], counts["person"][somebody])
    return {
        "photos": len(shares),
        "median": np.median(shares) if len(shares) else np.nan,
        "mean": shares.mean() if len(shares) else np.nan,
    }


def person_sizes(counts: Counts, hierarchy: Hierarchy) -> dict[str, npt.NDArray[np.bool_]]:
    """Return for each class of person size which of P photos are of it; void counts as no person."""
    shares = counts["truth"][:, list(hierarchy.roots)].sum(1) / counts["pixels"]
    classes = np.searchsorted(list(PERSON_SIZES.values()), shares, side="right") - 1
    return {name: classes == number for number, name in enumerate(PERSON_SIZES)}


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Values:
    """Divide; nan where there is nothing to divide by."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.asarray(np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0))


class Evaluation:
    """Every measure of the same photos."""

    def __init__(self, hierarchy: Hierarchy, calibration: Calibration | None = None) -> None:
        """Start with no photo.

        Args:
            hierarchy: The tree.
            calibration: Makes scores readable as probabilities, see `hierseg.calibration`; None where nothing does.
        """
        self.hierarchy = hierarchy
        self._calibration = calibration
        self._photos: list[Counts] = []

    def add(self, scores: Scores, predicted: UInt8Map, truth: UInt8Map) -> None:
        """Add one photo; errors are those of `count`.

        Args:
            scores: Node scores, float32 (N, H, W).
            predicted: What `decoding.decode` made of them, uint8 (H, W).
            truth: Labels, uint8 (H, W).
        """
        tree, rounded = self.hierarchy, decode_rounding(scores, self.hierarchy)
        counts: dict[str, npt.NDArray[Any]] = {
            **count({"path": predicted, "predecessor": rounded}, truth, tree, boundaries=["path"]),
            "broken": count_broken(rounded, tree),
            "person": count_person(predicted, rounded, tree),
            "confidence": count_confidence(scores, predicted, truth, tree),
        }
        if self._calibration is not None:
            shown = calibrated(scores, self._calibration)
            counts["calibrated_confidence"] = count_confidence(shown, predicted, truth, tree)
        self._photos.append(counts)

    def summary(self) -> dict[str, Any]:
        """Return every figure as plain values, ready for JSON: None where there was nothing to measure."""
        tree, counts = self.hierarchy, stack(self._photos)
        sums = total(counts)
        ious, of_predecessor = iou(sums, "path"), predecessor_iou(counts, "predecessor").mean(axis=0)
        summary = {
            "photos": len(self._photos),
            "dataset_iou": {
                "levels": level_means(ious, tree),
                "levels_with_background": level_means(ious, tree, with_background=True),
                "nodes": dict(zip(tree.nodes, ious, strict=False)),
                "background": ious[-1],
            },
            "by_person_size": {
                size: {"photos": photos.sum(), "levels": level_means(iou(total(counts, photos), "path"), tree)}
                for size, photos in person_sizes(counts, tree).items()
            },
            "predecessor_iou": {
                "levels": level_means(of_predecessor, tree),
                "nodes": dict(zip(tree.nodes, of_predecessor, strict=False)),
            },
            "boundary_iou": level_means(boundary_iou(sums, "path"), tree),
            "calibration_error": {
                f"{prefix}{kind}": errors
                for prefix in ("", "calibrated_")
                if f"{prefix}confidence" in sums
                for kind, errors in calibration_error(sums[f"{prefix}confidence"], tree).items()
            },
            "violations": ratio(sums["broken"][0], sums["pixels"]),
            "violations_of_person": violations_of_person(counts),
        }
        return {key: _plain(value) for key, value in summary.items()}


def _tables(hierarchy: Hierarchy) -> tuple[BoolMask, BoolMask]:
    """Return `membership` and `knowledge` as (N + 1, 256), with background last: what is in no node."""
    of, known = hierarchy.membership, hierarchy.knowledge
    return np.vstack([of.T, ~of.any(axis=1)]), np.vstack([known.T, known.any(axis=1)])


def _by_true_label(content: npt.NDArray[Any], truth: UInt8Map, hierarchy: Hierarchy) -> npt.NDArray[Any]:
    """Return how many pixels of each true label are called each node and, last, background: (N + 1, 256)."""
    if content.ndim == 3:
        masks = [*content, ~content.any(axis=0)]
        return np.stack([np.bincount(truth[mask], minlength=256) for mask in masks])
    hierarchy.check_labels(content)
    pairs = truth.ravel() * np.uint16(256) + content.ravel()
    confusion = np.bincount(pairs, minlength=256 * 256).reshape(256, 256)
    return _tables(hierarchy)[0] @ confusion.T


def _boundaries(content: npt.NDArray[Any], hierarchy: Hierarchy) -> list[BoolMask]:
    """Return `boundary` of each node, from labels (H, W) or masks (N, H, W)."""
    masks = content if content.ndim == 3 else (_looked_up(content, table) for table in _tables(hierarchy)[0][:-1])
    return [boundary(mask) for mask in masks]


def _looked_up(labels: UInt8Map, table: BoolMask) -> BoolMask:
    return np.asarray(cv2.LUT(labels, table.view(np.uint8))).view(bool)


def _common(masks: Sequence[BoolMask], others: Sequence[BoolMask]) -> list[int]:
    """Return how many pixels each mask has in common with its partner."""
    return [int(np.count_nonzero(first & second)) for first, second in zip(masks, others, strict=True)]


def _iou(counts: Counts, truth: str, prefix: str, smoothing: float = 0.0) -> Values:
    there, wrong, missed = (counts[key] for key in (truth, f"{prefix}false_positives", f"{prefix}false_negatives"))
    return ratio(there - missed + smoothing, there + wrong + smoothing)


def _plain(value: Any) -> Any:
    """Return numbers as Python's own, and None for nan, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    value = np.asarray(value).item()
    return None if value != value else value
