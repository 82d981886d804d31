"""The plots of the loss comparison's report, as SVG: the same figures give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from studies.losses.statistics import Interval

Values = npt.NDArray[np.float64]

# Inches and points for a column of 360 px, where 1 pt is 1 px: what can be read on a phone can be read anywhere.
_WIDTH = 5.0
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "losses",
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#767676",
    "figure.constrained_layout.use": True,
}
_BLUE, _RED, _VIOLET, _GREY = "#2a46a0", "#db290f", "#7a01e3", "#8a8a8a"  # of the tree on the page, but for grey
_LEAST = 1e-5  # share of all pixels, for a bin of confidence to be drawn


class Difference(Protocol):
    """What is drawn of `report.Difference`."""

    @property
    def photos(self) -> Interval:
        """Over photos."""

    @property
    def seeds(self) -> Interval:
        """Over seeds; nan bounds for one."""

    @property
    def sign(self) -> int:
        """1 or -1 where it is shown."""


def differences(of: Mapping[str, Mapping[str, Difference]], levels: Sequence[str], reference: str) -> bytes:
    """Draw one panel a level with, for each loss, its difference to a reference and both intervals.

    Args:
        of: For each loss and level the difference in IoU; a loss may have none.
        levels: The panels.
        reference: What it is a difference to.
    """
    rows = {title: found for title, found in of.items() if found}
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.9 + len(levels) * (0.75 + 0.36 * len(rows))))
        for axes, level in zip(_stacked(figure, len(levels)), levels, strict=True):
            axes.axvline(0, color="#444444", linewidth=1)
            for number, found in enumerate(rows.values()):
                each = found[level]
                color = {1: _BLUE, -1: _RED, 0: _GREY}[each.sign]
                for interval, shift, width in ((each.photos, -0.13, 4), (each.seeds, 0.17, 1.2)):
                    axes.plot(
                        [100 * interval.low, 100 * interval.high],
                        [number + shift] * 2,
                        color=color,
                        linewidth=width,
                        solid_capstyle="butt",
                    )
                axes.plot(100 * each.photos.estimate, number - 0.13, "o", color=color, markersize=7)
            axes.set_yticks(range(len(rows)), [_two_lines(title) for title in rows])
            axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
            axes.tick_params(left=False)
            axes.set_title(level)
        axes.set_xlabel(
            f"points of IoU more than {reference}\nthick: 95 % over photos, thin: over seeds\nblue and red: shown"
        )
        return _svg(figure)


def photos(of: Mapping[str, Mapping[str, Values]]) -> bytes:
    """Draw one panel a level with the histograms of each loss over photos, and its mean.

    Args:
        of: For each level and loss (one or two) the IoU of each photo, shape (seeds, P).
    """
    bins = np.linspace(0, 1, 26)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.5 + 2 * len(of)))
        for axes, (level, losses) in zip(_stacked(figure, len(of)), of.items(), strict=True):
            for color, filled, (title, values) in zip((_BLUE, _RED), (True, False), losses.items(), strict=False):
                heights = np.histogram(values, bins)[0] / len(values)
                look: dict[str, Any] = {"fill": True, "alpha": 0.35} if filled else {"linewidth": 1.8}
                axes.stairs(heights, bins, color=color, label=title, **look)
                axes.axvline(values.mean(), color=color, linewidth=1.5, linestyle="--")
            means = (f"{values.mean():.3f}".removeprefix("0") for values in losses.values())
            axes.set_title(f"{level}: mean {' and '.join(means)}")
            axes.set_ylabel("photos")
            axes.set_xlim(0, 1)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=2, frameon=False)
        axes.set_xlabel("IoU of the photo")
        return _svg(figure)


def joined(runs: Iterable[Sequence[Sequence[float | None]]]) -> Values:
    """Join bins of confidence of several runs.

    Args:
        runs: Of each run for each bin: pixels, mean confidence, share of right pixels; None where there is no pixel.

    Returns:
        The same of all, of bins that have pixels: shape (B, 3).
    """
    bins = np.nan_to_num(np.array(list(runs), np.float64))
    pixels = bins[..., 0].sum(0)
    means = (bins[..., :1] * bins[..., 1:]).sum(0)[pixels > 0] / pixels[pixels > 0, None]
    return np.column_stack([pixels[pixels > 0], means])


def reliability(of: Mapping[str, Mapping[str, Values]]) -> bytes:
    """Draw one panel a loss: how often a pixel is right against how sure the network is, a curve for each level.

    Args:
        of: For each loss and level: pixels, mean confidence and share of right pixels of each bin, shape (B, 3).
    """
    rows = -(-len(of) // 2)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.7 + 2.35 * rows))
        panels = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, (title, levels) in zip(panels, of.items(), strict=False):
            axes.plot([0, 1], [0, 1], ":", color="#767676", linewidth=1)
            for color, (level, bins) in zip((_VIOLET, _RED, _BLUE), levels.items(), strict=False):
                _, confidence, right = bins[bins[:, 0] >= _LEAST * bins[:, 0].sum()].T
                axes.plot(confidence, right, "o-", color=color, linewidth=1.8, markersize=3, label=level)
            axes.set_title(_two_lines(title), fontsize=11)
            axes.set_aspect("equal")
            axes.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        for axes in panels[len(of) :]:
            axes.remove()
        for axes in panels[max(0, len(of) - 2) : len(of)]:
            axes.tick_params(labelbottom=True)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=3, frameon=False)
        figure.supxlabel("confidence", fontsize=11)
        figure.supylabel("share of right pixels", fontsize=11)
        return _svg(figure)


def _stacked(figure: Figure, count: int) -> list[Axes]:
    return list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])


def _two_lines(title: str) -> str:
    """Break a title before its last words if it is long, so that it takes less of a narrow page."""
    words = title.split()
    return title if len(title) < 18 else f"{words[0]}\n{' '.join(words[1:])}"


def _svg(figure: Figure) -> bytes:
    content = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None}  # else the bytes differ each time
    figure.savefig(content, format="svg", metadata=metadata)
    return content.getvalue()
