"""Use the predecessor's files and its evaluation: `python -m studies.predecessor convert | evaluate`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from hierseg import files
from hierseg.cli import at_least_1
from train.arguments import add_data, run


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand and return the exit status."""
    return run(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m studies.predecessor", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    converted = commands.add_parser("convert", help="convert one of the predecessor's .pt files to a checkpoint")
    converted.add_argument("file", type=Path, help="the predecessor's file")
    converted.add_argument("--out", type=Path, required=True, help="for instance checkpoints/predecessor.safetensors")
    converted.add_argument("--title", help="name on the page (default: the file's name)")
    converted.set_defaults(run=_convert)

    evaluate = commands.add_parser(
        "evaluate", help="measure checkpoints as the predecessor did: 224 px squares, one pass, its IoU"
    )
    evaluate.add_argument("checkpoints", nargs="+", help="files, or names such as bce")
    add_data(evaluate)
    evaluate.add_argument("--photos", type=at_least_1, help="only this many photos, from the first")
    evaluate.add_argument("--json", type=Path, help="also write the figures to this file")
    evaluate.set_defaults(run=_evaluate)
    return parser


def _convert(options: argparse.Namespace) -> None:
    from studies.predecessor.convert import convert  # PyTorch takes seconds to import

    convert(options.file, options.out, options.title or options.file.stem)
    print(options.out)


def _evaluate(options: argparse.Namespace) -> None:
    from hierseg.predictor import Predictor
    from studies.predecessor.protocol import measure
    from train.dataset import load_examples, read_ids, split_hash

    figures = {}
    for name in options.checkpoints:
        predictor = Predictor(name, "cpu")
        card = predictor.card
        ids = read_ids(options.data, "val")[: options.photos]
        found = measure(predictor, load_examples(options.data, ids, card.hierarchy))
        levels = ", ".join(f"{level} {iou:.4f}" for level, iou in found["levels"].items())
        print(f"{card.title}, {len(ids)} photos, the predecessor's protocol: {levels}")
        figures[name] = {**found, "split": "val", "ids_sha256": split_hash(ids)}
    if options.json:
        files.write_atomically(options.json, (json.dumps(figures, indent=1) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
