"""Chooses a checkpoint's threshold and calibrates its scores, on training photos: `python -m train calibrate ftm`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit
from tqdm import tqdm

from hierseg.calibration import Calibration, logits
from hierseg.decoding import Scores
from hierseg.metrics import Counts, count, iou, level_means, stack, total
from hierseg.network.checkpoint import Card
from hierseg.predictor import Predictor
from hierseg.tree import Hierarchy, UInt8Map
from train.dataset import Example

THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
_EDGES = np.linspace(-12, 12, 481, dtype=np.float32)  # of bins of logits: a twentieth wide
_FEWEST = 1000  # pixels of each kind; from fewer nothing is concluded


def calibrate(
    predictor: Predictor,
    examples: Iterable[Example],
    thresholds: Sequence[float] = THRESHOLDS,
) -> Card:
    """Choose the decoding threshold and fit the calibration of a checkpoint.

    Use training photos: chosen on the photos that are reported, both would flatter the report.

    Args:
        predictor: The checkpoint.
        examples: Annotated photos, some of nobody among them: chosen on people alone, a threshold can be too low.
        thresholds: Which to choose from.

    Returns:
        The card with the threshold of the highest data-set IoU, mean over levels, and with the calibration of each
        node's scores where the threshold lets the node be shown. It promises no risk: the certainties were of others.
    """
    tree, photos = predictor.card.hierarchy, []
    tallies = {threshold: Tally(tree) for threshold in thresholds}
    for example in tqdm(examples, unit="photo", disable=None):
        prediction = predictor.predict(example.photo)
        bins = binned(prediction.scores)
        decoded = {str(threshold): prediction.decoded(threshold).labels for threshold in thresholds}
        photos.append(count(decoded, example.label_map, tree))
        for threshold, tally in tallies.items():
            tally.add(bins, decoded[str(threshold)], example.label_map)
    chosen = best_threshold(photos, thresholds, tree)
    inference = dataclasses.replace(predictor.card.inference, threshold=chosen)
    return dataclasses.replace(predictor.card, inference=inference, calibration=tallies[chosen].fit(), risk=None)


def best_threshold(photos: Sequence[Counts], thresholds: Sequence[float], tree: Hierarchy) -> float:
    """Return the threshold with the highest data-set IoU, mean over levels, from counts by the thresholds as text."""
    sums = total(stack(photos))
    ious = [level_means(iou(sums, str(threshold)), tree) for threshold in thresholds]
    return thresholds[int(np.argmax([np.mean([*levels.values()]) for levels in ious]))]


def binned(scores: Scores) -> npt.NDArray[np.int64]:
    """Return in which bin of logits each score lies, same shape."""
    return np.clip(np.searchsorted(_EDGES, logits(scores)) - 1, 0, len(_EDGES) - 2)


class Tally:
    """Counts, for each node and bin of logits, the pixels that show the node wrongly and rightly.

    A root is counted in every pixel: what it leaves of 1 is the confidence in background.
    """

    def __init__(self, tree: Hierarchy) -> None:
        """Start with no photo."""
        self._tree = tree
        self._counts = np.zeros((len(tree), 2, len(_EDGES) - 1))  # of pixels where the node is wrong, and right

    def add(self, bins: npt.NDArray[np.int64], decoded: UInt8Map, truth: UInt8Map) -> None:
        """Add one photo: bins of its scores, (N, H, W), what was decoded from them, and the truth, uint8 (H, W)."""
        tree = self._tree
        shown, there, known = tree.membership[decoded], tree.membership[truth], tree.knowledge[truth]
        for node in range(len(tree)):
            counted = known[..., node] if tree.parents[node] < 0 else known[..., node] & shown[..., node]
            cells = bins[node][counted] + (len(_EDGES) - 1) * there[..., node][counted]
            self._counts[node] += np.bincount(cells, minlength=self._counts[node].size).reshape(2, -1)

    def fit(self) -> Calibration:
        """Return each node's slope and intercept."""
        return tuple(fit_line(*counts) for counts in self._counts)


def fit_line(wrong: Sequence[float], right: Sequence[float]) -> tuple[float, float]:
    """Return the slope, at least 0, and the intercept that make counts likeliest, by bins of logits.

    Where either happened in fewer than a thousand pixels, scores stay as they are: (1, 0).
    """
    off, on = np.asarray(wrong, float), np.asarray(right, float)
    if min(off.sum(), on.sum()) < _FEWEST:
        return 1.0, 0.0
    middles = ((_EDGES[1:] + _EDGES[:-1]) / 2).astype(float)
    total = off.sum() + on.sum()

    def cost(line: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        values = line[0] * middles + line[1]
        slopes = (off + on) * expit(values) - on
        value = off @ np.logaddexp(0, values) + on @ np.logaddexp(0, -values)
        return value / total, np.array([slopes @ middles, slopes.sum()]) / total

    found = minimize(cost, np.array([1.0, 0.0]), jac=True, bounds=[(0, None), (None, None)], method="L-BFGS-B")
    return float(found.x[0]), float(found.x[1])
