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


def main() -> int:
    """Measure and return the exit status: 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of pascal-part and extra, to measure the training loader")
    parser.add_argument("--rounds", type=int, default=15, help="how often to time each call (default: %(default)s)")
    parser.add_argument(
        "--only", nargs="+", choices=("photo", "start", "browser", "camera", "visitors", "training", "archive")
    )
    parser.add_argument("--write", action="store_true", help="write the table into benchmarks/README.md")
    options = parser.parse_args()
    if options.data and not (options.data / "pascal-part").is_dir():
        parser.error(f"{options.data} has no folder pascal-part; docs/train.md says how data are laid out.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts: dict[str, Callable[[], list[Row]]] = {
            "photo": lambda: photo.rows(options.rounds),
            "start": lambda: start.rows(options.rounds),
            "browser": lambda: browser.rows(options.rounds, folder),
            "camera": lambda: camera.rows(folder),
            "visitors": lambda: visitors.rows(folder),
            "training": lambda: training.rows(options.rounds, options.data),
            "archive": lambda: archive.rows(options.rounds, folder),
        }
        rows = [row for part, measure in parts.items() if part in (options.only or parts) for row in measure()]
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
