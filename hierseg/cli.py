"""The command line: `python -m hierseg PHOTO_OR_FOLDER... --checkpoint ftm --level parts --out DIR`."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from hierseg import __version__


def main(arguments: list[str] | None = None) -> int:
    """Segment photos and folders of photos.

    Args:
        arguments: The command line after the program's name; None for the process's own.

    Returns:
        Exit status, see `hierseg.batch.segment_all` and `hierseg.archive.command`.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["archive"]:
        missing = [name for name in ("ray", "pyarrow", "pycocotools") if not find_spec(name)]
        if missing:
            print(f"error: {missing[0]} is missing. Run: pip install 'hierseg[archive]'", file=sys.stderr)
            return 2
        from hierseg.archive.command import main as archive

        return archive(arguments[1:])
    options = _parser().parse_args(arguments)
    from hierseg.batch import segment_all  # PyTorch takes seconds to import; --help and wrong arguments do not need it

    return segment_all(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hierseg",
        description="Segment people in photos into a hierarchy of body parts.",
        epilog="For many thousands of photos, or several machines: hierseg archive --help.",
    )
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO_OR_FOLDER")
    parser.add_argument("--checkpoint", help="a name, such as ftm, or a file (default: the best on validation)")
    parser.add_argument("--level", default="parts", help="body, upper-lower or parts (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("hierseg-out"), help="where to write (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="also overwrite files that are not from hierseg")
    parser.add_argument("--opacity", type=share, default=0.55, help="opacity of colours, 0 to 1 (default: %(default)s)")
    parser.add_argument("--threshold", type=share, help="below this a pixel is background (default: the checkpoint's)")
    sure = parser.add_mutually_exclusive_group()
    sure.add_argument(
        "--certainty", type=share, default=0.0, help="below this a pixel stops higher in the tree (default: never)"
    )
    sure.add_argument(
        "--risk",
        type=share,
        help="in place of --certainty: at most this share of the person's pixels has a wrong name, for instance 0.2; "
        "refused if the checkpoint cannot promise it, or together with --threshold",
    )
    parser.add_argument("--version", action="version", version=f"hierseg {__version__}")
    return parser


def share(text: str) -> float:
    """Read an argument that is a number from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:  # also refuses NaN
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, not {text}")
    return number


def at_least_1(text: str) -> int:
    """Read an argument that is a whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


share.__name__, at_least_1.__name__ = "number", "whole number"  # what argparse calls them in its messages
