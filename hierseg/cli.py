"""The command line: `python -m hierseg PHOTO_OR_FOLDER... --checkpoint ftm --level parts --out DIR`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from tqdm import tqdm

from hierseg import __version__
from hierseg.network import checkpoint
from hierseg.network.checkpoint import CheckpointError, write_atomically
from hierseg.photo import PhotoError, open_photo
from hierseg.tree import HierarchyError
from hierseg.visualize import indexed_png, overlay

if TYPE_CHECKING:
    from hierseg.predictor import Predictor

PHOTO_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"}


def main(arguments: list[str] | None = None) -> int:
    """Segment photos and write overlay, indexed mask and JSON for each.

    Args:
        arguments: The command line after the program's name; None for the process's own.

    Returns:
        Exit status: 0 if every photo was segmented, 1 if some failed, 2 if nothing could be started.
    """
    options = _parser().parse_args(arguments)
    photos = list(_photos(options.photos))
    if not photos:
        print("error: no photos found in what was named.", file=sys.stderr)
        return 2

    from hierseg.predictor import Predictor  # torch takes seconds; --help and wrong arguments should not

    try:
        predictor = Predictor(options.checkpoint or _best(checkpoint.default_folder()))
        predictor.card.hierarchy.level_depth(options.level)
        options.out.mkdir(parents=True, exist_ok=True)
    except (CheckpointError, HierarchyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    failed: list[str] = []
    for source, target in tqdm(list(_targets(photos, options.out)), unit="photo", disable=None):
        try:
            _segment(predictor, source, target, options)
        except (PhotoError, OSError) as error:
            failed.append(f"{source}: {error}")
    print(f"{len(photos) - len(failed)} of {len(photos)} photos segmented into {options.out}")
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def _best(folder: Path) -> Path:
    """Return the checkpoint of a folder that is best on validation."""
    from hierseg.predictor import best_first

    known = checkpoint.available(folder)
    if not known:
        raise CheckpointError(f"There is no checkpoint in {folder}. Name a file with --checkpoint.")
    best, *_ = best_first({name: checkpoint.read_card(path) for name, path in known.items()})
    return known[best]


def _segment(predictor: Predictor, source: Path, target: Path, options: argparse.Namespace) -> None:
    photo = open_photo(source)
    prediction = predictor.predict(photo)
    tree = predictor.card.hierarchy
    labels = prediction.at_level(options.level, options.threshold, options.certainty)
    picture = Image.fromarray(overlay(photo, labels, tree, options.opacity))
    picture.save(f"{target}-overlay.jpg", quality=92)
    write_atomically(Path(f"{target}-mask.png"), indexed_png(labels, tree))
    summary = {
        "photo": source.name,
        "checkpoint": predictor.name,
        "level": options.level,
        "version": __version__,
        **prediction.summary(options.threshold, options.certainty),
    }
    write_atomically(Path(f"{target}.json"), (json.dumps(summary, indent=1) + "\n").encode())


def _photos(named: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield (photo, its path below what was named) for files as given and for photos anywhere in folders."""
    for path in named:
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                if file.suffix.lower() in PHOTO_ENDINGS and file.is_file():
                    yield file, file.relative_to(path)
        else:
            yield path, Path(path.name)


def _targets(photos: list[tuple[Path, Path]], out: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (photo, path of its results without ending); no two photos share one."""
    taken: set[Path] = set()
    for source, below in photos:
        target = out / below.with_suffix("")
        number = 2
        while target in taken:
            target = out / below.with_name(f"{below.stem}-{number}")
            number += 1
        taken.add(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        yield source, target


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hierseg", description="Segment people in photos along a tree.")
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO_OR_FOLDER")
    parser.add_argument("--checkpoint", help="a name, such as ftm, or a file (default: the one best on validation)")
    parser.add_argument("--level", default="parts", help="body, upper-lower or parts (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("hierseg-out"), help="where to write (default: %(default)s)")
    parser.add_argument("--opacity", type=_share, default=0.55, help="of the colours, 0 to 1 (default: %(default)s)")
    parser.add_argument("--threshold", type=_share, help="below this a pixel is background (default: the checkpoint's)")
    parser.add_argument(
        "--certainty", type=_share, default=0.0, help="below this a pixel stops higher in the tree (default: never)"
    )
    parser.add_argument("--version", action="version", version=f"hierseg {__version__}")
    return parser


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be 0 to 1, not {text}")
    return value
