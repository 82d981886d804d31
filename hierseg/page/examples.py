"""The example photos: which there are, in which order, and what is said of each, from the table of their README."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hierseg.files import is_hidden
from hierseg.visualize import readable


@dataclass(frozen=True)
class Example:
    """A photo that a visitor can click.

    Attributes:
        path: Its file.
        caption: A few words on what it shows.
    """

    path: Path
    caption: str


def read(folder: Path) -> list[Example]:
    """List the JPEG files of a folder, in the order of the table in its README.md; the page opens with the first.

    Args:
        folder: Where. Of the table, the columns `file` and `caption` are read. A photo that is not in it comes last,
            with its name for a caption.
    """
    photos = {path.name: path for path in sorted(folder.glob("*.jpg")) if not is_hidden(Path(path.name))}
    captions = {name: caption for name, caption in _table(folder / "README.md") if name in photos}
    captions |= {name: readable(path.stem).capitalize() for name, path in photos.items() if name not in captions}
    return [Example(photos[name], caption) for name, caption in captions.items()]


def _table(readme: Path) -> list[tuple[str, str]]:
    """Return the file and the caption of each row; none where there is no such table."""
    lines = readme.read_text(encoding="utf-8").splitlines() if readme.is_file() else []
    head, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")] or [[]]
    if not {"file", "caption"} <= set(head):
        return []
    return [(row[head.index("file")], row[head.index("caption")]) for row in rows if len(row) == len(head)]
