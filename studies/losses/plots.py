"""The plot of the report, as SVG: the same figures give the same bytes."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from studies.losses.statistics import Interval

# In inches: as wide as a phone, 360 px at 1 px per point, so that the words are legible there.
_WIDTH = 5.0
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "losses",
    "svg.fonttype": "none",  # text; outlines take three times as many bytes
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": "#767676",
    "figure.constrained_layout.use": True,
}
_COLORS = ("#7a01e3", "#db290f", "#2a46a0")  # of levels, from the tree on the page


def differences(of: Mapping[str, Mapping[str, Interval]], reference: str) -> bytes:
    """Draw the differences in IoU between losses and one loss, with their intervals.

    Args:
        of: The differences by loss and level.
        reference: Title of the loss that is subtracted.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 1.1 + 0.5 * len(of)))
        axes = figure.add_subplot()
        axes.axvline(0, color="#444444", linewidth=1)
        for number, levels in enumerate(of.values()):
            for shift, color, (level, each) in zip((-0.24, 0, 0.24), _COLORS, levels.items(), strict=False):
                low, estimate, high = (100 * value for value in (each.low, each.estimate, each.high))
                filled = "white" if each.verdict == "open" else color
                name = level if not number else ""
                axes.plot([low, high], [number + shift] * 2, color=color, linewidth=2, label=name)
                axes.plot([estimate], [number + shift], "o", color=color, markerfacecolor=filled)
        axes.set_yticks(range(len(of)), [textwrap.fill(title, 20, break_on_hyphens=False) for title in of])
        axes.set_ylim(len(of) - 0.5, -0.5)
        axes.tick_params(left=False)
        axes.set_xlabel(f"IoU minus that of {reference}, in points")
        figure.legend(loc="outside upper right", ncols=3, frameon=False)
        content = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None}  # else the bytes differ each time
        figure.savefig(content, format="svg", metadata=metadata)
        return content.getvalue()
