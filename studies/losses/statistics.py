"""Figures of the loss comparison from counts of each photo, and intervals of the differences between its rows.

A table has the counts of each photo of one run, see `sweep.counts_of`. Every figure is a ratio of sums over photos, or
a mean over photos, so one function gives it for the photos as they are and for any drawing of them, as weights.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats

from hierseg.metrics import Values, boundary_iou, iou, level_means, person_sizes, predecessor_iou, ratio
from hierseg.network import checkpoint
from hierseg.tree import Hierarchy

Table = Mapping[str, npt.NDArray[Any]]
_APART = re.compile(r"hedged/|\w+:")  # of shares, or of other photos
Contrast = Mapping[str, float]  # weights of rows, which sum to 0


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it; nan bounds where there is nothing to tell them from."""

    estimate: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What the interval says of the true value: "higher" or "lower" than 0, or "open"."""
        return "higher" if self.low > 0 else "lower" if self.high < 0 else "open"


def write_table(path: Path, table: Table) -> None:
    """Write a table as an .npz file; the same table gives the same bytes.

    `numpy.savez_compressed` does the same with another compression, which makes files a third larger.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        for name, values in table.items():
            content = io.BytesIO()
            np.save(content, values, allow_pickle=False)
            # Given a name alone, the archive would add the time.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_LZMA)
    checkpoint.write_atomically(path, buffer.getvalue())


