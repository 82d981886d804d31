"""The report of the loss comparison: `python -m studies.losses report` writes `losses.md` and its plots.

Everything in it is made from the results that `python -m studies.losses sweep` left, also its sentences: a difference
counts as shown only where its interval over photos and its interval over seeds both exclude zero.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from hierseg.network import checkpoint
from hierseg.tree import Hierarchy
from studies.losses import plots
from studies.losses.rows import PREDECESSOR, ROWS, TITLES
from studies.losses.statistics import (
    Interval,
    Table,
    Values,
    drawings,
    figures,
    over_drawings,
    over_seeds,
    person_sizes,
    read_table,
)
from train.report import ReportError, markdown, percent, short

SEEDS = (0, 1, 2)

Pair = tuple[str, str]  # rows of the grid; the first is compared with the second

_TREE: tuple[Pair, ...] = (("tree_min", "bce"), ("focal_tree_min", "focal"))  # equal but for the tree
_FOCUS: tuple[Pair, ...] = (("focal", "bce"), ("focal_tree_min", "tree_min"))  # equal but for the focus
_EXACT: Pair = ("focal_tree_min", PREDECESSOR)
_TRIPLET: Pair = ("focal_tree_min_triplet", "focal_tree_min")
_SIGMOID = ("bce", "focal", "tree_min", "focal_tree_min", PREDECESSOR)
_LEAVES: tuple[Pair, ...] = tuple(("leaf_cross_entropy", loss) for loss in _SIGMOID)


@dataclass(frozen=True)
class Run:
    """What the grid left of one run: its JSON file, its counts, and its figures under each row of `drawings`."""

    result: Mapping[str, Any]
    table: Table
    values: Mapping[str, Values]


@dataclass(frozen=True)
class Difference:
    """By how much one loss exceeds another, mean over the seeds that both have, and how sure that is."""

    photos: Interval
    seeds: Interval
    runs: int

    @property
    def sign(self) -> int:
        """1 or -1 where both intervals exclude zero, else 0."""
        signs = {_sign(self.photos), _sign(self.seeds)}
        return signs.pop() if len(signs) == 1 else 0

    @property
    def verdict(self) -> str:
        """Whether the difference is shown; if not, what is in the way."""
        if self.sign:
            return "shown"
        if self.runs < 2:
            return "not shown by one seed"
        doubts = [name for name, interval in (("photos", self.photos), ("seeds", self.seeds)) if not _sign(interval)]
        return f"not shown: the interval over {doubts[0]} includes zero" if len(doubts) == 1 else "not shown"


@dataclass(frozen=True)
class Comparison:
    """All runs of the grid that are there, by row and seed, in the order of `rows.ROWS`."""

    tree: Hierarchy
    runs: Mapping[str, Mapping[int, Run]]

    @staticmethod
    def read(folder: Path, tree: Hierarchy, resamples: int = 2000) -> Comparison:
        """Read the results of the grid.

        Args:
            folder: Of ROW-SEED.json and ROW-SEED.npz; a run that lacks one of them is not done.
            tree: The tree.
            resamples: How often photos are drawn for intervals.

        Raises:
            ReportError: There is no result, one cannot be read, or two are not of the same data and protocol.
        """
        paths = [path for path in sorted(folder.glob("*.json")) if path.with_suffix(".npz").is_file()]
        opened = {path: _opened(path) for path in paths if path.stem.rpartition("-")[0] in ROWS}
        if not opened:
            raise ReportError(f"{folder} has no results; make some with python -m studies.losses sweep.")
        (_, _, first, photos), *_ = opened.values()
        weights = drawings(len(photos["truth"]), resamples)
        found: dict[str, dict[int, Run]] = {row: {} for row in ROWS}
        for path, (seed, result, shared, table) in opened.items():
            if shared != first or not np.array_equal(table["truth"], photos["truth"]):
                raise ReportError(f"{path} is of another recipe, protocol or photos than {next(iter(opened))}.")
            errors = result["calibration_error"]["all_pixels"]
            ece = {f"ece/{level}": np.array([value], np.float64) for level, value in errors.items()}
            found[path.stem.rpartition("-")[0]][seed] = Run(result, table, {**figures(table, tree, weights), **ece})
        return Comparison(tree, {row: dict(sorted(runs.items())) for row, runs in found.items() if runs})

    @cached_property
    def any_run(self) -> Run:
        """Any run, for what all have in common."""
        return next(iter(next(iter(self.runs.values())).values()))

    @cached_property
    def missing(self) -> dict[str, list[int]]:
        """Seeds that are not there, of each row that lacks one."""
        seeds = sorted({*SEEDS, *(seed for runs in self.runs.values() for seed in runs)})
        absent = {row: [seed for seed in seeds if seed not in self.runs.get(row, {})] for row in ROWS}
        return {row: lacking for row, lacking in absent.items() if lacking}

    @property
    def counts(self) -> tuple[int, int]:
        """How many runs are there, and of how many."""
        there = sum(map(len, self.runs.values()))
        return there, there + sum(map(len, self.missing.values()))

    def over_seeds(self, row: str, key: str) -> Interval:
        """Return a figure's mean over the seeds of a row, with its interval."""
        return over_seeds([float(run.values[key][0]) for run in self.runs[row].values()])

    def difference(self, first: str, second: str, key: str, second_key: str | None = None) -> Difference | None:
        """Compare two rows in a figure, or in two figures; None where they have no seed in common."""
        seeds = [seed for seed in self.runs.get(first, {}) if seed in self.runs.get(second, {})]
        if not seeds:
            return None
        values = [
            self.runs[first][seed].values[key] - self.runs[second][seed].values[second_key or key] for seed in seeds
        ]
        return Difference(
            over_drawings(np.mean(values, axis=0)), over_seeds([float(value[0]) for value in values]), len(seeds)
        )

    def ious(self, first: str, second: str) -> dict[str, Difference]:
        """Compare two rows in the IoU of each level; empty where they have no seed in common."""
        found = {level: self.difference(first, second, f"path/iou/{level}") for level in self.tree.levels}
        return {level: difference for level, difference in found.items() if difference}

    def best(self, key: str, sign: int) -> str | None:
        """Return the row that is shown to be better than every other one in a figure, if there is one.

        Args:
            key: The figure.
            sign: 1 where more is better, -1 where less is.
        """
        for row in self.runs:
            others = [self.difference(row, other, key) for other in self.runs if other != row]
            if others and all(other and other.sign == sign for other in others):
                return row
        return None


