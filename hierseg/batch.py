"""Segment photos and folders of photos, and write the results: the work of `python -m hierseg`."""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from hierseg import __version__
from hierseg.files import PHOTO_ENDINGS, files_below, own_path, write_atomically
from hierseg.network import checkpoint
from hierseg.network.checkpoint import CheckpointError
from hierseg.photo import PhotoError, open_photo
from hierseg.predictor import Predictor, best_first
from hierseg.risk import RiskError, certainty_for
from hierseg.tree import HierarchyError
from hierseg.visualize import encoded, indexed_image, overlay

SOFTWARE = "hierseg"  # the mark in every result
_NAMED = 10  # skipped files listed in a message
_RESULTS = ("-overlay.jpg", "-mask.png", ".json")  # of each photo


def segment_all(options: argparse.Namespace) -> int:
    """Segment photos and write overlay, indexed mask and JSON for each.

    In a folder, photos are recognised by their endings. Hidden files, results of earlier runs and files below `--out`
    are left out. Files that hierseg did not write are overwritten only with `--overwrite`.

    Args:
        options: Options from `hierseg.cli`.

    Returns:
        Exit status: 0 if every photo was segmented, 1 if some failed, 2 if the run could not start.
    """
    photos, skipped = _photos(options.photos, options.out)
    if skipped:
        more = f" and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
        listed = ", ".join(map(str, skipped[:_NAMED]))
        count = "1 file was" if len(skipped) == 1 else f"{len(skipped)} files were"
        print(f"{count} skipped, not photos by file name: {listed}{more}", file=sys.stderr)
    if not photos:
        print("error: no photos found.", file=sys.stderr)
        return 2

    try:
        predictor = Predictor(options.checkpoint or best_checkpoint(checkpoint.default_folder()))
        predictor.card.hierarchy.level_depth(options.level)
        if options.threshold is not None:
            predictor = predictor.using(threshold=options.threshold)
        certainty = options.certainty if options.risk is None else certainty_for(predictor.risk, options.risk)
        options.out.mkdir(parents=True, exist_ok=True)
    except (CheckpointError, HierarchyError, RiskError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2

    failed: list[str] = []
    for source, target in tqdm(_targets(photos, options.out), unit="photo", disable=None):
        try:
            if not options.overwrite:
                _require_own(target)
            _segment(predictor, source, target, options, certainty)
        except (PhotoError, OSError) as error:
            failed.append(f"{source}: {error}")
    print(f"{len(photos) - len(failed)} of {len(photos)} photos segmented into {options.out}")
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    return 1 if failed else 0


def best_checkpoint(folder: Path) -> Path:
    """Return the checkpoint in a folder that is best on validation."""
    known = checkpoint.available(folder)
    cards = {}
    for name, path in known.items():
        try:
            cards[name] = checkpoint.read_card(path)
        except CheckpointError as error:
            print(f"left out: {error}", file=sys.stderr)
    if not cards:
        raise CheckpointError(f"There is no checkpoint in {folder}. Name a file with --checkpoint.")
    return known[best_first(cards)[0]]


def _segment(predictor: Predictor, source: Path, target: Path, options: argparse.Namespace, certainty: float) -> None:
    photo = open_photo(source)
    prediction = predictor.predict(photo)
    tree = predictor.card.hierarchy
    labels = prediction.at_level(options.level, certainty=certainty)
    picture = Image.fromarray(overlay(photo, labels, tree, options.opacity))
    mark = PngInfo()
    mark.add_text("Software", SOFTWARE)
    summary = {
        "software": SOFTWARE,
        "photo": source.as_posix(),
        "checkpoint": predictor.name,
        "level": options.level,
        "version": __version__,
        **({} if options.risk is None else {"risk": options.risk}),
        **prediction.summary(certainty=certainty),
    }
    contents = (
        encoded(picture, "JPEG", quality=92, comment=SOFTWARE),
        encoded(indexed_image(labels, tree), "PNG", pnginfo=mark),
        (json.dumps(summary, indent=1) + "\n").encode(),
    )
    for file, content in zip(_results(target), contents, strict=True):
        write_atomically(file, content)


def _results(target: Path) -> list[Path]:
    return [target.with_name(target.name + ending) for ending in _RESULTS]


def _require_own(target: Path) -> None:
    """Check that only files written by hierseg would be overwritten."""
    for file in _results(target):
        if os.path.lexists(file) and not _is_own(file):
            raise OSError(
                f"{file} exists and is not from hierseg. Choose another folder with --out, or pass --overwrite."
            )


def _is_own(file: Path) -> bool:
    """Tell whether hierseg wrote a file: each result has a mark inside, which editing removes."""
    try:
        if file.suffix == ".json":
            return _summary(file).get("software") == SOFTWARE
        with Image.open(file, formats=("JPEG", "PNG")) as image:
            return image.info.get("Software" if image.format == "PNG" else "comment") in (SOFTWARE, SOFTWARE.encode())
    except Exception:  # a damaged file is not ours
        return False


def _summary(file: Path) -> dict[str, Any]:
    """Read a JSON file that hierseg may have written; empty if it cannot be."""
    try:
        return dict(json.loads(file.read_bytes())) if file.stat().st_size < 1_000_000 else {}  # ours is a few kilobytes
    except (OSError, ValueError, TypeError, RecursionError):
        return {}


def _photos(named: list[Path], out: Path) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Find photos: the named files, and files with a photo's ending below the named folders.

    Returns:
        (photo, its path relative to the named folder) for each, and the files that were skipped. Hidden files and
        hierseg's own are in neither list. Links to folders are followed; each folder is searched once.
    """
    photos: dict[str, tuple[Path, Path]] = {}  # by absolute path, so that none comes twice
    skipped: list[Path] = []
    for path in named:
        if not path.is_dir():
            photos.setdefault(os.path.abspath(path), (path, Path(path.name)))
            continue
        for file in sorted(files_below(path, out)):
            if file.suffix.lower() not in PHOTO_ENDINGS or not file.is_file():
                if not (file.is_file() and _is_own(file)):
                    skipped.append(file)
            elif not (file.name.endswith(_RESULTS) and _is_own(file)):
                photos.setdefault(os.path.abspath(file), (file, file.relative_to(path)))
    return list(photos.values()), skipped


def _targets(photos: list[tuple[Path, Path]], out: Path) -> list[tuple[Path, Path]]:
    """Return (photo, path of its results without endings); no two photos share a path, not even with earlier runs."""
    taken: set[str] = set()
    return [
        (source, own_path(out, below, taken, functools.partial(_is_anothers, source=source)))
        for source, below in photos
    ]


def _is_anothers(target: Path, source: Path) -> bool:
    """Tell whether `target` holds the results of another photo."""
    told = _summary(target.with_name(f"{target.name}.json"))
    return told.get("software") == SOFTWARE and told.get("photo") != source.as_posix()
