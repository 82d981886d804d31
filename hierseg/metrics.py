"""Streaming measures of masks against the truth: add photo after photo, then read the result.

A label of the truth may stop at an inner node. Then nothing is known of what lies below, and each measure counts a node
only in pixels of which it is known whether they belong to it, see `Hierarchy.known_masks`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt

from hierseg.calibration import Calibration as ScoreCalibration
from hierseg.calibration import calibrated
from hierseg.decoding import Scores, decode_rounding, violations
from hierseg.tree import BoolMask, Hierarchy, UInt8Map

_SMOOTHING = 1e-8  # the predecessor's; makes a node that is absent and not predicted score 1
_BINS = 15  # of confidence, the usual number for the expected calibration error
_BOUNDARY = 0.02  # of the photo's diagonal, as far as a boundary reaches into its mask; Cheng et al.'s choice

# Least share of a photo that its people cover, for each class of person size.
PERSON_SIZES = {"under 2 %": 0.0, "2-10 %": 0.02, "over 10 %": 0.1}


class DatasetIoU:
    """Intersection over union of pixels summed over all photos, per node and per level.

    A node counts only where the truth knows of it, so void pixels never do. A prediction that stops above a level
    counts as a miss of that level's nodes.
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        """Start with no photo."""
        self.hierarchy = hierarchy
        # confusion[t, p]: pixels whose deepest node is t and predicted p; the last row and column are background.
        self.confusion = np.zeros((len(hierarchy) + 1, len(hierarchy) + 1), dtype=np.int64)
        self._slots = _slots(hierarchy)

    def add(self, predicted: UInt8Map, truth: UInt8Map) -> None:
        """Add one photo.

        Args:
            predicted: Decoded labels, uint8 (H, W).
            truth: Labels, uint8 (H, W); may hold void.

        Raises:
            ValueError: The maps differ in size, or the prediction holds void.
            HierarchyError: A map holds an unknown label.
        """
        if predicted.shape != truth.shape:
            raise ValueError(f"The prediction is {predicted.shape} but the truth is {truth.shape}.")
        self.hierarchy.check_labels(predicted)
        self.hierarchy.check_labels(truth)
        if not self.hierarchy.valid_mask(predicted).all():
            raise ValueError("A prediction must not hold void.")
        counted = self.hierarchy.valid_mask(truth)
        rows, columns = self._slots[truth[counted]], self._slots[predicted[counted]]
        size = len(self.confusion)
        self.confusion += np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)

    def nodes(self) -> npt.NDArray[np.float64]:
        """Return the IoU of each node, shape (N,); nan for a node that is nowhere in truth or prediction."""
        # Rows of truths that say whether a pixel is of the node: all of background's, of others as their label does.
        known = np.append(self.hierarchy.knowledge[list(self.hierarchy.labels)], np.ones((1, len(self.hierarchy))), 0)
        return np.array(
            [
                self._iou(self.hierarchy.descendants[node], rows=known[:, node].astype(bool))
                for node in range(len(self.hierarchy))
            ]
        )

    def background(self) -> float:
        """Return the IoU of the background."""
        return self._iou(np.zeros(len(self.hierarchy), dtype=bool), background=True)

    def levels(self, with_background: bool) -> dict[str, float]:
        """Return the mean IoU of each level's nodes, background among them or not; absent nodes are left out."""
        nodes = self.nodes()
        extra = [self.background()] if with_background else []
        return {
            level: _mean_of_present([*nodes[list(members)], *extra]) for level, members in self.hierarchy.levels.items()
        }

    def _iou(self, members: BoolMask, background: bool = False, rows: BoolMask | None = None) -> float:
        slots = np.append(members, background)
        confusion = self.confusion if rows is None else self.confusion * rows[:, None]
        inter = confusion[np.ix_(slots, slots)].sum()
        union = confusion[slots].sum() + confusion[:, slots].sum() - inter
        return float(inter / union) if union else float("nan")


class SeedIoU:
    """The predecessor's own measure: IoU of each node's rounded scores per photo, mean over photos, then over a level.

    A node that is absent and not predicted scores 1 in that photo, so an empty prediction scores well above 0.
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        """Start with no photo."""
        self.hierarchy = hierarchy
        self._sums = np.zeros(len(hierarchy))
        self._photos = 0

    def add(self, masks: BoolMask, truth: UInt8Map) -> None:
        """Add one photo.

        Args:
            masks: Scores rounded at 0.5, bool (N, H, W), see `decoding.decode_rounding`.
            truth: Labels, uint8 (H, W); a node counts only where it is known.

        Raises:
            ValueError: The masks are not one for each node in the size of the truth.
            HierarchyError: The truth holds an unknown label.
        """
        target = self.hierarchy.node_masks(truth)
        if masks.shape != target.shape:
            raise ValueError(f"The masks are {masks.shape} but the truth makes {target.shape}.")
        counted = self.hierarchy.known_masks(truth)
        inter = (masks & target & counted).sum((1, 2))
        union = ((masks | target) & counted).sum((1, 2))
        self._sums += (inter + _SMOOTHING) / (union + _SMOOTHING)
        self._photos += 1

    def nodes(self) -> npt.NDArray[np.float64]:
        """Return the mean over photos for each node, shape (N,); nan before the first photo."""
        return self._sums / self._photos if self._photos else np.full(len(self.hierarchy), np.nan)

    def levels(self) -> dict[str, float]:
        """Return the mean over each level's nodes."""
        nodes = self.nodes()
        return {level: float(nodes[list(members)].mean()) for level, members in self.hierarchy.levels.items()}


