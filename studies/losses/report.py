"""The report of the loss comparison: `python -m studies.losses report` sets figures into losses.md and draws its plot.

The sentences of losses.md are written by hand. A figure stands between marks that name it and what it is said to show,
as in `<!-- report: tree parts lower -->`: there is such a figure only while the interval lies below zero, so that a
sentence cannot outlive the results it was written about. See `figures_of` for the names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from hierseg.metrics import Values
from hierseg.network import checkpoint
from hierseg.tree import Hierarchy
from studies.losses import plots
from studies.losses.rows import PREDECESSOR, ROWS, TITLES
from studies.losses.statistics import Contrast, Interval, Table, TwoWay, drawings, figures, read_table
from train.report import ReportError, fill, markdown, percent, short

# Two losses with the tree and two with focus, crossed: the effects of a 2 x 2 factorial.
EFFECTS: dict[str, Contrast] = {
    "tree": {"tree_min": 0.5, "focal_tree_min": 0.5, "bce": -0.5, "focal": -0.5},
    "focus": {"focal": 0.5, "focal_tree_min": 0.5, "bce": -0.5, "tree_min": -0.5},
    "interaction": {"focal_tree_min": 1, "bce": 1, "focal": -1, "tree_min": -1},
}
PAIRS = (
    ("tree_min", "bce"),
    ("focal_tree_min", "focal"),
    ("focal", "bce"),
    ("focal_tree_min", "tree_min"),
    ("focal_tree_min", "bce"),
    ("level_cross_entropy", "bce"),
    ("leaf_cross_entropy", "bce"),
    ("leaf_cross_entropy", "level_cross_entropy"),
    ("focal_tree_min", PREDECESSOR),
    ("focal_tree_min_triplet", "focal_tree_min"),
)


@dataclass(frozen=True)
class Comparison:
    """All runs that are there: figures by row and seed, each under every row of `drawings`."""

    tree: Hierarchy
    runs: Mapping[tuple[str, int], Mapping[str, Values]]

    @staticmethod
    def read(folder: Path, tree: Hierarchy, resamples: int = 2000) -> Comparison:
        """Read the results of the grid.

        Args:
            folder: Of ROW-SEED.json and ROW-SEED.npz; a run that lacks one of them is not done.
            tree: The tree.
            resamples: How often photos are drawn for intervals over photos.

        Raises:
            ReportError: There is no result, one cannot be read, or two are not of the same data and protocol.
        """
        paths = [path for path in sorted(folder.glob("*.json")) if path.with_suffix(".npz").is_file()]
        opened = {path: _opened(path) for path in paths if path.stem.rpartition("-")[0] in ROWS}
        if not opened:
            raise ReportError(f"{folder} has no results; make some with python -m studies.losses sweep.")
        (_, _, first, photos), *_ = opened.values()
        weights = drawings(len(photos["truth"]), resamples)
        runs = {}
        for path, (seed, errors, shared, table) in opened.items():
            if shared != first or not np.array_equal(table["truth"], photos["truth"]):
                raise ReportError(f"{path} is of another recipe, protocol or photos than {next(iter(opened))}.")
            ece = {f"ece/{level}": np.full(len(weights), value) for level, value in errors.items()}
            runs[path.stem.rpartition("-")[0], seed] = {**figures(table, tree, weights), **ece}
        return Comparison(tree, runs)

    @property
    def rows(self) -> list[str]:
        """Rows that have a run."""
        return [row for row in ROWS if any(row == of for of, _ in self.runs)]

    def mean(self, row: str, measure: str) -> float:
        """Return a measure's mean over the seeds of a row."""
        key = self.measures[measure]
        return float(np.mean([values[key][0] for (of, _), values in self.runs.items() if of == row]))

    @property
    def measures(self) -> dict[str, str]:
        """What rows are compared in, by the name it has in marks: keys of the figures."""
        finest = list(self.tree.levels)[-1]
        return {
            **{level: f"path/iou/{level}" for level in self.tree.levels},
            "violations": "violations",
            "cost": "path/tree_cost",
            "ece": f"ece/{finest}",
            "brier": f"brier/{finest}",
            "boundary": f"path/boundary_iou/{finest}",
        }

    @cached_property
    def models(self) -> dict[str, TwoWay]:
        """The model of each measure over all runs."""
        return {
            measure: TwoWay(list(self.runs), np.stack([values[key] for values in self.runs.values()]))
            for measure, key in self.measures.items()
        }

    @cached_property
    def contrasts(self) -> dict[str, Contrast]:
        """The effects and pairs whose rows are there, by the name they have in marks."""
        pairs = {f"{first}-{second}": {first: 1.0, second: -1.0} for first, second in PAIRS}
        return {name: contrast for name, contrast in (EFFECTS | pairs).items() if set(contrast) <= set(self.rows)}

    def interval(self, name: str, level: str) -> Interval:
        """Return a contrast of the IoU of a level; all effects on all levels are one family, all pairs another."""
        model, levels = self.models[level], len(self.tree.levels)
        if name in EFFECTS:
            return model.planned(EFFECTS[name], len(EFFECTS) * levels)
        return model.pairwise(self.contrasts[name], levels)