@dataclass(frozen=True)
class Finding:
    """A question, in how far the runs answer it, and why."""

    question: str
    verdict: str
    reasons: Sequence[str]


def write(results: Path, out: Path, protocol: Path | None = None, resamples: int = 2000) -> None:
    """Write the report: losses.md, losses.json with its answer for others to quote, and three plots.

    Args:
        results: The grid's results.
        out: The folder.
        protocol: Figures by the predecessor's own protocol; left out where there is no such file.
        resamples: How often photos are drawn for intervals.

    Raises:
        ReportError: See `Comparison.read`.
    """
    comparison = Comparison.read(results, Hierarchy.default(), resamples)
    of_predecessor = json.loads(protocol.read_text(encoding="utf-8")) if protocol and protocol.is_file() else {}
    there, of = comparison.counts
    answer = {"quote": quote(comparison), "runs": there, "of": of}
    files = {
        **drawn(comparison),
        "losses.json": (json.dumps(answer, indent=1) + "\n").encode(),
        "losses.md": text(comparison, of_predecessor).encode(),
    }
    for name, content in files.items():
        checkpoint.write_atomically(out / name, content)


def drawn(comparison: Comparison) -> dict[str, bytes]:
    """Return the plots by the name of their file."""
    runs, tree = comparison.runs, comparison.tree
    against = {TITLES[row]: comparison.ious(row, "bce") for row in runs if row != "bce"}
    photos = {
        TITLES[row]: [figures(run.table, tree, np.eye(len(run.table["truth"]))) for run in runs[row].values()]
        for row in ("bce", "focal_tree_min")
        if row in runs
    }
    curves = {
        TITLES[row]: {
            level: plots.joined(run.result["reliability"][level] for run in of_row.values()) for level in tree.levels
        }
        for row, of_row in runs.items()
    }
    return {
        "losses-differences.svg": plots.differences(against, list(tree.levels), TITLES["bce"]),
        "losses-photos.svg": plots.photos(
            {
                level: {
                    title: np.array([each[f"seed/photo_iou/{level}"] for each in of]) for title, of in photos.items()
                }
                for level in tree.levels
            }
        ),
        "losses-reliability.svg": plots.reliability(curves),
    }


