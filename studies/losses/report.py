"""The report of the loss comparison: `python -m studies.losses report` fills figures into losses.md and draws its plot.

The sentences of losses.md are written by hand. A mark names a figure and the claim that the sentence makes, as in
`<!-- report: tree parts lower -->`: the figure exists only while its interval lies below zero, so that no sentence
outlives its results. See `figures_of` for the names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from hierseg import files
from hierseg.metrics import Values
from hierseg.tree import Hierarchy
from studies.losses import plots
from studies.losses.rows import FIRST, PREDECESSOR, ROWS, TITLES, plan
from studies.losses.statistics import Contrast, Interval, Table, TwoWay, drawings, figures, read_table
from studies.losses.steps import AGAIN, ALL, STEPS, Run, minutes
from train.recipe import Recipe, RecipeError
from train.report import ReportError, fill, markdown, percent, short

# Two losses with the tree and two with focus, crossed: the effects of a 2 x 2 factorial.
EFFECTS: dict[str, Contrast] = {
    "tree": {"tree_min": 0.5, "focal_tree_min": 0.5, "bce": -0.5, "focal": -0.5},
    "focus": {"focal": 0.5, "focal_tree_min": 0.5, "bce": -0.5, "tree_min": -0.5},
    "interaction": {"focal_tree_min": 1, "bce": 1, "focal": -1, "tree_min": -1},
}
PAIRS = (  # of the first table of pairs; those of `steps` follow in another
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
    """All results: the figures of each run, for each of the `drawings` of photos."""

    tree: Hierarchy
    runs: Mapping[Run, Mapping[str, Values]]

    @staticmethod
    def read(folder: Path, recipe: Recipe, resamples: int = 2000) -> Comparison:
        """Read the results of the grid.

        Args:
            folder: Holds ROW-SEED.json and ROW-SEED.npz of each run; a run that lacks one of them is not done.
            recipe: What all runs share.
            resamples: Number of drawings for intervals over photos.

        Raises:
            ReportError: There is no result; or one cannot be read, does not have its row's recipe, or differs from the
                others in data or protocol.
        """
        tree = recipe.tree()
        paths = [path for path in sorted(folder.glob("*.json")) if path.with_suffix(".npz").is_file()]
        opened = {path: _opened(path, recipe) for path in paths if path.stem.rpartition("-")[0] in ROWS}
        if not opened:
            raise ReportError(f"{folder} has no results; python -m studies.losses sweep makes them.")
        (first, _, photos), *_ = opened.values()
        weights = drawings(len(photos["truth"]), resamples)
        runs = {}
        for path, (shared, errors, table) in opened.items():
            if shared != first or not np.array_equal(table["truth"], photos["truth"]):
                raise ReportError(f"{path} has another protocol or other photos than {next(iter(opened))}.")
            ece = {f"ece/{level}": np.full(len(weights), value) for level, value in errors.items()}
            row, _, seed = path.stem.rpartition("-")
            runs[row, int(seed)] = {**figures(table, tree, weights), **ece}
        return Comparison(tree, runs)

    @property
    def rows(self) -> list[str]:
        """Rows that have a run."""
        return [row for row in ROWS if any(row == of for of, _ in self.runs)]

    @property
    def older(self) -> set[Run]:
        """Runs whose results lack the newer measures."""
        return {run for run, values in self.runs.items() if "hedged/risk" not in values}

    def mean(self, row: str, measure: str) -> float:
        """Return a measure's mean over the seeds of a row, see `TwoWay.mean`; nan if it was not measured."""
        model = self.models.get(measure)
        return model.mean(row) if model and row in model.rows else np.nan

    @property
    def measures(self) -> dict[str, str]:
        """The measures: their names in marks, and their keys in the figures."""
        finest = list(self.tree.levels)[-1]
        domains = {key.partition("/")[0] for values in self.runs.values() for key in values if key.endswith("/person")}
        return {
            **{level: f"path/iou/{level}" for level in self.tree.levels},
            "violations": "violations",
            "cost": "path/tree_cost",
            "ece": f"ece/{finest}",
            "brier": f"brier/{finest}",
            "boundary": f"path/boundary_iou/{finest}",
            "broken_person": "violations_of_person/median",
            "broken_person_mean": "violations_of_person/mean",
            "risk": "hedged/risk",
            **{f"named_{level}": f"hedged/{level}" for level in self.tree.levels},
            **{
                f"{domain}_{level}": f"{domain}/iou/{level}" for domain in sorted(domains) for level in self.tree.levels
            },
            **{f"{domain}_false": f"{domain}/person" for domain in sorted(domains)},
        }

    @cached_property
    def models(self) -> dict[str, TwoWay]:
        """The model of each measure that some run has, over these runs."""
        found = {}
        for measure, key in self.measures.items():
            measured = {run: values[key] for run, values in self.runs.items() if key in values}
            measured = {run: values for run, values in measured.items() if not np.isnan(values[0])}
            if measured:
                found[measure] = TwoWay(list(measured), np.stack(list(measured.values())))
        return found

    @cached_property
    def contrasts(self) -> dict[str, Contrast]:
        """The effects and pairs whose rows have results, by their names in marks."""
        of_steps = [pair for step in STEPS for pair in step.pairs]
        pairs = {f"{first}-{second}": {first: 1.0, second: -1.0} for first, second in (*PAIRS, *of_steps)}
        return {name: contrast for name, contrast in (EFFECTS | pairs).items() if set(contrast) <= set(self.rows)}

    def interval(self, name: str, level: str) -> Interval:
        """Return a contrast in IoU. Effects on all levels are one family, pairs on all levels another."""
        model, levels = self.models[level], len(self.tree.levels)
        if name in EFFECTS:
            return model.planned(EFFECTS[name], len(EFFECTS) * levels)
        return model.pairwise(self.contrasts[name], levels)


