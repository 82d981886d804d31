"""Figures of the loss comparison from counts of each photo, and how sure they are.

A table is what `hierseg.metrics.PhotoCounts` keeps of one run. Every figure is a ratio of sums over photos, or a mean
over photos, so one function gives it for the photos as they are and for any drawing of them, as weights.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats

from hierseg import checkpoint
from hierseg.hierarchy import Hierarchy
from hierseg.metrics import PERSON_SIZES

Table = Mapping[str, npt.NDArray[Any]]
Values = npt.NDArray[np.float64]

_SMOOTHING = 1e-8  # the seed's, see `hierseg.metrics.SeedIoU`


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it; nan bounds where there is nothing to tell them from."""

    estimate: float
    low: float
    high: float


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
        - brier/LEVEL: mean squared distance of a score to 0 or 1, over pixels and the level's nodes (Brier, 1950).

        Of each DECODING:

        - node_iou/NODE and iou/LEVEL: data-set IoU, see `hierseg.metrics.DatasetIoU`;
          iou_with_background/LEVEL; iou/LEVEL/SIZE of the photos of one class of person size;
        - photo_iou/LEVEL: the seed's, see `hierseg.metrics.SeedIoU`;
        - boundary_iou/LEVEL: data-set IoU near boundaries (Cheng et al., CVPR 2021), but for "seed";
        - full_path_accuracy: share of pixels whose nodes are all right;
        - tree_distance: of the other pixels, how many nodes are wrongly on or off. Where nothing breaks the tree, that
          is the number of edges between the deepest node called and the true one, with background above the roots (the
          tree distance of Dekel, Keshet and Singer, ICML 2004).
    """
    photos = len(table["pixels"])
    weights = np.ones((1, photos)) if weights is None else weights
    # In float64 once and for all, as sums of counts are not to wrap.
    counts = {key: np.asarray(values, np.float64) for key, values in table.items()}
    totals = {key: weights @ values for key, values in counts.items()}
    pixels = totals["truth"][:, [*hierarchy.roots, -1]].sum(1)  # that are not void
    found = {
        "violations": _ratio(totals["broken"][:, 0], totals["pixels"]),
        "broken_edges": _ratio(totals["broken"][:, 1], totals["broken"][:, 0]),
    }
    for number, level in enumerate(hierarchy.levels):
        found[f"brier/{level}"] = _ratio(totals["squared_error"][:, number], pixels)
    sizes = {name: weights * members for name, members in _sizes(counts, hierarchy).items()}
    for decoding in decodings(table):
        wrong, missed = (f"{decoding}/false_{kind}" for kind in ("positives", "negatives"))
        ious = _iou(totals["truth"], totals[wrong], totals[missed])
        for node, name in enumerate(hierarchy.nodes):
            found[f"{decoding}/node_iou/{name}"] = ious[:, node]
        found[f"{decoding}/node_iou/background"] = ious[:, -1]
        of_photos = _iou(*(counts[key] for key in ("truth", wrong, missed)), _SMOOTHING)
        per_photo = weights @ of_photos / weights.sum(1, keepdims=True)
        of_size = {
            size: _iou(*(drawn @ counts[key] for key in ("truth", wrong, missed))) for size, drawn in sizes.items()
        }
        for level, nodes in hierarchy.levels.items():
            members = list(nodes)
            found[f"{decoding}/iou/{level}"] = _mean_of_present(ious[:, members])
            found[f"{decoding}/iou_with_background/{level}"] = _mean_of_present(ious[:, [*members, -1]])
            for size, values in of_size.items():
                found[f"{decoding}/iou/{level}/{size}"] = _mean_of_present(values[:, members])
            found[f"{decoding}/photo_iou/{level}"] = per_photo[:, members].mean(1)
        kinds = [f"{decoding}/boundary_false_{kind}" for kind in ("positives", "negatives")]
        if kinds[0] in table:
            near = _iou(totals["boundary"], *(totals[kind] for kind in kinds))
            for level, nodes in hierarchy.levels.items():
                found[f"{decoding}/boundary_iou/{level}"] = _mean_of_present(near[:, list(nodes)])
        right = totals[f"{decoding}/right"]
        found[f"{decoding}/full_path_accuracy"] = _ratio(right, pixels)
        found[f"{decoding}/tree_distance"] = _ratio((totals[wrong] + totals[missed])[:, :-1].sum(1), pixels - right)
    return found


def decodings(table: Table) -> list[str]:
    """Return the names of the decodings of a table."""
    return [key.partition("/")[0] for key in table if key.endswith("/right")]


def over_seeds(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the mean over seeds with Student's t interval.

    Args:
        values: A figure of the run of each seed.
        confidence: How often such an interval holds the true mean, where runs scatter normally.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, float("nan"), float("nan"))
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    reach = float(scipy.stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return Interval(mean, mean - reach, mean + reach)


def paired_bootstrap(
    first: Sequence[Table],
    second: Sequence[Table],
    hierarchy: Hierarchy,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Return by how much the figures of one loss exceed those of another, and how much of that the photos make.

    Photos are drawn with replacement, the same for every run; a loss has the mean over its runs. The interval lies
    between percentiles (Efron and Tibshirani, 1993): it tells how other photos, not how other seeds, would turn out.

    Args:
        first: The tables of the runs of one loss, one a seed.
        second: Those of the other.
        hierarchy: The tree.
        resamples: How often to draw.
        seed: Of the drawing.
        confidence: Share of the drawings inside the interval.

    Returns:
        For each figure that both have the difference, first less second.

    Raises:
        ValueError: The tables are not of the same photos.
    """
    truth = first[0]["truth"]
    if not all(np.array_equal(table["truth"], truth) for table in (*first, *second)):
        raise ValueError("The tables are not of the same photos.")
    photos = len(truth)
    drawn = np.random.default_rng(seed).multinomial(photos, np.full(photos, 1 / photos), resamples)
    weights = np.concatenate([np.ones((1, photos)), drawn])  # the photos as they are come first
    of_first, of_second = (_mean_figures(tables, hierarchy, weights) for tables in (first, second))
    tails = (0.5 - confidence / 2, 0.5 + confidence / 2)
    intervals = {}
    for key in of_first:
        if key in of_second:
            estimate, *others = of_first[key] - of_second[key]
            present = [value for value in others if not np.isnan(value)]
            low, high = np.quantile(present, tails) if present else (np.nan, np.nan)
            intervals[key] = Interval(float(estimate), float(low), float(high))
    return intervals


