"""Shared by the command lines of training and the studies."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hierseg.errors import UserError

_DATA = "HIERSEG_DATA"


def run(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> int:
    """Run a subcommand; its parser sets `run` to its function.

    Args:
        parser: The parser.
        arguments: The command line after the program's name; None for the process's own.

    Returns:
        Exit status: 0, or 1 after an error that the user can fix, with a message on stderr.
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
