"""The command line: `python -m hierseg archive`."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset as ds

from hierseg import __version__
from hierseg.archive.export import EXPORTS
from hierseg.archive.places import ArchiveError, Place
from hierseg.archive.plan import Plan, Settings
from hierseg.archive.run import run
from hierseg.archive.sources import Source
from hierseg.batch import best_checkpoint
from hierseg.cli import at_least_1, share
from hierseg.errors import UserError
from hierseg.network import checkpoint

_NAMED = 10  # skipped files or failed photos listed in a message


def main(arguments: list[str]) -> int:
    """Segment an archive of photos, resume one, or export its rows.

    Args:
        arguments: The command line after "archive".

    Returns:
        Exit status: 0 if every photo was segmented, 1 if some failed, 2 if the run could not start or continue, 130 if
        it was interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        return _export(options) if options.export else _segment(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped. Finished photos are kept: run the same command to resume.", file=sys.stderr)
        return 130


def _segment(options: argparse.Namespace) -> int:
    source, out = Source(options.source), Place.of(options.out)
    path = checkpoint.find(options.checkpoint or best_checkpoint(checkpoint.default_folder()))
    card = checkpoint.read_card(path)
    files = {file.name: file.read_bytes() for file in (path, path.with_suffix(".onnx")) if file.is_file()}
    settings = Settings(
        source=source.name,
        checkpoint=path.stem,
        sha256=hashlib.sha256(files[path.name]).hexdigest(),
        threshold=card.inference.threshold if options.threshold is None else options.threshold,
        certainty=options.certainty,
        overlays=options.overlays,
        version=__version__,
    )
    with _alone(out):
        plan, skipped = Plan.begin(out, source, settings, card.hierarchy.to_dict())
        if skipped:
            _name(f"Skipped, not photos by file name ({len(skipped)})", skipped)
        run(plan, source, settings, files, options.workers, options.ray_address)
        failed = plan.check()
    print(f"{plan.about['photos'] - failed} of {plan.about['photos']} photos segmented into {out.name}")
    if failed:
        rows = plan.rows().scanner(["path", "error"], filter=ds.field("error").is_valid()).head(_NAMED).to_pylist()
        _name(f"Failed ({failed})", [f"{row['path']}: {row['error']}" for row in rows], failed)
    return 1 if failed else 0


def _export(options: argparse.Namespace) -> int:
    plan = Plan(Place.of(options.source))
    left = plan.todo()
    if left:
        print(f"{len(left)} of {len(plan)} shards are not done yet; their photos are left out.", file=sys.stderr)
    try:
        EXPORTS[options.export](plan, Path(options.out))
    except OSError as error:
        raise ArchiveError(f"{options.out} cannot be written: {error}") from error
    return 0


@contextlib.contextmanager
def _alone(out: Place) -> Iterator[None]:
    """Lock a folder against other runs. Object stores have no locks: there, two runs do the same work twice."""
    if not out.is_local or os.name == "nt":
        yield
        return
    import fcntl  # Windows has none

    try:
        Path(out.path).mkdir(parents=True, exist_ok=True)
        lock = Path(out.path, "_lock").open("w")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ArchiveError(f"{out.name} cannot be written: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArchiveError(f"Another run is using {out.name}. Wait for it, or stop it.") from error
        for part in Path(out.path).glob(".photos-*"):  # left by a killed worker
            part.unlink(missing_ok=True)
        yield


def _name(what: str, each: list[str], count: int | None = None) -> None:
    print(f"{what}:", *each[:_NAMED], sep="\n  ", file=sys.stderr)
    if (count or len(each)) > _NAMED:
        print("  ...", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hierseg archive",
        description="Segment an archive of photos into Parquet, one row per photo. After a stop or crash, the same "
        "command resumes the run. Places are paths, or URIs such as s3://bucket/folder.",
    )
    parser.add_argument(
        "source",
        help="photos: a folder, tars (WebDataset), Parquet files with a column of bytes, or a list of paths (.txt); "
        "with --export, an archive",
    )
    parser.add_argument("--out", required=True, help="folder of the archive; with --export, the file or folder written")
    parser.add_argument("--export", choices=EXPORTS, help="turn an archive into a file, or into a folder of masks")
    parser.add_argument("--checkpoint", help="a name, such as ftm, or a file (default: the best on validation)")
    parser.add_argument("--threshold", type=share, help="below this a pixel is background (default: the checkpoint's)")
    parser.add_argument(
        "--certainty", type=share, default=0.0, help="below this a pixel stops higher in the tree (default: never)"
    )
    parser.add_argument("--overlays", action="store_true", help="store each photo with coloured parts, as a JPEG")
    parser.add_argument("--workers", type=at_least_1, help="number of processes (default: one per core)")
    parser.add_argument("--ray-address", help="a Ray cluster, such as auto (default: start Ray on this machine)")
    return parser