class ViolationRate:
    """Share of pixels whose masks break the tree."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        """Start with no photo."""
        self.hierarchy = hierarchy
        self._broken = 0
        self._pixels = 0

    def add(self, masks: BoolMask) -> None:
        """Add one photo's masks, bool (N, H, W)."""
        broken = violations(masks, self.hierarchy)
        self._broken += int(broken.sum())
        self._pixels += broken.size

    def share(self) -> float:
        """Return the share, 0 to 1; nan before the first photo."""
        return self._broken / self._pixels if self._pixels else float("nan")


class Calibration:
    """Expected calibration error of each level: how far confidence lies from the share of pixels that are right.

    A pixel's confidence is the score of the node it is given on that level, or, given background, what the best root
    leaves of 1. Confidences fall into 15 equal bins; the error is the mean over pixels of the distance between a bin's
    mean confidence and its share of right pixels (Guo et al., ICML 2017). A pixel counts on a level where the truth
    says whether it is of the node that it is given there.

    Attributes:
        hierarchy: The tree.
        bins: For each level, for pixels called background and person, and for each bin: pixels, sum of confidence,
            right pixels. Shape (L, 2, 15, 3).
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        """Start with no photo."""
        self.hierarchy = hierarchy
        self._slots = _slots(hierarchy)
        self.bins = np.zeros((len(hierarchy.levels), 2, _BINS, 3))

    def add(self, scores: Scores, predicted: UInt8Map, truth: UInt8Map) -> None:
        """Add one photo.

        Args:
            scores: Node scores, float32 (N, H, W).
            predicted: What was decoded from them, uint8 (H, W).
            truth: Labels, uint8 (H, W); may hold void.
        """
        self.hierarchy.check_labels(truth)
        counted = self.hierarchy.valid_mask(truth)
        labels = truth[counted]
        # What a truth says of each node, and of background in the last column.
        right_of, known_of = (
            np.append(table, column[:, None], axis=1)
            for table, column in (
                (self.hierarchy.membership, np.arange(256) == self.hierarchy.background),
                (self.hierarchy.knowledge, np.ones(256, bool)),
            )
        )
        roots = [node for node, parent in enumerate(self.hierarchy.parents) if parent < 0]
        # The last channel is the confidence in background.
        confidences = np.concatenate([scores, 1 - scores[roots].max(axis=0, keepdims=True)])[:, counted]
        person = predicted[counted] != self.hierarchy.background
        for level, bins in zip(self.hierarchy.levels, self.bins, strict=True):
            shown = self._slots[self.hierarchy.at_level(predicted, level)[counted]]
            known = known_of[labels, shown]
            right = right_of[labels, shown][known]
            confidence = np.take_along_axis(confidences, shown[None], axis=0)[0][known]
            slot = person[known] * _BINS + np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
            for column, weights in enumerate((None, confidence, right)):
                bins[..., column] += np.bincount(slot, weights, 2 * _BINS).reshape(2, _BINS)

    def levels(self, person_only: bool) -> dict[str, float]:
        """Return the error of each level, 0 to 1; nan without pixels.

        Args:
            person_only: Count only pixels that were not decoded to background, which is most of a photo and easy.
        """
        errors = {}
        for level, bins in zip(self.hierarchy.levels, self.bins, strict=True):
            pixels, confidence, right = (bins[1] if person_only else bins.sum(axis=0)).T
            total = pixels.sum()
            errors[level] = float(np.abs(confidence - right).sum() / total) if total else float("nan")
        return errors


class PhotoCounts:
    """What every measure of a comparison is made of, photo by photo, so that photos can be drawn again.

    Masks may come from any decoding, also from one that breaks the tree. The scores rounded at 0.5, as in the
    predecessor's measure, are counted too, as the decoding "seed". What the truth does not know counts in `pixels` and
    `broken` only, and a pixel is all right where all that is known of it is. Of P photos, `arrays` has, with background
    in the last column:

        pixels          (P,)     all of the photo
        broken          (P, 2)   pixels whose rounded scores break the tree; nodes in them that are on under one off
        squared_error   (P, L)   of a score to 0 or 1, mean over the level's nodes (Brier, 1950), summed over pixels
        truth           (P, N+1) pixels of each node
        boundary        (P, N)   pixels of each node near its boundary

    and for the decoding NAME

        NAME/false_positives, NAME/false_negatives  (P, N+1) pixels wrongly called the node, or wrongly not
        NAME/right                                  (P,)     pixels whose nodes are all right
        NAME/boundary_false_positives, NAME/boundary_false_negatives  (P, N) of boundaries; not of "seed"
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        """Start with no photo."""
        self.hierarchy = hierarchy
        self._rows: list[dict[str, Any]] = []

    def add(self, scores: Scores, decoded: Mapping[str, BoolMask], truth: UInt8Map) -> None:
        """Add one photo.

        Args:
            scores: Node scores, float32 (N, H, W).
            decoded: What each decoding, by its name, made of them: one mask a node, bool (N, H, W).
            truth: Labels, uint8 (H, W); may hold void.

        Raises:
            ValueError: Something is not of the truth's size.
            HierarchyError: The truth holds an unknown label.
        """
        target = _with_background(self.hierarchy.node_masks(truth))
        for content in (scores, *decoded.values()):
            if content.shape != target[:-1].shape:
                raise ValueError(f"The masks are {content.shape} but the truth makes {target[:-1].shape}.")
        counted = np.append(self.hierarchy.known_masks(truth), self.hierarchy.valid_mask(truth)[None], axis=0)
        rounded = decode_rounding(scores, self.hierarchy)
        edges = [rounded[node] & ~rounded[parent] for node, parent in enumerate(self.hierarchy.parents) if parent >= 0]
        errors = [
            float(((scores[node] - target[node])[counted[node]] ** 2).sum()) for node in range(len(self.hierarchy))
        ]
        near = np.stack([boundary(mask) for mask in target[:-1]])
        row: dict[str, Any] = {
            "pixels": truth.size,
            "broken": [violations(rounded, self.hierarchy).sum(), sum(map(np.count_nonzero, edges))],
            "squared_error": [np.mean([errors[node] for node in nodes]) for nodes in self.hierarchy.levels.values()],
            "truth": _counts(target & counted),
            "boundary": _counts(near & counted[:-1]),
        }
        for name, masks in {"seed": rounded, **decoded}.items():
            called = _with_background(masks)
            row[f"{name}/false_positives"] = _counts(called & ~target & counted)
            row[f"{name}/false_negatives"] = _counts(target & ~called & counted)
            row[f"{name}/right"] = np.count_nonzero(((called == target) | ~counted).all(0) & counted[-1])
            if name in decoded:
                called = np.stack([boundary(mask) for mask in masks])
                row[f"{name}/boundary_false_positives"] = _counts(called & ~near & counted[:-1])
                row[f"{name}/boundary_false_negatives"] = _counts(near & ~called & counted[:-1])
        self._rows.append(row)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return all of it: uint32, but for `squared_error`, which is float32."""
        return {
            key: np.array([row[key] for row in self._rows], np.float32 if key == "squared_error" else np.uint32)
            for key in (self._rows[0] if self._rows else ())
        }


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


class BoundaryIoU:
    """Boundary IoU of each node: IoU of the parts of masks near their boundaries, summed over all photos.

    Cheng et al., CVPR 2021; see `boundary`. A node counts only where the truth knows of it.
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        """Start with no photo."""
        self.hierarchy = hierarchy
        self._counts = np.zeros((2, len(hierarchy)), np.int64)  # intersections and unions

    def add(self, predicted: UInt8Map, truth: UInt8Map) -> None:
        """Add one photo's decoded labels and truth, both uint8 (H, W)."""
        known = self.hierarchy.known_masks(truth)
        pairs = zip(self.hierarchy.node_masks(predicted), self.hierarchy.node_masks(truth), known, strict=True)
        for node, (called, there, counted) in enumerate(pairs):
            if called.any() or there.any():
                near = boundary(called) & counted, boundary(there) & counted
                self._counts[:, node] += np.count_nonzero(near[0] & near[1]), np.count_nonzero(near[0] | near[1])

    def nodes(self) -> npt.NDArray[np.float64]:
        """Return the boundary IoU of each node, shape (N,); nan for a node without any boundary."""
        both, either = self._counts
        return np.where(either > 0, both / np.maximum(either, 1), np.nan)

    def levels(self) -> dict[str, float]:
        """Return the mean over each level's nodes; absent nodes are left out."""
        nodes = self.nodes()
        return {level: _mean_of_present([*nodes[list(members)]]) for level, members in self.hierarchy.levels.items()}


