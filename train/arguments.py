"""What the command lines of training and of the studies share."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hierseg.errors import UserError

_DATA = "HIERSEG_DATA"


def run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Run the subcommand that a command line names; each has set `run` to its function.

    Args:
        parser: Of the command line.
        arguments: What follows the program's name; None for the process's own.

    Returns:
        Exit status: 0, or 1 where a person can mend what is wrong, which is said on stderr.
    """
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add --data, the folder of photos and masks."""
    folder = Path(os.environ.get(_DATA, "data/pascal-part"))
    parser.add_argument("--data", type=Path, default=folder, help=f"data folder (default: ${_DATA} or %(default)s)")