def write(results: Path, folder: Path, protocol: Path, resamples: int = 2000) -> None:
    """Set the figures of the report anew and draw its plot.

    Args:
        results: The grid's results.
        folder: Of losses.md, and for the plot.
        protocol: What `python -m studies.predecessor evaluate --json` wrote.
        resamples: See `Comparison.read`.

    Raises:
        ReportError: See `Comparison.read` and `train.report.fill`; or the text or the protocol cannot be read.
    """
    comparison = Comparison.read(results, Hierarchy.default(), resamples)
    try:
        text = (folder / "losses.md").read_text(encoding="utf-8")
        of_predecessor = json.loads(protocol.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReportError(f"The report or the figures by the predecessor's protocol cannot be read: {error}") from error
    filled = fill(text, {**tables(comparison), "protocol": _protocol(of_predecessor), **figures_of(comparison)})
    checkpoint.write_atomically(folder / "losses.svg", plot(comparison))
    checkpoint.write_atomically(folder / "losses.md", filled.encode())


def figures_of(comparison: Comparison) -> dict[str, str]:
    """Return every figure that a sentence can hold, by name.

    - "MEASURE ROW": the mean over a row's seeds of one of `Comparison.measures`.
    - "CONTRAST LEVEL VERDICT": a difference of IoU in points, with its interval in its family. A contrast is one of
      `EFFECTS`, or ROW-ROW for one of `PAIRS`. Verdicts are those of `Interval.verdict`; only the true one is there.
    - "CONTRAST MEASURE alone VERDICT": a difference in hundredths, with the interval of `TwoWay.unpooled`.
    - "CONTRAST LEVEL photos VERDICT": the same with the interval of `TwoWay.photos`.
    """
    measures, levels = comparison.measures, comparison.tree.levels
    found = {
        f"{measure} {row}": _written(measure, comparison.mean(row, measure))
        for measure in measures
        for row in comparison.rows
    }
    for name, contrast in comparison.contrasts.items():
        intervals = {f"{measure} alone": comparison.models[measure].unpooled(contrast) for measure in measures}
        intervals |= {f"{level} photos": comparison.models[level].photos(contrast) for level in levels}
        intervals |= {level: comparison.interval(name, level) for level in levels}
        found |= {f"{name} {of} {interval.verdict}": _bracketed(interval) for of, interval in intervals.items()}
    return found


def tables(comparison: Comparison) -> dict[str, str]:
    """Return the tables by name: the effects, the pairs, and the means of all rows."""
    levels = list(comparison.tree.levels)

    def intervals(names: Mapping[str, str]) -> str:
        rows = [
            [title, *(_bold(comparison.interval(name, level)) for level in levels)]
            for name, title in names.items()
            if name in comparison.contrasts
        ]
        return markdown(["points of IoU", *levels], rows)

    finest = levels[-1]
    header = ["loss", *(f"IoU, {level}" for level in levels), "pixels that break the tree", "tree distance"]
    means = [
        [TITLES[row], *(_written(measure, comparison.mean(row, measure)) for measure in comparison.measures)]
        for row in comparison.rows
    ]
    return {
        "effects": intervals({"tree": "tree", "focus": "focus", "interaction": "tree x focus"}),
        "pairs": intervals({f"{one}-{other}": f"{TITLES[one]} minus {TITLES[other]}" for one, other in PAIRS}),
        "losses": markdown([*header, *(f"{name}, {finest}" for name in ("ECE", "Brier", "boundary IoU"))], means),
    }


def plot(comparison: Comparison) -> bytes:
    """Draw how far each loss is from BCE on each level; the intervals are of the family of all pairs."""
    levels = comparison.tree.levels
    others = {
        TITLES[row]: {level: comparison.models[level].pairwise({row: 1, "bce": -1}, len(levels)) for level in levels}
        for row in comparison.rows
        if row != "bce"
    }
    return plots.differences(others, TITLES["bce"])


def _protocol(of_predecessor: Mapping[str, Any]) -> str:
    """Lay out what the predecessor published above our checkpoints by its own protocol."""
    rows = [
        ["the predecessor, BCE, 707 photos", ".651", ".546", ".407"],
        ["the predecessor, Focal-Tree-Min, 707 photos", ".659", ".550", ".416"],
    ]
    for name, entry in of_predecessor.items():
        rows.append([f"our {name}, {entry['photos']} photos", *(short(value) for value in entry["levels"].values())])
    return markdown(["", *next(iter(of_predecessor.values()))["levels"]], rows)


def _opened(path: Path) -> tuple[int, dict[str, float], dict[str, Any], Table]:
    """Return a run's seed, its ECE by level, what runs must share to be compared, and its counts."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        recipe = {key: value for key, value in result["recipe"].items() if key not in ("loss", "seed", "triplet")}
        recipe["model"] = {key: value for key, value in recipe["model"].items() if key != "activation"}
        shared = {"recipe": recipe, "data": result["data"], "protocol": result["protocol"]}
        errors = result["calibration_error"]["all_pixels"]
        return result["recipe"]["seed"], errors, shared, read_table(path.with_suffix(".npz"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BadZipFile) as error:
        raise ReportError(f"{path} or its .npz is damaged ({error}).") from error


def _bracketed(interval: Interval) -> str:
    estimate, low, high = (f"{100 * value:+.2f}" for value in (interval.estimate, interval.low, interval.high))
    return f"{estimate} [{low}, {high}]"


def _bold(interval: Interval) -> str:
    return _bracketed(interval) if interval.verdict == "open" else f"**{_bracketed(interval)}**"


def _fine(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def _written(measure: str, value: float) -> str:
    return {"violations": percent, "ece": _fine, "brier": _fine}.get(measure, short)(value)