# The text


def text(comparison: Comparison, of_predecessor: Mapping[str, Any]) -> str:
    """Return the report as Markdown.

    Args:
        comparison: The runs.
        of_predecessor: Figures by the predecessor's own protocol, by name; may be empty.
    """
    there = ("{} of {} runs are there." if comparison.missing else "All {} runs are there.").format(*comparison.counts)
    if comparison.missing:
        lacking = (f"{TITLES[row]} (seed {', '.join(map(str, seeds))})" for row, seeds in comparison.missing.items())
        there += f" Not yet: {'; '.join(lacking)}."
    levels = ", ".join(comparison.tree.levels)
    sections = [
        "# Does the tree loss help?",
        "<!-- Made by `python -m studies.losses report` from studies/losses/results; do not edit. -->",
        f"People are segmented on the levels of one tree: {levels}. Is a loss that knows the tree better at it than\n"
        "one that does not; where, by how much, and how sure is that?",
        f"**{finding(comparison)}**",
        _difference_table(comparison, _TREE),
        f"{_READING}{there}",
        _image("differences", f"Differences of each loss to BCE in IoU on the levels {levels}, with their intervals"),
        "## Protocol",
        _protocol(comparison),
        "## The losses",
        _main_table(comparison),
        "## Differences",
        _difference_table(comparison, _all_pairs()),
        _image("photos", f"Histograms over photos of their IoU on the levels {levels}, BCE and Focal-Tree-Min"),
        "The IoU of each photo as the predecessor drew it: scores rounded at 0.5; a node neither there nor called\n"
        "has 1.",
        "## Findings",
        *(
            f"### {number}. {each.question} {each.verdict}\n\n" + "\n".join(f"- {line}" for line in each.reasons)
            for number, each in enumerate(findings(comparison), 1)
        ),
        "## More figures",
        _size_table(comparison),
        _level_table(comparison),
        _decoding_table(comparison),
        _node_table(comparison),
        _image("reliability", f"Share of right pixels against confidence on the levels {levels}, for each loss"),
        "How often pixels are right that are called with some confidence, of all photos and seeds. On the dotted line\n"
        "a network is as sure as it is right; below it, it is too sure.",
        *_predecessor_section(of_predecessor),
        "## What would change the answer",
        _LIMITS,
        "## Run one row again",
        _AGAIN,
    ]
    return "\n\n".join(sections) + "\n"


def finding(comparison: Comparison) -> str:
    """Return the answer in two sentences: what the tree does to IoU, and to raw scores."""
    finest = list(comparison.tree.levels)[-1]
    pairs = {pair: comparison.ious(*pair) for pair in _TREE}
    pairs = {pair: found for pair, found in pairs.items() if found}
    if not pairs:
        return "Not known yet: there are no two runs that are equal but for the tree."
    signs = [each.sign for levels in pairs.values() for each in levels.values()]
    effects = [f"{verb} IoU in {signs.count(sign)}" for sign, verb in ((1, "help"), (-1, "harm")) if sign in signs]
    if effects:
        lead = f"The tree loss is shown to {' and to '.join(effects)} of {len(signs)} comparisons at equal focus"
    elif all(levels[finest].runs < 2 for levels in pairs.values()):
        lead = "One seed cannot show whether the tree loss changes IoU"
    else:
        lead = f"The tree loss is not shown to change IoU in any of {len(signs)} comparisons at equal focus"
    moved = " and ".join(
        f"{TITLES[first]} is {_apart(levels[finest].photos.estimate)} {TITLES[second]} ({_surest(levels[finest])})"
        for (first, second), levels in pairs.items()
    )
    broken = " and in ".join(f"{_broken(comparison, pair)} ({_violations(comparison, pair).verdict})" for pair in pairs)
    return (
        f"{lead}; at {finest} {moved}. Raw scores break the tree in {broken}; decoding along the tree mends that for "
        "every loss."
    )


