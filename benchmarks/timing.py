"""Time calls against each other, and lay out results as Markdown."""

from __future__ import annotations

import gc
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Key = TypeVar("Key")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        what: What was measured.
        found: The figure, with its unit.
        target: The target, empty if there is none.
        met: Whether the target is met; None if there is none.
    """

    what: str
    found: str
    target: str = ""
    met: bool | None = None

    @staticmethod
    def at_most(what: str, value: float, limit: float, form: str = "{:.2f}x") -> Row:
        """Return a line whose value must not be above a limit."""
        return Row(what, form.format(value), f"at most {form.format(limit)}", value <= limit)

    @staticmethod
    def at_least(what: str, value: float, limit: float, form: str = "{:.1f}x") -> Row:
        """Return a line whose value must not be below a limit."""
        return Row(what, form.format(value), f"at least {form.format(limit)}", value >= limit)


def interleaved(calls: Mapping[Key, Callable[[], object]], rounds: int) -> dict[Key, float]:
    """Return the median seconds of each call; each round makes every call once, so that a slow minute slows all."""
    for call in calls.values():
        call()
    seconds: dict[Key, list[float]] = {name: [] for name in calls}
    gc.collect()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def machine() -> str:
    """Return a description of this machine and its load."""
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.is_file() else None
    name = found[1] if found else platform.processor()
    return f"{name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}"


def table(rows: list[Row]) -> str:
    """Lay lines out as a Markdown table."""
    verdicts = {True: "yes", False: "**no**", None: ""}
    lines = [f"| {row.what} | {row.found} | {row.target} | {verdicts[row.met]} |" for row in rows]
    return "\n".join(["| | found | target | met |", "| --- | --- | --- | --- |", *lines])