def _mean_figures(tables: Iterable[Table], hierarchy: Hierarchy, weights: Values) -> dict[str, Values]:
    runs = [figures(table, hierarchy, weights) for table in tables]
    return {key: np.mean([run[key] for run in runs], axis=0) for key in runs[0]}


def _sizes(counts: Table, hierarchy: Hierarchy) -> dict[str, npt.NDArray[np.bool_]]:
    """Return for each class of person size which photos are of it."""
    shares = counts["truth"][:, list(hierarchy.roots)].sum(1) / counts["pixels"]
    classes = np.searchsorted(list(PERSON_SIZES.values()), shares, side="right") - 1
    return {name: classes == number for number, name in enumerate(PERSON_SIZES)}


def _iou(truth: Values, wrong: Values, missed: Values, smoothing: float = 0.0) -> Values:
    """Return intersection over union from true pixels, false positives and false negatives."""
    return _ratio(truth - missed + smoothing, truth + wrong + smoothing)


def _ratio(part: Values, whole: Values) -> Values:
    """Divide; nan where there is nothing to divide by."""
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _mean_of_present(values: Values) -> Values:
    """Return the mean over the last axis of what is not nan; nan where there is nothing else."""
    present = ~np.isnan(values)
    return _ratio(np.where(present, values, 0).sum(-1), present.sum(-1).astype(np.float64))