def quote(comparison: Comparison) -> str:
    """Return a sentence on the two losses of the page's checkpoints, for the page to quote."""
    pair = ("focal_tree_min", "bce")
    ious = comparison.ious(*pair)
    if not ious:
        return finding(comparison)
    *_, (finest, last) = ious.items()
    runs = f"{last.runs} seeds each" if last.runs > 1 else "one seed each"
    return (
        f"Trained alike, {runs}, {TITLES[pair[0]]}'s IoU at {finest} is {_apart(last.photos.estimate)} "
        f"{TITLES[pair[1]]}'s ({last.verdict}; {_surest(last)}), and its raw scores break the tree in "
        f"{_broken(comparison, pair)}."
    )


def findings(comparison: Comparison) -> list[Finding]:
    """Return the findings; which way each falls follows from the intervals alone."""
    found = [
        _iou_finding(comparison, "At equal focus, is IoU higher with the tree?", _TREE),
        _focus_finding(comparison),
        _broken_finding(comparison),
        _iou_finding(comparison, "Is the exact loss better than the predecessor's faulty one?", [_EXACT]),
        _iou_finding(comparison, "Is a plain softmax over leaves better than the sigmoid losses?", _LEAVES),
    ]
    if _TRIPLET[0] in comparison.runs:
        found.append(_iou_finding(comparison, "Does the triplet term add to Focal-Tree-Min?", [_TRIPLET]))
    return found


def _iou_finding(comparison: Comparison, question: str, pairs: Iterable[Pair]) -> Finding:
    reasons, signs = [], []
    for pair in pairs:
        differences = comparison.ious(*pair)
        reasons.append(_in_points(_against(pair), differences) if differences else _not_there(comparison, pair))
        signs += [each.sign for each in differences.values()]
    return Finding(question, _verdict(signs), reasons)


def _focus_finding(comparison: Comparison) -> Finding:
    """Tell whether focus changes masks, and what it does to scores that are read as probabilities."""
    found = _iou_finding(comparison, "With or without the tree, is IoU higher with focus?", _FOCUS)
    finest = list(comparison.tree.levels)[-1]
    reasons = list(found.reasons)
    for pair in _FOCUS:
        brier = comparison.difference(*pair, f"brier/{finest}")
        if brier:
            errors = (_fine(comparison.over_seeds(row, f"ece/{finest}").estimate) for row in pair)
            reasons.append(
                f"{_against(pair)}, scores as probabilities at {finest}: Brier {_signed(brier.photos.estimate)}, less "
                f"is better; {_intervals(brier, _signed)}: {brier.verdict}. ECE is {' instead of '.join(errors)}."
            )
    return Finding(found.question, found.verdict, reasons)


def _broken_finding(comparison: Comparison) -> Finding:
    """Tell whether the tree's losses break it less, and whether that is worth anything once the tree is decoded."""
    reasons, signs = [], []
    for pair in _TREE:
        ious = comparison.ious(*pair)
        if not ious:
            reasons.append(_not_there(comparison, pair))
            continue
        difference = _violations(comparison, pair)
        signs.append(-difference.sign)
        higher = [level for level, each in ious.items() if each.sign > 0]
        after = f"IoU is shown higher at {' and '.join(higher)}" if higher else "no higher IoU is shown"
        moot = ": for masks, decoding makes it moot" if difference.sign < 0 and not higher else ""
        reasons.append(
            f"{_against(pair)}: raw scores break the tree in {_broken(comparison, pair)} "
            f"({_percent_points(difference.photos.estimate)} percentage points; "
            f"{_intervals(difference, _percent_points)}: {difference.verdict}). Decoded along "
            f"the tree neither has any, and {after}{moot}."
        )
    for row in ("bce", "focal"):
        gains = {
            level: comparison.difference(row, row, f"path/iou/{level}", f"nodes/iou/{level}")
            for level in comparison.tree.levels
        }
        present = {level: gain for level, gain in gains.items() if gain}
        if present:
            what = f"What decoding along the tree gives {TITLES[row]} over cutting each node by itself"
            reasons.append(_in_points(what, present))
    return Finding(
        "Do raw scores keep to the tree better with the tree loss, and does it matter?", _verdict(signs), reasons
    )


