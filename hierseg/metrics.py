"""Streaming measures of masks against the truth: add photo after photo, then read the result."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hierseg.decoding import Scores, decode_rounding, violations
from hierseg.hierarchy import BoolMask, Hierarchy, UInt8Map

_SMOOTHING = 1e-8  # the seed's; makes a node that is absent and not predicted score 1


class DatasetIoU:
    """Intersection over union of pixels summed over all photos, per node and per level.

    Void pixels of the truth do not count. A prediction that stops above a level counts as a miss of that level's nodes.
    """

    def __init__(self, hierarchy: Hierarchy) -> None:
        """Start with no photo."""
        self.hierarchy = hierarchy
        # confusion[t, p]: pixels whose deepest node is t and predicted p; the last row and column are background.
        self.confusion = np.zeros((len(hierarchy) + 1, len(hierarchy) + 1), dtype=np.int64)
        self._slots = np.full(256, -1, dtype=np.int64)
        self._slots[hierarchy.background] = len(hierarchy)
        self._slots[list(hierarchy.labels)] = np.arange(len(hierarchy))

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
        return np.array([self._iou(self.hierarchy.descendants[node]) for node in range(len(self.hierarchy))])

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

    def _iou(self, members: BoolMask, background: bool = False) -> float:
        slots = np.append(members, background)
        inter = self.confusion[np.ix_(slots, slots)].sum()
        union = self.confusion[slots].sum() + self.confusion[:, slots].sum() - inter
        return float(inter / union) if union else float("nan")


class SeedIoU:
    """The seed's own measure: IoU of each node's rounded scores per photo, mean over photos, then over a level.

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
            truth: Labels, uint8 (H, W); void pixels do not count.

        Raises:
            ValueError: The masks are not one for each node in the size of the truth.
            HierarchyError: The truth holds an unknown label.
        """
        target = self.hierarchy.node_masks(truth)
        if masks.shape != target.shape:
            raise ValueError(f"The masks are {masks.shape} but the truth makes {target.shape}.")
        counted = self.hierarchy.valid_mask(truth)
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


class Evaluation:
    """All measures of one checkpoint on one set of photos, fed together."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        """Start with no photo."""
        self.hierarchy = hierarchy
        self.dataset = DatasetIoU(self.hierarchy)
        self.seed = SeedIoU(self.hierarchy)
        self.raw_violations = ViolationRate(self.hierarchy)
        self.decoded_violations = ViolationRate(self.hierarchy)
        self.photos = 0

    def add(self, scores: Scores, predicted: UInt8Map, truth: UInt8Map) -> None:
        """Add one photo.

        Args:
            scores: Sigmoid scores, float32 (N, H, W).
            predicted: What `decoding.decode` made of them, uint8 (H, W).
            truth: Labels, uint8 (H, W).
        """
        rounded = decode_rounding(scores, self.hierarchy)
        self.dataset.add(predicted, truth)
        self.seed.add(rounded, truth)
        self.raw_violations.add(rounded)
        self.decoded_violations.add(self.hierarchy.node_masks(predicted))
        self.photos += 1

    def summary(self) -> dict[str, Any]:
        """Return every figure as plain numbers, ready for JSON."""
        nodes, seed_nodes = self.dataset.nodes(), self.seed.nodes()
        return {
            "photos": self.photos,
            "dataset_iou": {
                "levels": self.dataset.levels(with_background=False),
                "levels_with_background": self.dataset.levels(with_background=True),
                "nodes": dict(zip(self.hierarchy.nodes, nodes.tolist(), strict=True)),
                "background": self.dataset.background(),
            },
            "seed_iou": {
                "levels": self.seed.levels(),
                "nodes": dict(zip(self.hierarchy.nodes, seed_nodes.tolist(), strict=True)),
            },
            "violations": {"raw": self.raw_violations.share(), "decoded": self.decoded_violations.share()},
        }


def _mean_of_present(values: list[float]) -> float:
    present = [value for value in values if not np.isnan(value)]
    return float(np.mean(present)) if present else float("nan")
