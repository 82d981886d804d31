"""Fill figures into Markdown files, so that none is typed by hand: `python -m train report README.md`.

The text between a mark `<!-- report: NAME -->` and the next `<!-- end -->` is replaced by the figure of that name: a
table if the mark is a line of its own, a number if it is part of a line.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hierseg.errors import UserError
from hierseg.risk import RISKS

Figures = Mapping[str, Mapping[str, Any]]  # of each checkpoint, by name

_SECTION = re.compile(r"(<!-- report: ([^\n]+?) -->(\n?)).*?(<!-- end -->)", re.DOTALL)


class ReportError(UserError):
    """Figures cannot be filled into a text. The message says why."""


def fill(text: str, figures: Mapping[str, str]) -> str:
    """Fill figures and tables into a text.

    Args:
        text: Markdown with marks.
        figures: Figures and tables by name.

    Returns:
        The text with new figures between its marks.

    Raises:
        ReportError: There is no mark, or a mark has an unknown name or no end.
    """
    if "<!-- report: " not in text:
        raise ReportError("There is no mark <!-- report: NAME --> to fill.")

    def section(match: re.Match[str]) -> str:
        start, name, new_line, end = match.groups()
        if "<!-- report: " in match[0][len(start) :]:
            raise ReportError(f"The mark {name!r} has no <!-- end -->.")
        if name not in figures:
            near = difflib.get_close_matches(name, figures, cutoff=0)
            raise ReportError(
                f"There is no figure {name!r}, or it was not measured; the nearest are {', '.join(map(repr, near))}."
            )
        return f"{start}{figures[name]}{new_line}{end}"

    filled, count = _SECTION.subn(section, text)
    if count != text.count("<!-- report: "):
        raise ReportError("A mark has no <!-- end -->.")
    return filled


def tables(figures: Figures) -> dict[str, str]:
    """Return every table by name, except those whose figures were not measured.

    Args:
        figures: Summaries of `metrics.Evaluation` by checkpoint, all of the same tree.
    """
    found = {}
    for name, table in TABLES.items():
        with contextlib.suppress(KeyError):
            found[name] = table(figures)
    return found


def iou(figures: Figures) -> str:
    """Return a row for each checkpoint: data-set IoU of each level."""
    by_level = {name: summary["dataset_iou"]["levels"] for name, summary in figures.items()}
    header = ["data-set IoU", *next(iter(by_level.values()))]
    return markdown(header, [[name, *map(short, values.values())] for name, values in by_level.items()])


def levels(figures: Figures) -> str:
    """Return rows for each level: data-set IoU, the same with background, and the predecessor's."""
    kinds = {
        "data-set IoU": lambda summary: summary["dataset_iou"]["levels"],
        "with background": lambda summary: summary["dataset_iou"]["levels_with_background"],
        "predecessor's IoU": lambda summary: summary["predecessor_iou"]["levels"],
    }
    return _table(("figure", "level"), figures, kinds)


def nodes(figures: Figures) -> str:
    """Return rows for each node: data-set IoU and the predecessor's."""
    kinds = {
        "data-set IoU": lambda summary: {
            **summary["dataset_iou"]["nodes"],
            "background": summary["dataset_iou"]["background"],
        },
        "predecessor's IoU": lambda summary: summary["predecessor_iou"]["nodes"],
    }
    return _table(("figure", "node"), figures, kinds)


def sizes(figures: Figures) -> str:
    """Return rows for each class of person size: data-set IoU of each level."""
    first = next(iter(figures.values()))
    kinds: dict[str, _Column] = {
        level: lambda summary, level=level: {  # type: ignore[misc]
            f"{size} ({part['photos']} photos)": part["levels"][level]
            for size, part in summary["by_person_size"].items()
        }
        for level in first["dataset_iou"]["levels"]
    }
    return _table(("level", "people's share of the photo"), figures, kinds)


def boundaries(figures: Figures) -> str:
    """Return a row for each level: boundary IoU."""
    return _table(("figure", "level"), figures, {"boundary IoU": lambda summary: summary["boundary_iou"]})