def _verdict(signs: Sequence[int]) -> str:
    if not signs:
        return "Not run yet."
    if not any(signs):
        return "Not shown."
    of = f"{len(signs)} comparison{'s' if len(signs) > 1 else ''}"
    return f"Shown better in {signs.count(1)} and worse in {signs.count(-1)} of {of}."


def _in_points(what: str, differences: Mapping[str, Difference]) -> str:
    """Say by how many points IoU differs on each level, and how sure that is on the last."""
    each = ", ".join(f"{level} {_estimate(difference)}" for level, difference in differences.items())
    *_, (finest, last) = differences.items()
    return f"{what}: {each} points of IoU. At {finest} {_intervals(last, _points)}: {last.verdict}."


def _broken(comparison: Comparison, pair: Pair) -> str:
    first, second = (percent(comparison.over_seeds(row, "violations").estimate) for row in pair)
    return f"{first} of the pixels instead of {second}"


def _violations(comparison: Comparison, pair: Pair) -> Difference:
    found = comparison.difference(*pair, "violations")
    assert found is not None
    return found


def _not_there(comparison: Comparison, pair: Pair) -> str:
    absent = [TITLES[row] for row in pair if row not in comparison.runs]
    return f"{_against(pair)}: " + (f"no run of {' and '.join(absent)} yet." if absent else "no seed in common yet.")


def _intervals(difference: Difference, written: Callable[[float], str]) -> str:
    over = f"95 % over photos {written(difference.photos.low)} to {written(difference.photos.high)}"
    if difference.runs < 2:
        return over
    return f"{over}, over {difference.runs} seeds {written(difference.seeds.low)} to {written(difference.seeds.high)}"


def _surest(difference: Difference) -> str:
    """Give one interval for a sentence: over seeds where there are some."""
    name, interval = ("seeds", difference.seeds) if difference.runs > 1 else ("photos", difference.photos)
    return f"95 % over {name} {_points(interval.low)} to {_points(interval.high)}"


# Tables


@dataclass(frozen=True)
class _Column:
    title: str
    key: str
    sign: int = 1  # 1 where more is better, -1 where less is
    written: Callable[[float], str] = short
    interval: bool = False


def _losses_table(comparison: Comparison, columns: Sequence[_Column], seeds: bool = False) -> str:
    """Lay out a row for each loss; a figure that is shown to be better than all others of its column is bold."""
    best = {column.key: comparison.best(column.key, column.sign) for column in columns}
    rows = []
    for row, runs in comparison.runs.items():
        cells = [TITLES[row], *([str(len(runs))] if seeds else [])]
        for column in columns:
            found = comparison.over_seeds(row, column.key)
            cell = _known(found.estimate, column.written)
            if column.interval and found.high > found.low:
                cell += f" ± {column.written(found.high - found.estimate)}"
            cells.append(f"**{cell}**" if best[column.key] == row else cell)
        rows.append(cells)
    return markdown(["loss", *(["seeds"] if seeds else []), *(column.title for column in columns)], rows)


def _main_table(comparison: Comparison) -> str:
    finest = list(comparison.tree.levels)[-1]
    columns = [
        *(_Column(f"IoU, {level}", f"path/iou/{level}", interval=True) for level in comparison.tree.levels),
        _Column(f"predecessor's IoU, {finest}", f"seed/photo_iou/{finest}"),
        _Column("pixels that break the tree", "violations", -1, percent),
        _Column("whole path right", "path/full_path_accuracy", 1, lambda value: f"{value:.1%}"),
        _Column("distance of mistakes", "path/tree_distance", -1, lambda value: f"{value:.2f}"),
        _Column(f"ECE, {finest}", f"ece/{finest}", -1, _fine),
        _Column(f"Brier, {finest}", f"brier/{finest}", -1, _fine),
        _Column(f"boundary IoU, {finest}", f"path/boundary_iou/{finest}"),
    ]
    return f"{_losses_table(comparison, columns, seeds=True)}\n\n{_COLUMNS}"


