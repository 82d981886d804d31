"""Figures of the loss comparison, from counts of each photo, and intervals of the differences between its rows.

A table holds the counts of each photo of one run, see `sweep.counts_of`. Every figure is a ratio of sums, a mean or a
median over photos, so one function computes it for the photos as they are and for drawings of them, given as weights.
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

from hierseg import files
from hierseg.metrics import Values, boundary_iou, iou, level_means, person_sizes, ratio
from hierseg.tree import Hierarchy

Table = Mapping[str, npt.NDArray[Any]]
_CONFIDENCE = 0.95  # probability that all intervals of a family hold
_APART = re.compile(r"hedged/|\w+:")  # shares, and counts of other photos
Contrast = Mapping[str, float]  # weights of rows, which sum to 0


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval; nan where they cannot be estimated."""

    estimate: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Where the interval lies: "higher" or "lower" than 0, or "open" if it includes 0."""
        return "higher" if self.low > 0 else "lower" if self.high < 0 else "open"


def write_table(path: Path, table: Table) -> None:
    """Write a table as an .npz file; the same table gives the same bytes.

    `numpy.savez_compressed` compresses otherwise, which makes files a third larger.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        for name, values in table.items():
            content = io.BytesIO()
            np.save(content, values, allow_pickle=False)
            # Given only a name, the archive would add the time.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_LZMA)
    files.write_atomically(path, buffer.getvalue())


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
        For each figure R values, nan where there is nothing to measure. Of the scores:

        - violations: share of pixels whose scores, rounded at 0.5, break the tree;
        - violations_of_person/mean and violations_of_person/median: over photos, their share of the pixels that are
          decoded to a person or break the tree;
        - brier/LEVEL: mean squared distance of a score to 0 or 1, over pixels and the level's nodes (Brier, 1950).

        Of answers that stop where parts are unsure, see `train.risk.outcome`, means over photos:

        - hedged/LEVEL: share of the pixels called a person that stop at the level;
        - hedged/risk: share of them that have a wrong name.

        Of what is decoded along the tree:

        - path/node_iou/NODE, path/iou/LEVEL, path/iou_with_background/LEVEL, and path/iou/LEVEL/SIZE over the photos of
          one class of person size: data-set IoU, see `hierseg.metrics.iou`;
        - path/boundary_iou/LEVEL: data-set IoU near boundaries (Cheng et al., CVPR 2021);
        - path/tree_cost: mean number of edges between the decoded node and the true one, with background above the
          roots, which is the number of nodes wrongly on or off: the mean cost of Sainte Fare Garnot and Landrieu (2021,
          arXiv 2007.03047) if a mistake costs its path in the tree.

        Of each DOMAIN of other photos:

        - DOMAIN/iou/LEVEL: data-set IoU, mean over those nodes of the level that the domain's labels name;
        - DOMAIN/person: share of its pixels without a person that are called a person.
    """
    photos = len(table["pixels"])
    weights = np.ones((1, photos)) if weights is None else weights
    # In float64, so that no sum of counts overflows.
    counts = {key: np.asarray(values, np.float64) for key, values in table.items() if not _APART.match(key)}
    totals = _sums(counts, weights)
    pixels = totals["truth"][:, [*hierarchy.roots, -1]].sum(1)  # that are not void
    ious = iou(totals, "path")
    mistakes = (totals["path/false_positives"] + totals["path/false_negatives"])[:, :-1].sum(1)
    found = {
        "violations": ratio(totals["broken"][:, 0], totals["pixels"]),
        "path/tree_cost": ratio(mistakes, pixels),
        **{f"path/node_iou/{name}": ious[:, node] for node, name in enumerate((*hierarchy.nodes, "background"))},
        **{
            f"brier/{level}": ratio(totals["squared_error"][:, number], pixels)
            for number, level in enumerate(hierarchy.levels)
        },
        **_of_domains(table, hierarchy, len(weights)),
    }
    sizes = {
        name: _sums({key: values[members] for key, values in counts.items()}, weights[:, members])
        for name, members in person_sizes(counts, hierarchy).items()
    }
    for key, of_levels in {
        "path/iou/{}": level_means(ious, hierarchy),
        **{f"path/iou/{{}}/{size}": level_means(iou(sums, "path"), hierarchy) for size, sums in sizes.items()},
        "path/iou_with_background/{}": level_means(ious, hierarchy, with_background=True),
        "path/boundary_iou/{}": level_means(boundary_iou(totals, "path"), hierarchy),
    }.items():
        found |= {key.format(level): values for level, values in of_levels.items()}
    if "person" in counts:
        shares = ratio(counts["broken"][:, 0], counts["person"])
        found["violations_of_person/mean"] = _mean(shares, weights)
        found["violations_of_person/median"] = _median(shares, weights)
    if "hedged/wrong" in table:
        found["hedged/risk"] = _mean(table["hedged/wrong"], weights)
        for level, shares in zip(hierarchy.levels, table["hedged/stops"].T, strict=True):
            found[f"hedged/{level}"] = _mean(shares, weights)
    return found


def drawings(photos: int, resamples: int) -> Values:
    """Return how often each photo counts, shape (1 + resamples, photos): once each, then drawn with replacement.

    Differences of two runs under the same drawings are a paired bootstrap (Efron and Tibshirani, 1993): their
    percentiles are an interval over other photos, not over other seeds.
    """
    drawn = np.random.default_rng(0).multinomial(photos, np.full(photos, 1 / photos), resamples)
    return np.concatenate([np.ones((1, photos)), drawn])


class TwoWay:
    """Two-way analysis of variance without interaction: figure = row + seed + noise (Scheffe, 1959).

    The noise is normal with one variance, which is estimated from all runs. A contrast is a sum of rows whose weights
    sum to 0: {"focal": 1, "bce": -1} is a difference.
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
        self._estimable = self._inverse @ (design.T @ design)  # leaves weights as they are if their sum is estimable
        self._coefficients = self._inverse @ design.T @ values
        self.degrees = len(runs) - int(np.linalg.matrix_rank(design))
        noise = (values - design @ self._coefficients)[:, 0]
        self.variance = float(noise @ noise) / self.degrees if self.degrees else np.nan

    def mean(self, row: str) -> float:
        """Return a row's least-squares mean over all seeds, also those that it lacks.

        Where other rows have other seeds and no row ties the two together, it is the mean over its own.
        """
        mean = self._estimate(self._weights({row: 1.0}, 1 / len(self._seeds)))
        own = [number for (other, _), number in self._at.items() if other == row]
        return float(self._values[own, 0].mean()) if np.isnan(mean) else mean

    def planned(self, contrast: Contrast, family: int) -> Interval:
        """Return a contrast with Student's interval by the pooled variance, with Bonferroni's correction.

        Args:
            contrast: The contrast.
            family: Number of intervals that hold simultaneously.
        """
        reach = scipy.stats.t.ppf(1 - (1 - _CONFIDENCE) / (2 * family), self.degrees)
        return self._interval(contrast, float(reach))

    def pairwise(self, contrast: Contrast, family: int) -> Interval:
        """Return the difference of two rows with the interval of Tukey (1953) and Kramer (1956) over all pairs of rows.

        Args:
            contrast: 1 for a row, -1 for another.
            family: Number of figures whose pairs hold simultaneously, by Bonferroni's correction.
        """
        level = 1 - (1 - _CONFIDENCE) / family
        reach = _studentized_range(level, len(self.rows), self.degrees) if self.degrees else np.nan
        return self._interval(contrast, reach / 2**0.5)

    def unpooled(self, contrast: Contrast) -> Interval:
        """Return a contrast with Student's interval over its values in each seed, from its own rows alone."""
        complete = [seed for seed in self._seeds if all((row, seed) in self._at for row in contrast)]
        values = [
            sum(weight * self._values[self._at[row, seed], 0] for row, weight in contrast.items()) for seed in complete
        ]
        mean = float(np.mean(values or np.nan))
        error = float(scipy.stats.sem(values)) if len(values) > 1 else np.nan
        reach = error * float(scipy.stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1))
        return Interval(mean, mean - reach, mean + reach)

    def photos(self, contrast: Contrast) -> Interval:
        """Return a contrast with its percentiles over the drawings of photos, for the same runs."""
        weights = self._weights(contrast)
        if np.isnan(self._estimate(weights)):
            return Interval(np.nan, np.nan, np.nan)
        values = weights @ self._coefficients
        low, high = np.quantile(values[1:], (0.5 - _CONFIDENCE / 2, 0.5 + _CONFIDENCE / 2))
        return Interval(float(values[0]), float(low), float(high))

    def _weights(self, contrast: Contrast, of_seeds: float = 0.0) -> Values:
        return np.array([contrast.get(row, 0.0) for row in self.rows] + [of_seeds] * len(self._seeds))

    def _estimate(self, weights: Values) -> float:
        """Return a sum of coefficients; nan where it is not estimable, as rows share no seed, however indirectly."""
        if not np.allclose(weights @ self._estimable, weights):
            return np.nan
        return float(weights @ self._coefficients[:, 0])

    def _interval(self, contrast: Contrast, reach: float) -> Interval:
        weights = self._weights(contrast)
        estimate = self._estimate(weights)
        error = float(np.sqrt(self.variance * (weights @ self._inverse @ weights)))
        return Interval(estimate, estimate - reach * error, estimate + reach * error)


@cache
def _studentized_range(level: float, rows: int, degrees: int) -> float:
    """Return a quantile; scipy takes a tenth of a second."""
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
    """Return the figures of other photos; drawings do not change them."""
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
    """Return weighted sums over photos; one product of all columns is several times as fast as one per key."""
    widths = [1 if values.ndim == 1 else values.shape[1] for values in counts.values()]
    parts = np.split(weights @ np.column_stack(list(counts.values())), np.cumsum(widths)[:-1], axis=1)
    return {key: part.reshape(len(weights), *counts[key].shape[1:]) for key, part in zip(counts, parts, strict=True)}
