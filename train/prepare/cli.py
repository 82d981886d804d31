"""The command line of `python -m train prepare`: one subcommand a source."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from train.prepare.common import PrepareError, Report


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add the sources to the parser of `prepare`; each sets `run`, which takes the options."""
    sources = parser.add_subparsers(required=True, metavar="SOURCE")

    def add(name: str, prepare: Callable[[argparse.Namespace], Sequence[Report]], help: str) -> argparse.ArgumentParser:
        source = sources.add_parser(name, help=help)
        source.add_argument("--out", type=Path, required=True, help="new data folder")
        source.set_defaults(run=partial(_run, prepare))
        return source

    pascal = add("pascal", _pascal, "VOC 2010 and PASCAL-Part: six parts of the body")
    pascal.add_argument("--photos", type=Path, required=True, help="the folder VOC2010 of the development kit")
    pascal.add_argument("--annotations", type=Path, required=True, help="the folder Annotations_Part of PASCAL-Part")
    pascal.add_argument("--numbering", default="seed", help="label numbers: seed (default) or papers")
    pascal.add_argument("--split", default="seed", help="id lists: seed (default) or official")

    coco = add("coco", _coco, "COCO 2017: bodies, and strokes of their parts")
    coco.add_argument("--images", type=Path, nargs="+", required=True, help="train2017, val2017 or both")
    coco.add_argument("--annotations", type=Path, nargs="+", required=True, help="their files instances_*.json")
    coco.add_argument("--keypoints", type=Path, nargs="+", default=[], help="their files person_keypoints_*.json")
    coco.add_argument("--ids", type=Path, help="only the photos of this list")
    coco.add_argument("--nobody", type=Path, help="another new folder, for the photos without people")

    clothing = add("clothing", _clothing, "Clothing Co-Parsing: people in the street, and what their clothes tell")
    clothing.add_argument("--photos", type=Path, required=True, help="its folder photos, beside label_list.mat")
    clothing.add_argument("--annotations", type=Path, required=True, help="its folder annotations/pixel-level")
    clothing.add_argument("--ids", type=Path, help="only the photos of this list")

    nobody = add("nobody", _nobody, "any photos that show nobody")
    nobody.add_argument("--photos", type=Path, required=True, help="a folder of photos")
    nobody.add_argument("--sources", type=Path, help="only the photos of this table of id, repo and path")
    nobody.add_argument("--val-ids", type=Path, help="list of the photos that are for measuring false people")


def _run(prepare: Callable[[argparse.Namespace], Sequence[Report]], options: argparse.Namespace) -> None:
    try:
        reports = prepare(options)
    except PrepareError as error:
        sys.exit(f"error: {error}")
    print(*reports, sep="\n")
    if not all(report.complete for report in reports):
        sys.exit(1)


def _pascal(options: argparse.Namespace) -> Sequence[Report]:
    from train.prepare.pascal import prepare  # scipy: only when it is asked for

    return [prepare(options.photos, options.annotations, options.out, options.numbering, options.split)]


def _coco(options: argparse.Namespace) -> Sequence[Report]:
    from train.prepare.coco import prepare

    return prepare(options.images, options.annotations, options.out, options.keypoints, options.ids, options.nobody)


def _clothing(options: argparse.Namespace) -> Sequence[Report]:
    from train.prepare.clothing import prepare  # scipy: only when it is asked for

    return [prepare(options.photos, options.annotations, options.out, options.ids)]


def _nobody(options: argparse.Namespace) -> Sequence[Report]:
    from train.prepare.nobody import prepare

    return [prepare(options.photos, options.out, options.sources, options.val_ids)]
