"""The command line of the loss comparison: `python -m studies.losses sweep | report`."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from train.arguments import add_data, run

_HERE = Path("studies/losses")
_RESULTS = _HERE / "results"
_RECIPE = _HERE / "grid.yaml"
_PROTOCOL = Path("studies/predecessor/protocol.json")  # of python -m studies.predecessor evaluate --json


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; returns the exit status."""
    return run(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m studies.losses", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    grid = commands.add_parser("sweep", help="train and measure the runs that are left, the most telling first")
    grid.add_argument("--list", action="store_true", help="only list the runs that are left, with their minutes")
    grid.add_argument("--losses", nargs="+", metavar="LOSS", help="only these rows of studies/losses/rows.py")
    grid.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="only these seeds (with --losses: 0 1 2)")
    grid.add_argument("--minutes", type=int, default=math.inf, metavar="N", help="only the first runs, of N minutes")
    grid.add_argument("--recipe", type=Path, default=_RECIPE, help="what all runs share (default: %(default)s)")
    add_data(grid)
    grid.add_argument("--extra", type=Path, help="data folders with other photos (default: extra beside DATA)")
    grid.add_argument("--runs", type=Path, default=Path("runs/grid"), help="the runs' folders (default: %(default)s)")
    grid.add_argument("--out", type=Path, default=_RESULTS, help="folder of the results (default: %(default)s)")
    grid.set_defaults(run=_sweep)

    report = commands.add_parser("report", help="fill in the figures of losses.md and draw its plot")
    report.add_argument("--results", type=Path, default=_RESULTS, help="results of sweep (default: %(default)s)")
    report.add_argument("--folder", type=Path, default=_HERE / "report", help="of losses.md (default: %(default)s)")
    report.set_defaults(run=_report)
    return parser


def _sweep(options: argparse.Namespace) -> None:
    from studies.losses import steps  # PyTorch takes seconds to import: only when it is asked for
    from studies.losses.rows import ROWS
    from studies.losses.sweep import SweepError, results, sweep
    from train.recipe import Recipe

    if options.list:
        print(*steps.listed(*results(options.out, {run: {} for run in steps.ALL})), sep="\n")
        return
    rows = options.losses or list(ROWS)
    if unknown := set(rows) - ROWS.keys():
        raise SweepError(f"There is no loss {min(unknown)!r}; there are {', '.join(ROWS)}.")
    wanted = steps.ALL
    if options.losses or options.seeds:
        wanted = [(row, seed) for seed in options.seeds or (0, 1, 2) for row in rows]
    recipe = Recipe.from_yaml(options.recipe)
    extra = options.extra or options.data.parent / "extra"
    sweep(recipe, wanted, options.data, extra, options.runs, options.out, options.minutes)


def _report(options: argparse.Namespace) -> None:
    from studies.losses.report import write

    write(options.results, options.folder, _PROTOCOL, _RECIPE)


if __name__ == "__main__":
    sys.exit(main())
