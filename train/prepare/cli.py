"""The command line of `python -m train prepare`: each source's options are the arguments of its `prepare`."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add the sources to the parser of `prepare`; each sets `run` to a function of the options."""
    sources = parser.add_subparsers(required=True, metavar="SOURCE", dest="source")

    def add(name: str, help: str) -> argparse.ArgumentParser:
        source = sources.add_parser(name, help=help)
        source.add_argument("--out", type=Path, required=True, help="new data folder")
        source.set_defaults(run=_run)
        return source

    pascal = add("pascal", "VOC 2010 and PASCAL-Part: six parts of the body")
    pascal.add_argument("--photos", type=Path, required=True, help="the folder VOC2010 of the development kit")
    pascal.add_argument("--annotations", type=Path, required=True, help="the folder Annotations_Part of PASCAL-Part")
    for name, help, other in (("--numbering", "label numbers", "papers"), ("--split", "id lists", "official")):
        choices = ("predecessor", other)
        pascal.add_argument(name, default=choices[0], choices=choices, help=f"{help} (default: %(default)s)")

    coco = add("coco", "COCO 2017: people as bodies, with strokes of their parts")
    coco.add_argument("--images", type=Path, nargs="+", required=True, help="train2017, val2017 or both")
    coco.add_argument("--annotations", type=Path, nargs="+", required=True, help="their files instances_*.json")
    coco.add_argument("--keypoints", type=Path, nargs="+", default=[], help="their files person_keypoints_*.json")
    coco.add_argument("--ids", type=Path, help="only the photos of this list")
    coco.add_argument("--nobody", type=Path, help="another new folder, for photos without people")

    clothing = add("clothing", "Clothing Co-Parsing: people in the street, with parts from their clothes")
    clothing.add_argument("--photos", type=Path, required=True, help="its folder photos, beside label_list.mat")
    clothing.add_argument("--annotations", type=Path, required=True, help="its folder annotations/pixel-level")
    clothing.add_argument("--ids", type=Path, help="only the photos of this list")

    nobody = add("nobody", "any photos without people")
    nobody.add_argument("--photos", type=Path, required=True, help="a folder of photos")
    nobody.add_argument("--sources", type=Path, help="only the photos in this table of id, repo and path")
    nobody.add_argument("--val-ids", type=Path, help="list of photos for validation: they count false people")


def _run(options: argparse.Namespace) -> None:
    values = {name: value for name, value in vars(options).items() if name not in ("run", "source")}
    found = import_module(f"train.prepare.{options.source}").prepare(**values)
    reports = found if isinstance(found, list) else [found]
    print(*reports, sep="\n")
    if not all(report.complete for report in reports):
        sys.exit(1)
