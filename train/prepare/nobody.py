"""Photos without people, from which a network learns what is not a person: `python -m train prepare nobody`."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from hierseg.photo import open_photo, read_file
from train.prepare.common import DataFolder, Fault, PrepareError, Report, read_list, small_jpeg


def prepare(photos: Path, out: Path, sources: Path | None = None, val_ids: Path | None = None) -> Report:
    """Write a folder of shrunk photos without masks. Of identical files, only the first is used.

    Args:
        photos: A folder of photos without people, at any depth.
        out: A new or empty folder. It gets JPEGImages/ID.jpg, train_id.txt and, with `val_ids`, val_id.txt.
        sources: A table with a header and the columns id, repo and path, separated by tabs: only the photos
            photos/REPO/PATH are used, under these ids. A path may hold wildcards. None to use all photos; an id is then
            the path without its ending, with _ in place of / and blanks.
        val_ids: A list of ids, one per line, of photos to count false people in, not to train on.

    Returns:
        What was written, what was left out and why.

    Raises:
        PrepareError: An input is wrong, or the output folder is not empty or cannot be written.
    """
    found = _named_photos(photos) if sources is None else _listed_photos(photos, sources)
    if not found:
        raise PrepareError(f"{sources or photos} holds no photo.")
    validation = set(read_list(val_ids)) if val_ids else set()
    folder = DataFolder(out, None, ("train", "val") if validation else ("train",))
    if unknown := validation - {name for name, _ in found}:
        folder.faults["photos for validation that are not there"] = sorted(unknown)
    expected = Counter[str]()
    names: set[str] = set()
    first: dict[bytes, str] = {}
    for name, path in tqdm(found, unit="photo", disable=None):
        side = "val" if name in validation else "train"
        expected[side] += 1
        with folder.attempt(name):
            if path is None:
                raise Fault("photos that are not there")
            if name in names:
                raise Fault("photos with the id of another", str(path))
            names.add(name)
            content = read_file(path)
            photo = open_photo(content)
            twin = first.setdefault(hashlib.sha256(content).digest(), name)
            if twin != name:
                folder.left_out["photos with the same bytes as another, left out"].append(f"{name}: {twin}")
                expected[side] -= 1
                continue
            folder.add(side, name, small_jpeg(photo))
    return folder.finish(expected)


def _named_photos(photos: Path) -> list[tuple[str, Path | None]]:
    found: list[tuple[str, Path | None]] = []
    for path in sorted(photos.rglob("*")):
        inside = path.relative_to(photos)
        if path.is_file() and not any(part.startswith(".") for part in inside.parts):
            found.append(("_".join(inside.with_suffix("").as_posix().replace("/", " ").split()), path))
    return found


def _listed_photos(photos: Path, sources: Path) -> list[tuple[str, Path | None]]:
    try:
        rows = [line.split("\t")[:3] for line in sources.read_text(encoding="utf-8-sig").splitlines()[1:]]
        return [(name, min((photos / repo).glob(path), default=None)) for name, repo, path in rows]
    except (OSError, ValueError, NotImplementedError) as error:  # glob raises the third if a path is absolute
        raise PrepareError(
            f"{sources} cannot be read ({error}). It must be a table of id, repo and path, separated by tabs."
        ) from error
