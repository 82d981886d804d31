"""Figures of the loss comparison from counts of each photo, and how sure they are.

A table is what `hierseg.metrics.PhotoCounts` keeps of one run. Every figure is a ratio of sums over photos, or a mean
over photos, so one function gives it for the photos as they are and for any drawing of them, as weights.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats

from hierseg.metrics import PERSON_SIZES
from hierseg.network import checkpoint
from hierseg.tree import Hierarchy

Table = Mapping[str, npt.NDArray[Any]]
Values = npt.NDArray[np.float64]

_SMOOTHING = 1e-8  # the predecessor's, see `hierseg.metrics.SeedIoU`


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
        - photo_iou/LEVEL: the predecessor's, see `hierseg.metrics.SeedIoU`;
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
    totals = _sums(counts, weights)
    pixels = totals["truth"][:, [*hierarchy.roots, -1]].sum(1)  # that are not void
    found = {
        "violations": _ratio(totals["broken"][:, 0], totals["pixels"]),
        "broken_edges": _ratio(totals["broken"][:, 1], totals["broken"][:, 0]),
    }
    for number, level in enumerate(hierarchy.levels):
        found[f"brier/{level}"] = _ratio(totals["squared_error"][:, number], pixels)
    sizes = {
        name: _sums({key: values[members] for key, values in counts.items()}, weights[:, members])
        for name, members in person_sizes(counts, hierarchy).items()
    }
    for decoding in decodings(table):
        wrong, missed = (f"{decoding}/false_{kind}" for kind in ("positives", "negatives"))
        ious = _iou(totals["truth"], totals[wrong], totals[missed])
        for node, name in enumerate(hierarchy.nodes):
            found[f"{decoding}/node_iou/{name}"] = ious[:, node]
        found[f"{decoding}/node_iou/background"] = ious[:, -1]
        of_photos = _iou(counts["truth"], counts[wrong], counts[missed], _SMOOTHING)
        per_photo = weights @ of_photos / weights.sum(1, keepdims=True)
        of_size = {size: _iou(sums["truth"], sums[wrong], sums[missed]) for size, sums in sizes.items()}
        for level, nodes in hierarchy.levels.items():
            members = list(nodes)
            found[f"{decoding}/iou/{level}"] = _mean_of_present(ious[:, members])
            found[f"{decoding}/iou_with_background/{level}"] = _mean_of_present(ious[:, [*members, -1]])
            for size, values in of_size.items():
                found[f"{decoding}/iou/{level}/{size}"] = _mean_of_present(values[:, members])
            found[f"{decoding}/photo_iou/{level}"] = per_photo[:, members].mean(1)
        beside, short = (f"{decoding}/boundary_false_{kind}" for kind in ("positives", "negatives"))
        if beside in table:
            near = _iou(totals["boundary"], totals[beside], totals[short])
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


def drawings(photos: int, resamples: int = 2000, seed: int = 0) -> Values:
    """Return how often each photo counts, shape (1 + resamples, photos): first as they are, then drawn anew.

    Figures of two runs under the same drawings, subtracted, are a paired bootstrap (Efron and Tibshirani, 1993): their
    percentiles tell how other photos, not how other seeds, would turn out.
    """
    drawn = np.random.default_rng(seed).multinomial(photos, np.full(photos, 1 / photos), resamples)
    return np.concatenate([np.ones((1, photos)), drawn])


def over_drawings(values: Values, confidence: float = 0.95) -> Interval:
    """Return the first of some values, with the percentiles of the others around it; those that are nan are left out.

    Args:
        values: A figure, or a difference of two, under each row of `drawings`.
        confidence: Share of the drawings inside the interval.
    """
    others = values[1:][~np.isnan(values[1:])]
    low, high = np.quantile(others, (0.5 - confidence / 2, 0.5 + confidence / 2)) if len(others) else (np.nan, np.nan)
    return Interval(float(values[0]), float(low), float(high))


def _sums(counts: Table, weights: Values) -> dict[str, Values]:
    """Return weighted sums over photos; one product of all columns is several times as fast as one for each key."""
    widths = [1 if values.ndim == 1 else values.shape[1] for values in counts.values()]
    parts = np.split(weights @ np.column_stack(list(counts.values())), np.cumsum(widths)[:-1], axis=1)
    return {key: part.reshape(len(weights), *counts[key].shape[1:]) for key, part in zip(counts, parts, strict=True)}


def person_sizes(table: Table, hierarchy: Hierarchy) -> dict[str, npt.NDArray[np.bool_]]:
    """Return for each class of person size which photos are of it."""
    shares = table["truth"][:, list(hierarchy.roots)].sum(1) / table["pixels"]
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