def calibration(figures: Figures) -> str:
    """Return rows for each level: expected calibration error, also for calibrated scores if all have them."""
    kinds: dict[str, _Column] = {
        title: lambda summary, key=key: summary["calibration_error"][key]  # type: ignore[misc]
        for title, key in {
            "all pixels": "all_pixels",
            "calibrated": "calibrated_all_pixels",
            "pixels called person": "person_pixels",
            "these, calibrated": "calibrated_person_pixels",
        }.items()
        if all(key in summary["calibration_error"] for summary in figures.values())
    }
    return _table(("measured on", "level"), figures, kinds)


def tree(figures: Figures) -> str:
    """Return a row for each checkpoint: the share of pixels whose raw scores, rounded at 0.5, break the tree.

    It is of all pixels and, where it was measured of all checkpoints, over photos of the person's.
    """
    rows = {name: {"raw scores rounded at 0.5": summary["violations"]} for name, summary in figures.items()}
    if all("violations_of_person" in summary for summary in figures.values()):
        for name, summary in figures.items():
            shares = summary["violations_of_person"]
            rows[name] |= {f"of the person's pixels, {kind} over photos": shares[kind] for kind in ("median", "mean")}
    header = ["checkpoint", *next(iter(rows.values()))]
    return markdown(header, [[name, *map(percent, row.values())] for name, row in rows.items()])


def nobody(figures: Figures) -> str:
    """Return rows for each checkpoint: how often a person is found in photos or squares without people."""
    kinds = {"photos of nobody": "empty_photos", "squares beside people": "nobody"}
    rows = [
        [
            name,
            f"{summary[key]['photos']} {kind}",
            *(percent(summary[key][share]) for share in ("somebody", "pixels")),
        ]
        for name, summary in figures.items()
        for kind, key in kinds.items()
        if key in summary
    ]
    return markdown(["checkpoint", "measured on", "somebody found", "pixels decoded to a person"], rows)


def risks(figures: Figures) -> str:
    """Return rows for each checkpoint: what came of each risk on photos held out, and which cannot be promised."""
    first = next(iter(figures.values()))["risk"]
    levels = list(first["promises"][0]["stops"])
    rows = []
    for name, summary in figures.items():
        kept = {promise["one_in"]: promise for promise in summary["risk"]["promises"]}
        for one_in in RISKS:
            risk = f"1 in {one_in}" if one_in > 1 else "nothing"
            promise = kept.get(one_in)
            shares = [promise["wrong"], *(promise["stops"][level] for level in levels)] if promise else []
            certainty = f"{promise['certainty']:.2f}" if promise else "cannot be"
            rows.append([name, risk, certainty, *(f"{share:.1%}" for share in shares)])
    columns = [f"wrong, {first['held_out']} photos held out", *(f"stop at {level}" for level in levels)]
    filled = ([*row, *[""] * (3 + len(columns) - len(row))] for row in rows)
    return markdown(["checkpoint", "promised: wrong at most", "certainty", *columns], filled)


_Column = Callable[[Mapping[str, Any]], Mapping[str, float | None]]
TABLES: dict[str, Callable[[Figures], str]] = {
    table.__name__: table for table in (iou, levels, nodes, sizes, boundaries, calibration, risks, tree, nobody)
}


def _table(titles: tuple[str, str], figures: Figures, kinds: Mapping[str, _Column]) -> str:
    """Lay out a column for each checkpoint, and for each kind of figure a row for each of its keys."""
    rows = []
    for kind, column in kinds.items():
        columns = [column(summary) for summary in figures.values()]
        rows += [[kind, key, *(short(values.get(key)) for values in columns)] for key in columns[0]]
    return markdown([*titles, *figures], rows)


def short(value: float | None) -> str:
    """Write a figure between 0 and 1 with three digits, without the leading 0; nothing for None."""
    return "" if value is None else f"{value:.3f}".removeprefix("0")


def percent(value: float | None) -> str:
    """Write a share in percent; nothing for None."""
    return "" if value is None else f"{max(0.0, value):.3%}"  # a mean of zeros can come out below 0, by rounding


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))
