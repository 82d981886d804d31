"""Find files in folders, write them atomically, and make their names portable."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

PHOTO_ENDINGS = {
    *(".jpg", ".jpeg", ".jpe", ".jif", ".jfif", ".pjpeg", ".pjp", ".mpo"),
    *(".heic", ".heif", ".hif", ".avif"),
    *(".png", ".apng", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
}

_SYSTEM_FOLDERS = {"__MACOSX", "@eaDir"}  # made by macOS in zip files, and by Synology disks
_LONGEST = 200  # bytes of a name; most systems allow 255, and an ending is added
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*\ud800-\udfff]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)


def is_hidden(path: Path) -> bool:
    """Tell whether a file or any folder in its path is hidden or a system's own, such as macOS's `._photo.jpg`.

    Args:
        path: Path relative to the folder that is searched.
    """
    return any(part.startswith(".") or part in _SYSTEM_FOLDERS for part in path.parts)


def files_below(folder: Path, out: Path | None) -> Iterator[Path]:
    """Yield the files in a folder and below it, except hidden ones and those in `out`.

    Links to folders are followed; each folder is searched once.

    Args:
        folder: The folder to search.
        out: Folder of the results; None if it is not on this machine.

    Returns:
        Files, folder by folder, sorted by name; then the folders that cannot be read.
    """
    unreadable: list[Path] = []
    seen = {folder.resolve(), *([out.resolve()] if out and out.is_dir() else [])}
    walk = os.walk(folder, onerror=lambda error: unreadable.append(Path(error.filename)), followlinks=True)
    for place, folders, names in walk:
        at = Path(place)
        yield from (at / name for name in sorted(names) if not is_hidden(Path(name)))
        inside = []
        for name in sorted(folders):
            real = (at / name).resolve()
            if not is_hidden(Path(name)) and real not in seen:
                seen.add(real)
                inside.append(name)
        folders[:] = inside
    yield from unreadable


def own_path(out: Path, photo: PurePath, taken: set[str], is_used: Callable[[Path], bool] = lambda _: False) -> Path:
    """Return where the results of a photo go below a folder: a path without an ending, which no other photo has.

    Args:
        out: The folder.
        photo: The photo's path below a folder of its own.
        taken: Paths of other photos, in lower case, as some file systems ignore case; the new one is added.
        is_used: Tells whether a path is another's for some other reason.
    """
    parts = [portable_name(part) for part in photo.with_suffix("").parts]
    target, number = out.joinpath(*parts), 2
    while str(target).casefold() in taken or is_used(target):
        target = out.joinpath(*parts[:-1], f"{parts[-1]}-{number}")
        number += 1
    taken.add(str(target).casefold())
    return target


def portable_name(name: str) -> str:
    r"""Return a file name that is valid on every system; `safeName` in the viewer does the same.

    Args:
        name: A name without its folder, and without an ending if one is to be added.

    Returns:
        The name without what Windows, macOS or Linux forbid: control characters, `<>:"/\|?*`, spaces and dots at the
        end, names of devices such as CON; at most 200 bytes long.
    """
    name = _FORBIDDEN.sub("_", name).encode()[:_LONGEST].decode(errors="ignore").rstrip(". ")
    return _DEVICES.sub(r"\1_", name, count=1) if _DEVICES.match(name) else name or "_"


def write_atomically(path: Path, payload: bytes, keep: Path | None = None) -> None:
    """Write a file atomically: at any moment, it is the whole old file or the whole new one.

    Args:
        path: Where to write; its folder is created if needed.
        payload: The content.
        keep: Where to keep the old file; between the two renames, only that copy exists.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        if keep is not None and path.exists():
            os.replace(path, keep)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