def _difference_table(comparison: Comparison, pairs: Iterable[Pair]) -> str:
    """Lay out a row for each pair that has a seed in common."""
    found = {_against(pair): comparison.ious(*pair) for pair in pairs}
    rows = [[name, *map(_bracketed, levels.values())] for name, levels in found.items() if levels]
    return markdown(["points of IoU", *comparison.tree.levels], rows) if rows else "There is nothing to compare yet."


def _all_pairs() -> list[Pair]:
    """Return all pairs of the findings behind every row with BCE, each once."""
    of_findings = [*_TREE, *_FOCUS, _EXACT, *_LEAVES, _TRIPLET]
    return list(dict.fromkeys([*((row, "bce") for row in ROWS if row != "bce"), *of_findings]))


def _size_table(comparison: Comparison) -> str:
    finest = list(comparison.tree.levels)[-1]
    sizes = person_sizes(comparison.any_run.table, comparison.tree)
    columns = [
        _Column(f"{size} ({members.sum()} photos)", f"path/iou/{finest}/{size}") for size, members in sizes.items()
    ]
    return f"IoU at {finest} by the share of the photo that its people cover:\n\n{_losses_table(comparison, columns)}"


def _level_table(comparison: Comparison) -> str:
    rows = [
        [
            TITLES[row],
            _of_levels(comparison, row, "seed/photo_iou"),
            _of_levels(comparison, row, "path/boundary_iou"),
            _of_levels(comparison, row, "ece", _fine),
            _of_levels(comparison, row, "brier", _fine),
            _known(comparison.over_seeds(row, "broken_edges").estimate, lambda value: f"{value:.2f}"),
        ]
        for row in comparison.runs
    ]
    header = ["loss", "predecessor's IoU", "boundary IoU", "ECE", "Brier", "broken edges"]
    levels = " / ".join(comparison.tree.levels)
    return (
        f"Measures on the levels {levels}; and how many edges of the tree are broken where it is:\n\n"
        f"{markdown(header, rows)}"
    )


def _of_levels(comparison: Comparison, row: str, key: str, written: Callable[[float], str] = short) -> str:
    return " / ".join(
        written(comparison.over_seeds(row, f"{key}/{level}").estimate) for level in comparison.tree.levels
    )


def _decoding_table(comparison: Comparison) -> str:
    kinds = {"nodes": "each node cut by itself", "path": "best path", "flat": "best leaf"}
    rows = [[TITLES[row], *(_of_levels(comparison, row, f"{kind}/iou") for kind in kinds)] for row in comparison.runs]
    levels = " / ".join(comparison.tree.levels)
    return (
        f"IoU of {levels} by decoding. Thresholds of the first two are chosen on training photos, for each "
        f"run; the first alone can break the tree:\n\n{markdown(['loss', *kinds.values()], rows)}"
    )


def _node_table(comparison: Comparison) -> str:
    columns = [
        _Column(name.replace("_", " "), f"path/node_iou/{name}") for name in (*comparison.tree.nodes, "background")
    ]
    return f"IoU of each node:\n\n{_losses_table(comparison, columns)}"


def _predecessor_section(of_predecessor: Mapping[str, Any]) -> list[str]:
    """Set what the predecessor published beside ours by its own protocol, if that was measured."""
    if not of_predecessor:
        return []
    rows = [
        ["the predecessor, BCE, 707 photos", ".651", ".546", ".407"],
        ["the predecessor, Focal-Tree-Min, 707 photos", ".659", ".550", ".416"],
    ]
    for name, entry in of_predecessor.items():
        photos = f", {entry['photos']} photos" if "photos" in entry else ""
        rows.append([f"{name}{photos}", *(short(value) for value in entry["levels"].values())])
    header = ["", *next(iter(of_predecessor.values()))["levels"]]
    return ["## By the predecessor's own protocol", f"Its 224 px squares and its IoU.\n\n{markdown(header, rows)}"]