def write(results: Path, folder: Path, protocol: Path, recipe: Path, resamples: int = 2000) -> None:
    """Fill in the figures of the report and draw its plot.

    Args:
        results: Folder of the results.
        folder: Folder of losses.md and the plot.
        protocol: Written by `python -m studies.predecessor evaluate --json`.
        recipe: What all runs share.
        resamples: See `Comparison.read`.

    Raises:
        ReportError: See `Comparison.read` and `train.report.fill`; or the text or the protocol cannot be read.
        RecipeError: The recipe cannot be read.
    """
    comparison = Comparison.read(results, Recipe.from_yaml(recipe), resamples)
    try:
        text = (folder / "losses.md").read_text(encoding="utf-8")
        of_predecessor = json.loads(protocol.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReportError(f"The report or the figures by the predecessor's protocol cannot be read: {error}") from error
    filled = fill(text, {**tables(comparison), "protocol": _protocol(of_predecessor), **figures_of(comparison)})
    files.write_atomically(folder / "losses.svg", plot(comparison))
    files.write_atomically(folder / "losses.md", filled.encode())


def figures_of(comparison: Comparison) -> dict[str, str]:
    """Return every figure that a sentence can hold, by name.

    - "MEASURE ROW": mean over a row's seeds of one of `Comparison.measures`.
    - "CONTRAST LEVEL VERDICT": difference in IoU, in points, with its interval in its family. A contrast is one of
      `EFFECTS`, or ROW-ROW for a pair of `PAIRS` or `steps`. Of the verdicts of `Interval.verdict`, only the true one
      exists.
    - "CONTRAST LEVEL": the same without a claim.
    - "CONTRAST MEASURE alone VERDICT": difference in hundredths, with the interval of `TwoWay.unpooled`.
    - "CONTRAST LEVEL photos VERDICT": difference in IoU with the interval of `TwoWay.photos`.
    - "count runs", "count rows", "count pairs", "count degrees": of the model of the IoU.

    A figure without results says how many minutes it takes, and has no verdict.
    """
    levels, models = comparison.tree.levels, comparison.models
    rows = len(comparison.rows)
    found = {
        "count runs": str(len(comparison.runs)),
        "count rows": str(rows),
        "count pairs": str(rows * (rows - 1) // 2),
        "count degrees": str(next(iter(models.values())).degrees),
    }
    for row in ROWS:
        left = [run for run in ALL if run[0] == row and (row not in comparison.rows or run in comparison.older)]
        for measure in comparison.measures:
            value = comparison.mean(row, measure)
            not_yet = f"not measured yet ({minutes(left)} minutes)"
            found[f"{measure} {row}"] = not_yet if left and np.isnan(value) else _written(measure, value)
    for name, contrast in comparison.contrasts.items():
        told = {of: model for of, model in models.items() if set(contrast) <= set(model.rows)}
        intervals = {f"{measure} alone": model.unpooled(contrast) for measure, model in told.items()}
        intervals |= {f"{level} photos": models[level].photos(contrast) for level in levels}
        intervals |= {level: comparison.interval(name, level) for level in levels}
        found |= {f"{name} {of} {interval.verdict}": _bracketed(interval) for of, interval in intervals.items()}
        found |= {f"{name} {level}": _bracketed(intervals[level]) for level in levels}
    for step in STEPS:
        for first, second in step.pairs:
            for level in levels if not {first, second} <= set(comparison.rows) else ():
                found[f"{first}-{second} {level}"] = _not_run(step.left(comparison.runs))
    return found


def tables(comparison: Comparison) -> dict[str, str]:
    """Return the tables by name.

    "effects" and "pairs" with intervals; "losses", "people" and "domains" with means of all rows; and "steps" with the
    questions that are left, and their answers or minutes.
    """
    levels = list(comparison.tree.levels)

    def intervals(names: Mapping[str, str]) -> str:
        rows = [
            [title, *(_bold(comparison.interval(name, level)) for level in levels)]
            for name, title in names.items()
            if name in comparison.contrasts
        ]
        return markdown(["points of IoU", *levels], rows)

    def means(columns: Mapping[str, str]) -> str:
        measured = {row: [comparison.mean(row, measure) for measure in columns] for row in comparison.rows}
        rows = [
            [TITLES[row], *map(_written, columns, values)]
            for row, values in measured.items()
            if not np.isnan(values).all()
        ]
        again = [run for run in ALL if run in comparison.older]
        return (
            markdown(["loss", *columns.values()], rows) if rows else f"*Not measured yet ({minutes(again)} minutes).*"
        )

    finest = levels[-1]
    domains: dict[str, str] = {}
    for domain in sorted(name.removesuffix("_false") for name in comparison.models if name.endswith("_false")):
        named = {f"{domain}_{level}": f"{domain}: IoU, {level}" for level in (levels[0], finest)}
        named = {name: title for name, title in named.items() if name in comparison.models}
        domains |= named or {f"{domain}_false": f"{domain}: pixels called a person"}
    return {
        "effects": intervals({"tree": "tree", "focus": "focus", "interaction": "tree x focus"}),
        "pairs": intervals({f"{one}-{other}": f"{TITLES[one]} minus {TITLES[other]}" for one, other in PAIRS}),
        "losses": means(
            {
                **{level: f"IoU, {level}" for level in levels},
                "violations": "pixels that break the tree",
                "cost": "tree distance",
                **{
                    name: f"{title}, {finest}"
                    for name, title in {"ece": "ECE", "brier": "Brier", "boundary": "boundary IoU"}.items()
                },
            }
        ),
        "people": means(
            {
                "broken_person": "person's pixels that break the tree, median photo",
                "broken_person_mean": "the same, mean",
                "risk": "wrong name",
                **{f"named_{level}": f"stop at {level}" for level in reversed(levels)},
            }
        ),
        "domains": means(domains),
        "steps": _steps(comparison),
    }


def _steps(comparison: Comparison) -> str:
    """Lay out the question of each step, and its answer or its minutes."""
    finest = list(comparison.tree.levels)[-1]
    rows = []
    for step in STEPS:
        left = step.left(comparison.runs)
        for number, (first, second) in enumerate(step.pairs):
            told = _not_run(left) if left else _bold(comparison.interval(f"{first}-{second}", finest))
            rows.append([step.tells if not number else "", f"{TITLES[first]} minus {TITLES[second]}", told])
    if again := [run for run in ALL if run in comparison.older]:
        rows.append([AGAIN, "", _not_run(again)])
    return markdown(["what it tells", "difference", f"points of IoU, {finest}"], rows)


def plot(comparison: Comparison) -> bytes:
    """Draw each loss minus BCE on each level; the intervals are of the family of all pairs."""
    levels = comparison.tree.levels
    others = {
        TITLES[row]: {level: comparison.models[level].pairwise({row: 1, "bce": -1}, len(levels)) for level in levels}
        for row in comparison.rows
        if row in FIRST and row != "bce"
    }
    return plots.differences(others, TITLES["bce"])


def _protocol(of_predecessor: Mapping[str, Any]) -> str:
    """Lay out the predecessor's published figures above those of our checkpoints by its protocol."""
    rows = [
        ["the predecessor, BCE, 707 photos", ".651", ".546", ".407"],
        ["the predecessor, Focal-Tree-Min, 707 photos", ".659", ".550", ".416"],
    ]
    for name, entry in of_predecessor.items():
        rows.append([f"our {name}, {entry['photos']} photos", *(short(value) for value in entry["levels"].values())])
    return markdown(["", *next(iter(of_predecessor.values()))["levels"]], rows)


def _opened(path: Path, recipe: Recipe) -> tuple[dict[str, Any], dict[str, float], Table]:
    """Return a run's data and protocol, its ECE by level, and its counts."""
    row, _, seed = path.stem.rpartition("-")
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        found, wanted = Recipe.from_dict(result["recipe"], str(path)), plan(recipe, row, int(seed))
        shared = {"data": result["data"], "protocol": result["protocol"]}
        errors, table = result["calibration_error"]["all_pixels"], read_table(path.with_suffix(".npz"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BadZipFile, RecipeError) as error:
        raise ReportError(f"{path} or its .npz is damaged ({error}).") from error
    if found != wanted:
        raise ReportError(f"{path} does not have the recipe of its row.")
    return shared, errors, table


def _not_run(runs: Sequence[Run]) -> str:
    return f"not run yet ({minutes(runs)} minutes)"


def _bracketed(interval: Interval) -> str:
    estimate, low, high = (f"{100 * value:+.2f}" for value in (interval.estimate, interval.low, interval.high))
    return f"{estimate} [{low}, {high}]"


def _bold(interval: Interval) -> str:
    return _bracketed(interval) if interval.verdict == "open" else f"**{_bracketed(interval)}**"


def _written(measure: str, value: float) -> str:
    if np.isnan(value):
        return "not measured"
    if measure.startswith(("violations", "broken")) or measure.endswith("_false"):
        return percent(value)
    return f"{value:.4f}".removeprefix("0") if measure in ("ece", "brier") else short(value)
