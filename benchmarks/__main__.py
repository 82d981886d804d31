"""Measure and print one table: `python -m benchmarks [--data DATA] [--write]`. Run nothing else meanwhile."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import archive, browser, camera, photo, start, training, visitors
from benchmarks.timing import Row, machine, table

README = Path(__file__).resolve().parent / "README.md"
_PARTS: dict[str, Callable[[argparse.Namespace, Path], list[Row]]] = {
    "photo": lambda options, _: photo.rows(options.rounds),
    "start": lambda options, _: start.rows(options.rounds),
    "browser": lambda options, folder: browser.rows(options.rounds, folder),
    "camera": lambda _, folder: camera.rows(folder),
    "visitors": lambda _, folder: visitors.rows(folder),
    "training": lambda options, _: training.rows(options.rounds, options.data),
    "archive": lambda options, folder: archive.rows(options.rounds, folder),
}


def main() -> int:
    """Measure and return the exit status: 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of pascal-part and extra, to measure the training loader")
    parser.add_argument("--rounds", type=int, default=15, help="how often to time each call (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=_PARTS)
    parser.add_argument("--write", action="store_true", help="write the table into benchmarks/README.md")
    options = parser.parse_args()
    if options.data and not (options.data / "pascal-part").is_dir():
        parser.error(f"{options.data} has no folder pascal-part; docs/train.md says how data are laid out.")
    with tempfile.TemporaryDirectory() as name:
        measures = [measure for part, measure in _PARTS.items() if part in (options.only or _PARTS)]
        rows = [row for measure in measures for row in measure(options, Path(name))]
    text = f"{machine()}\n\n{table(rows)}"
    print(text)
    if options.write:
        readme = README.read_text(encoding="utf-8")
        filled = re.sub(
            r"(<!-- table -->\n).*(<!-- end -->)", lambda mark: f"{mark[1]}{text}\n{mark[2]}", readme, flags=re.DOTALL
        )
        README.write_text(filled, encoding="utf-8")
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