def read_table(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read what `write_table` wrote; nothing is unpickled."""
    with np.load(path, allow_pickle=False) as content:
        return {key: content[key] for key in content.files}


def figures(table: Table, hierarchy: Hierarchy, weights: Values | None = None) -> dict[str, Values]:
    """Return every figure of a run.

    Args:
        table: Counts of P photos.
        hierarchy: The tree.
        weights: How often each photo counts, shape (R, P); None for each once.

    Returns:
        For each figure R values, nan where there is nothing to measure. Of the scores themselves:

        - violations: share of pixels whose scores, rounded at 0.5, break the tree;
        - broken_edges: of these pixels, how many edges of the tree are broken (the child on, its parent off);
        - violations_of_person/mean and violations_of_person/median: which share of the person's pixels these are, over
          photos that have such pixels: those that "path" gives to a person or that are broken;
        - brier/LEVEL: mean squared distance of a score to 0 or 1, over pixels and the level's nodes (Brier, 1950).

        Of answers that stop where parts are unsure, see `train.risk.outcome`, means over photos:

        - hedged/LEVEL: share of the pixels called a person that stop at the level;
        - hedged/risk: share of them that have a wrong name.

        Of each DOMAIN of other photos, decoded by "path":

        - DOMAIN/iou/LEVEL: data-set IoU, mean over those nodes of the level that the domain's labels name;
        - DOMAIN/person: share of its pixels without a person that are called one.

        Of each DECODING:

        - node_iou/NODE and iou/LEVEL: data-set IoU, see `hierseg.metrics.iou`;
          iou_with_background/LEVEL; iou/LEVEL/SIZE of the photos of one class of person size;
        - photo_iou/LEVEL: the predecessor's, see `hierseg.metrics.predecessor_iou`;
        - boundary_iou/LEVEL: data-set IoU near boundaries (Cheng et al., CVPR 2021), but for "predecessor";
        - full_path_accuracy: share of pixels whose nodes are all right;
        - tree_distance: of the other pixels, how many nodes are wrongly on or off. Where nothing breaks the tree, that
          is the number of edges between the deepest node called and the true one, with background above the roots (the
          tree distance of Dekel, Keshet and Singer, ICML 2004);
        - tree_cost: the same over all pixels, right ones at no cost: the mean cost of Sainte Fare Garnot and Landrieu
          (2021, arXiv 2007.03047) where a mistake costs its path in the tree.
    """
    photos = len(table["pixels"])
    weights = np.ones((1, photos)) if weights is None else weights
    # In float64 once and for all, as sums of counts are not to wrap.
    counts = {key: np.asarray(values, np.float64) for key, values in table.items() if not _APART.match(key)}
    totals = _sums(counts, weights)
    pixels = totals["truth"][:, [*hierarchy.roots, -1]].sum(1)  # that are not void
    found = {
        "violations": ratio(totals["broken"][:, 0], totals["pixels"]),
        "broken_edges": ratio(totals["broken"][:, 1], totals["broken"][:, 0]),
    }
    for number, level in enumerate(hierarchy.levels):
        found[f"brier/{level}"] = ratio(totals["squared_error"][:, number], pixels)
    if "person" in counts:
        shares = ratio(counts["broken"][:, 0], counts["person"])
        found |= {
            f"violations_of_person/{name}": of(shares, weights) for name, of in (("mean", _mean), ("median", _median))
        }
    if "hedged/wrong" in table:
        found["hedged/risk"] = _mean(table["hedged/wrong"], weights)
        for level, shares in zip(hierarchy.levels, table["hedged/stops"].T, strict=True):
            found[f"hedged/{level}"] = _mean(shares, weights)
    found |= _of_domains(table, hierarchy, len(weights))
    sizes = {
        name: _sums({key: values[members] for key, values in counts.items()}, weights[:, members])
        for name, members in person_sizes(counts, hierarchy).items()
    }
    for decoding in (key.removesuffix("/right") for key in counts if key.endswith("/right")):
        ious = iou(totals, decoding)
        for node, name in enumerate((*hierarchy.nodes, "background")):
            found[f"{decoding}/node_iou/{name}"] = ious[:, node]
        of_photos = weights @ predecessor_iou(counts, decoding) / weights.sum(1, keepdims=True)
        of_levels = {
            "iou/{}": level_means(ious, hierarchy),
            **{f"iou/{{}}/{size}": level_means(iou(sums, decoding), hierarchy) for size, sums in sizes.items()},
            "iou_with_background/{}": level_means(ious, hierarchy, with_background=True),
            "photo_iou/{}": level_means(of_photos, hierarchy),
        }
        if f"{decoding}/boundary_false_positives" in table:
            of_levels["boundary_iou/{}"] = level_means(boundary_iou(totals, decoding), hierarchy)
        for key, levels in of_levels.items():
            found |= {f"{decoding}/{key.format(level)}": values for level, values in levels.items()}
        right = totals[f"{decoding}/right"]
        found[f"{decoding}/full_path_accuracy"] = ratio(right, pixels)
        mistakes = totals[f"{decoding}/false_positives"] + totals[f"{decoding}/false_negatives"]
        edges = mistakes[:, :-1].sum(1)
        found[f"{decoding}/tree_distance"] = ratio(edges, pixels - right)
        found[f"{decoding}/tree_cost"] = ratio(edges, pixels)
    return found


def drawings(photos: int, resamples: int = 2000, seed: int = 0) -> Values:
    """Return how often each photo counts, shape (1 + resamples, photos): first as they are, then drawn anew.

    Figures of two runs under the same drawings, subtracted, are a paired bootstrap (Efron and Tibshirani, 1993): their
    percentiles tell how other photos, not how other seeds, would turn out.
    """
    drawn = np.random.default_rng(seed).multinomial(photos, np.full(photos, 1 / photos), resamples)
    return np.concatenate([np.ones((1, photos)), drawn])


class TwoWay:
    """A figure of all runs as the sum of its row's mean, what the seed adds to every row alike, and noise.

    Noise is taken to be normal, with one variance for the whole grid, which all runs together tell (Scheffe, The
    Analysis of Variance, 1959). A contrast gives rows weights that sum to 0: {"focal": 1, "bce": -1} is a difference.
    """

    def __init__(self, runs: Sequence[tuple[str, int]], values: Values) -> None:
        """Fit by least squares, so that a row may lack seeds that others have.

        Args:
            runs: Row and seed of each of the G runs.
            values: Their figures, shape (G, R): as the photos are, then under each of R - 1 drawings of them.
        """
        self.rows = list(dict.fromkeys(row for row, _ in runs))
        self._seeds = list(dict.fromkeys(seed for _, seed in runs))
        self._at = {run: number for number, run in enumerate(runs)}
        self._values = values
        design = np.array(
            [[row == r for r in self.rows] + [seed == s for s in self._seeds] for row, seed in runs], float
        )
        self._inverse = np.linalg.pinv(design.T @ design)
        self._told = self._inverse @ (design.T @ design)  # what of a sum of coefficients the runs tell
        self._coefficients = self._inverse @ design.T @ values
        self.degrees = len(runs) - int(np.linalg.matrix_rank(design))
        noise = (values - design @ self._coefficients)[:, 0]
        self.variance = float(noise @ noise) / self.degrees if self.degrees else np.nan

    def mean(self, row: str) -> float:
        """Return a row's mean over all seeds of the grid: its own, and what it would have with those that it lacks."""
        return self._estimate(self._weights({row: 1.0}, 1 / len(self._seeds)))

    def planned(self, contrast: Contrast, family: int, confidence: float = 0.95) -> Interval:
        """Return a contrast with Student's interval by the pooled variance, widened after Bonferroni.

        Args:
            contrast: Of the rows.
            family: How many such intervals are to hold together.
            confidence: How often they do.
        """
        reach = scipy.stats.t.ppf(1 - (1 - confidence) / (2 * family), self.degrees)
        return self._interval(contrast, float(reach))

    def pairwise(self, contrast: Contrast, family: int, confidence: float = 0.95) -> Interval:
        """Return the difference of two rows with the interval of Tukey (1953) and Kramer (1956) over all pairs of rows.

        Args:
            contrast: 1 for a row, -1 for another.
            family: How many figures are to hold together with all their pairs; after Bonferroni.
            confidence: How often they do.
        """
        level = 1 - (1 - confidence) / family
        reach = _studentized_range(level, len(self.rows), self.degrees) if self.degrees else np.nan
        return self._interval(contrast, reach / 2**0.5)

    def unpooled(self, contrast: Contrast, confidence: float = 0.95) -> Interval:
        """Return a contrast with Student's interval over its values in each seed, without the other rows."""
        complete = [seed for seed in self._seeds if all((row, seed) in self._at for row in contrast)]
        values = [
            sum(weight * self._values[self._at[row, seed], 0] for row, weight in contrast.items()) for seed in complete
        ]
        mean = float(np.mean(values or np.nan))
        error = float(scipy.stats.sem(values)) if len(values) > 1 else np.nan
        reach = error * float(scipy.stats.t.ppf((1 + confidence) / 2, len(values) - 1))
        return Interval(mean, mean - reach, mean + reach)

    def photos(self, contrast: Contrast, confidence: float = 0.95) -> Interval:
        """Return a contrast with its percentiles under the drawings of photos; the runs stay as they are."""
        weights = self._weights(contrast)
        if np.isnan(self._estimate(weights)):
            return Interval(np.nan, np.nan, np.nan)
        values = weights @ self._coefficients
        low, high = np.quantile(values[1:], (0.5 - confidence / 2, 0.5 + confidence / 2))
        return Interval(float(values[0]), float(low), float(high))

    def _weights(self, contrast: Contrast, of_seeds: float = 0.0) -> Values:
        return np.array([contrast.get(row, 0.0) for row in self.rows] + [of_seeds] * len(self._seeds))

    def _estimate(self, weights: Values) -> float:
        """Return a sum of coefficients; nan where rows share no seed, however indirectly, and nothing tells it."""
        if not np.allclose(weights @ self._told, weights):
            return np.nan
        return float(weights @ self._coefficients[:, 0])

    def _interval(self, contrast: Contrast, reach: float) -> Interval:
        weights = self._weights(contrast)
        estimate = self._estimate(weights)
        error = float(np.sqrt(self.variance * (weights @ self._inverse @ weights)))
        return Interval(estimate, estimate - reach * error, estimate + reach * error)


@cache
def _studentized_range(level: float, rows: int, degrees: int) -> float:
    """Return a quantile, which takes scipy a tenth of a second."""
    return float(scipy.stats.studentized_range.ppf(level, rows, degrees))


def _mean(values: Values, weights: Values) -> Values:
    """Return weighted means (R,) of the values (P,) that are numbers."""
    there = ~np.isnan(values)
    return ratio(weights[:, there] @ values[there], weights[:, there].sum(1))


def _median(values: Values, weights: Values) -> Values:
    """Return medians (R,) of the values (P,) that are numbers, each taken as often as its weight says."""
    there = ~np.isnan(values)
    if not there.any():
        return np.full(len(weights), np.nan)
    order = np.flatnonzero(there)[values[there].argsort()]
    reached = weights[:, order].cumsum(1)
    half = reached[:, -1:] / 2
    lower, upper = (values[order[above.argmax(1)]] for above in (reached >= half, reached > half))
    return np.where(half[:, 0] > 0, (lower + upper) / 2, np.nan)


def _of_domains(table: Table, hierarchy: Hierarchy, times: int) -> dict[str, Values]:
    """Return the figures of photos of other kinds, the same under every drawing of the study's own."""
    totals: dict[str, dict[str, Values]] = {}
    for key, values in table.items():
        domain, _, name = key.rpartition(":")
        if domain:
            totals.setdefault(domain, {})[name] = np.asarray(values, np.float64).sum(0)
    found: dict[str, Values] = {}
    for domain, counts in totals.items():
        named = counts["truth"][:-1] > 0
        ious = np.where([*named, True], iou(counts, "path"), np.nan)
        found |= {f"{domain}/iou/{level}": value for level, value in level_means(ious, hierarchy).items()}
        found[f"{domain}/person"] = ratio(counts["path/false_negatives"][-1], counts["truth"][-1])
    return {key: np.full(times, value) for key, value in found.items()}


def _sums(counts: Table, weights: Values) -> dict[str, Values]:
    """Return weighted sums over photos; one product of all columns is several times as fast as one for each key."""
    widths = [1 if values.ndim == 1 else values.shape[1] for values in counts.values()]
    parts = np.split(weights @ np.column_stack(list(counts.values())), np.cumsum(widths)[:-1], axis=1)
    return {key: part.reshape(len(weights), *counts[key].shape[1:]) for key, part in zip(counts, parts, strict=True)}