def _protocol(comparison: Comparison) -> str:
    result = comparison.any_run.result
    recipe, data = result["recipe"], result["data"]
    model = recipe["model"]
    weights = "with" if recipe["positive_weights"] else "no"
    return (
        "Runs differ in loss and seed and in nothing else ([recipe](../grid.yaml)):\n"
        f"{model['architecture']} on {model['encoder'].removeprefix('tu-')}, {recipe['crop']['size']} px crops, "
        f"{recipe['epochs']} epochs in batches of {recipe['batch_size']}, {weights} positive weights. With a seed\n"
        "all start from the same weights and see the same crops in the same order. What is measured is the average of\n"
        f"weights after the last epoch, on {data['photos']} validation photos, each at its own resolution,\n"
        f"{model['input_size']} px into the network, one pass. No epoch and no threshold was chosen on these photos;\n"
        "the decoder, the batch size and the number of passes were. All figures come from\n"
        "[counts of each photo](../results)."
    )


_READING = """\
In brackets 95 % intervals, first over photos (paired bootstrap), then over seeds (Student's t, of differences between
runs with the same seed). **Shown**, and bold, is what both hold apart from zero. What is not shown may still be there:
the intervals say how large. """

_COLUMNS = """\
Means over seeds; ± reaches to the ends of the 95 % interval over seeds. Bold is what is shown to be better than every
other row. IoU is of the data set, without background, decoded along the tree. The predecessor's IoU is a mean over
photos, of scores rounded at 0.5; so rounded, some break the tree. Distance is in edges of the tree, of wrong pixels
only. ECE and Brier are better the lower, over all pixels; ECE is kept by bins and not by photo, so it is never bold."""

_LIMITS = """\
- **A larger network, a longer schedule.** This is one small network, trained for about ten minutes, when thin parts are
  still coming.
- **Other data.** This is one data set with one small tree; a deep one leaves more to gain.
- **More seeds.** Of three runs, Student's interval reaches 2.5 standard deviations to each side: small effects stay
  hidden.
- **Positive weights.** They raise thin parts and loosen the tree, perhaps not alike for every loss.
- **Weights of the levels.** With `reduction: node` the sigmoid losses weigh the three levels 1/9, 2/9 and 6/9, the
  softmax a level weighs them 1/3 each, and the softmax over leaves sees leaves only: that may be part of it.
- **Many comparisons.** Each interval is of 95 % by itself: among so many, some exclude zero by chance."""

_AGAIN = """\
About ten minutes on two cores, into folders of its own, to be compared with `studies/losses/results`:

    .venv/bin/python -m studies.losses sweep --losses focal_tree_min --seeds 0 --data DATA \\
        --runs runs/again --out runs/again/results

After new results this report is made again by `.venv/bin/python -m studies.losses report`."""


def _image(name: str, description: str) -> str:
    return f"![{description}](losses-{name}.svg)"


def _against(pair: Pair) -> str:
    return f"{TITLES[pair[0]]} against {TITLES[pair[1]]}"


def _estimate(difference: Difference) -> str:
    points = _points(difference.photos.estimate)
    return f"**{points}**" if difference.sign else points


def _bracketed(difference: Difference) -> str:
    intervals = [difference.photos, *([difference.seeds] if difference.runs > 1 else [])]
    return " ".join([_estimate(difference), *(f"[{_points(each.low)}, {_points(each.high)}]" for each in intervals)])


def _opened(path: Path) -> tuple[int, dict[str, Any], dict[str, Any], Table]:
    """Return a run's seed, its JSON file, what of that runs must share to be compared, and its counts."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        recipe = {key: value for key, value in result["recipe"].items() if key not in ("loss", "seed", "triplet")}
        recipe["model"] = {key: value for key, value in recipe["model"].items() if key != "activation"}
        shared = {"recipe": recipe, "data": result["data"], "protocol": result["protocol"]}
        return result["recipe"]["seed"], result, shared, read_table(path.with_suffix(".npz"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BadZipFile) as error:
        raise ReportError(f"{path} or its .npz is damaged ({error}).") from error


def _sign(interval: Interval) -> int:
    return int(interval.low > 0) - int(interval.high < 0)


def _known(value: float, written: Callable[[float], str]) -> str:
    return "" if np.isnan(value) else written(value)


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _apart(value: float) -> str:
    return f"{abs(100 * value):.1f} points {'below' if value < 0 else 'above'}"


def _percent_points(value: float) -> str:
    return f"{100 * value:+.3f}"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("0.", ".")


def _fine(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")