class Evaluation:
    """All measures of one checkpoint on one set of photos, fed together."""

    def __init__(self, hierarchy: Hierarchy, calibration: ScoreCalibration | None = None) -> None:
        """Start with no photo.

        Args:
            hierarchy: The tree.
            calibration: What makes probabilities of scores, see `hierseg.calibration`; None where nothing does.
        """
        self.hierarchy = hierarchy
        self._calibration = calibration
        self.boundaries = BoundaryIoU(self.hierarchy)
        self.calibrated = Calibration(self.hierarchy)
        self.dataset = DatasetIoU(self.hierarchy)
        self.by_size = {name: DatasetIoU(self.hierarchy) for name in PERSON_SIZES}
        self.photos_by_size = dict.fromkeys(PERSON_SIZES, 0)
        self.seed = SeedIoU(self.hierarchy)
        self.calibration = Calibration(self.hierarchy)
        self.raw_violations = ViolationRate(self.hierarchy)
        self.decoded_violations = ViolationRate(self.hierarchy)
        self.photos = 0

    def add(self, scores: Scores, predicted: UInt8Map, truth: UInt8Map) -> None:
        """Add one photo.

        Args:
            scores: Node scores, float32 (N, H, W).
            predicted: What `decoding.decode` made of them, uint8 (H, W).
            truth: Labels, uint8 (H, W).
        """
        rounded = decode_rounding(scores, self.hierarchy)
        self.dataset.add(predicted, truth)
        size = _person_size(truth, self.hierarchy)
        self.by_size[size].add(predicted, truth)
        self.photos_by_size[size] += 1
        self.seed.add(rounded, truth)
        self.boundaries.add(predicted, truth)
        self.calibration.add(scores, predicted, truth)
        if self._calibration is not None:
            self.calibrated.add(calibrated(scores, self._calibration), predicted, truth)
        self.raw_violations.add(rounded)
        self.decoded_violations.add(self.hierarchy.node_masks(predicted))
        self.photos += 1

    def summary(self) -> dict[str, Any]:
        """Return every figure as plain values, ready for JSON: None where there was nothing to measure."""
        nodes, seed_nodes = self.dataset.nodes(), self.seed.nodes()
        summary = {
            "photos": self.photos,
            "dataset_iou": {
                "levels": self.dataset.levels(with_background=False),
                "levels_with_background": self.dataset.levels(with_background=True),
                "nodes": dict(zip(self.hierarchy.nodes, nodes.tolist(), strict=True)),
                "background": self.dataset.background(),
            },
            "by_person_size": {
                name: {"photos": self.photos_by_size[name], "levels": measure.levels(with_background=False)}
                for name, measure in self.by_size.items()
            },
            "seed_iou": {
                "levels": self.seed.levels(),
                "nodes": dict(zip(self.hierarchy.nodes, seed_nodes.tolist(), strict=True)),
            },
            "boundary_iou": self.boundaries.levels(),
            "calibration_error": {
                "all_pixels": self.calibration.levels(person_only=False),
                "person_pixels": self.calibration.levels(person_only=True),
                **(self._calibrated_errors() if self._calibration is not None else {}),
            },
            "violations": {"raw": self.raw_violations.share(), "decoded": self.decoded_violations.share()},
        }
        return cast(dict[str, Any], _without_nan(summary))

    def _calibrated_errors(self) -> dict[str, dict[str, float]]:
        return {
            "calibrated_all_pixels": self.calibrated.levels(person_only=False),
            "calibrated_person_pixels": self.calibrated.levels(person_only=True),
        }


def _with_background(masks: BoolMask) -> BoolMask:
    """Return masks (N, H, W) with one more, of the pixels that are in none."""
    return np.concatenate([masks, ~masks.any(axis=0, keepdims=True)])


def _counts(masks: BoolMask) -> list[int]:
    return [int(np.count_nonzero(mask)) for mask in masks]


def _slots(hierarchy: Hierarchy) -> npt.NDArray[np.int64]:
    """Return for each label the index of its node, for background the number of nodes, else -1."""
    slots = np.full(256, -1, dtype=np.int64)
    slots[hierarchy.background] = len(hierarchy)
    slots[list(hierarchy.labels)] = np.arange(len(hierarchy))
    return slots


def _without_nan(value: Any) -> Any:
    """Put None for nan, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and np.isnan(value) else value


def _person_size(truth: UInt8Map, hierarchy: Hierarchy) -> str:
    """Return the class of a photo's person size; void counts as no person."""
    share = ((truth != hierarchy.background) & hierarchy.valid_mask(truth)).mean()
    return [name for name, least in PERSON_SIZES.items() if share >= least][-1]


def _mean_of_present(values: list[float]) -> float:
    present = [value for value in values if not np.isnan(value)]
    return float(np.mean(present)) if present else float("nan")
