"""List and read the photos of a source: a folder, a list of paths, Parquet files or tars (WebDataset)."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSelector, FileType

from hierseg.archive.places import ArchiveError, Place, locate
from hierseg.files import PHOTO_ENDINGS, files_below, is_hidden
from hierseg.photo import MAX_BYTES, PhotoError, read_file

# One row per photo. photo: its name, for people. file: the file that holds it, as bytes, since names need not be
# Unicode. at, size: its offset and length in a tar; in a Parquet file, at is its row. error: why it cannot be read.
PHOTOS = pa.schema(
    [("photo", pa.string()), ("file", pa.binary()), ("at", pa.int64()), ("size", pa.int64()), ("error", pa.string())]
)
_Row = tuple[str, bytes, int | None, int | None, str | None]
_CHUNK = 10_000  # rows held as Python objects
_READERS = 16  # tars and Parquet files listed at a time
_BUFFER = 4_000_000  # bytes fetched at a time from a tar: a request to an object store takes longer than some photos
_BATCH = 16  # rows of a Parquet file in memory


class Source:
    """A source of photos."""

    def __init__(self, where: str) -> None:
        """Find a source.

        Args:
            where: A folder, a list of paths (.txt), a tar, a Parquet file or a photo; a path or a URI.

        Raises:
            ArchiveError: It does not exist or cannot be opened.
        """
        place = Place.of(where)
        try:
            kind = place.kind()
        except OSError as error:
            raise ArchiveError(f"{place.name} cannot be opened: {error}") from error
        if kind == FileType.NotFound:
            raise ArchiveError(f"{place.name} does not exist.")
        folder, _, name = place.path.rpartition("/")
        self.name = place.name
        self.root = place if kind == FileType.Directory else Place(place.filesystem, folder)
        self._file = None if kind == FileType.Directory else name

    def photos(self, out: Place) -> tuple[pa.Table, list[str]]:
        """List all photos.

        In a folder, the ending of a name tells photos, tars and Parquet files. Hidden files and files below `out` are
        left out.

        Args:
            out: Folder of the results.

        Returns:
            The photos by `PHOTOS`, always in the same order, and the files that were skipped.

        Raises:
            ArchiveError: A folder or the list cannot be read.
        """
        containers: list[str] = []
        skipped: list[str] = []
        rows = self._listed(out, containers, skipped)
        try:
            tables = [_table(rows)]
            while len(tables[-1]) == _CHUNK:
                tables.append(_table(rows))
            with ThreadPoolExecutor(_READERS) as pool:
                tables += pool.map(lambda name: _table(self._inside(name), None), containers)
        except OSError as error:
            raise ArchiveError(f"{self.name} cannot be read: {error}") from error
        return pa.concat_tables(tables), skipped

    def read(self, photos: pa.Table) -> Iterator[bytes | PhotoError]:
        """Read some photos.

        Args:
            photos: By `PHOTOS`.

        Returns:
            For each photo, the bytes of its file, or why it cannot be read.

        Raises:
            OSError: The storage does not answer.
        """
        for (file, is_whole), group in groupby(photos.to_pylist(), key=lambda row: (row["file"], row["at"] is None)):
            rows = list(group)
            name = os.fsdecode(file)
            if is_whole:
                yield from (PhotoError(row["error"]) if row["error"] else self._whole(name) for row in rows)
                continue
            left = len(rows)
            try:
                for content in self._parts(name, rows):
                    left -= 1
                    yield content
                if left:
                    raise OSError("it is shorter than when its photos were listed.")
            except (OSError, pa.ArrowException) as error:
                refusal = self._refusal(name, error)
                yield from [refusal] * left

    def _listed(self, out: Place, containers: list[str], skipped: list[str]) -> Iterator[_Row]:
        """Yield photos that are files; add tars and Parquet files to `containers`, and other files to `skipped`."""
        for name in self._names(out):
            ending = PurePosixPath(name).suffix.lower()
            if ending in (".tar", ".parquet"):
                containers.append(name)
            elif ending in PHOTO_ENDINGS or self._file:
                yield _shown(name), os.fsencode(name), None, None, None
            elif self.root.is_local and os.path.isdir(self._place(name).path):
                raise ArchiveError(f"The folder {_shown(name)} in {self.name} cannot be read. Change its permissions.")
            else:
                skipped.append(_shown(name))

    def _place(self, name: str) -> Place:
        if "://" in name:
            return Place(*locate(name))
        return Place.of(name) if os.path.isabs(name) else self.root / name

    def _names(self, out: Place) -> Iterator[str]:
        """Yield the names of files: as listed, or all below a folder, relative to it."""
        if self._file is not None:
            if not self._file.lower().endswith(".txt"):
                yield self._file
                return
            lines = (self.root / self._file).read().decode("utf-8-sig", "surrogateescape").split("\n")
            for line in dict.fromkeys(line.rstrip("\r") for line in lines if line.strip()):
                yield line if "://" in line else os.path.abspath(line)
        elif self.root.is_local:
            folder = Path(self.root.path)
            for path in files_below(folder, Path(out.path) if out.is_local else None):
                yield path.relative_to(folder).as_posix()
        else:
            skip = f"{out.path}/" if out.filesystem == self.root.filesystem else None
            found = self.root.filesystem.get_file_info(FileSelector(self.root.path, recursive=True))
            for path in sorted(each.path for each in found if each.type == FileType.File):
                name = path.removeprefix(self.root.path).lstrip("/")
                if not is_hidden(Path(name)) and not (skip and path.startswith(skip)):
                    yield name

    def _inside(self, name: str) -> Iterator[_Row]:
        """Yield the photos in a tar or Parquet file; if it is damaged, those that can be read and a row about it."""
        shown, file = _shown(name), os.fsencode(name)
        place = self._place(name)
        try:
            with place.filesystem.open_input_file(os.fsencode(place.path)) as opened:
                if name.lower().endswith(".tar"):
                    with tarfile.open(fileobj=io.BufferedReader(opened, _BUFFER), mode="r:") as tar:
                        for member in tar:
                            path = PurePosixPath(member.name)
                            if member.isreg() and path.suffix.lower() in PHOTO_ENDINGS and not is_hidden(Path(path)):
                                yield _shown(f"{name}/{path}"), file, member.offset_data, member.size, None
                else:
                    parquet = pq.ParquetFile(opened)
                    if _image_column(parquet.schema_arrow) is None:
                        yield shown, file, None, None, f"{shown} has no column of bytes that could hold photos."
                        return
                    for row in range(parquet.metadata.num_rows):
                        yield f"{shown}/{row}", file, row, None, None
        except (OSError, pa.ArrowException, tarfile.TarError) as error:
            yield shown, file, None, None, str(self._refusal(name, error))

    def _whole(self, name: str) -> bytes | PhotoError:
        place = self._place(name)
        try:
            if place.is_local:
                if os.path.exists(place.path) and not os.path.isfile(place.path):
                    return PhotoError(f"{_shown(name)} is not a file.")  # reading a pipe would never end
                return read_file(Path(place.path))
            with place.filesystem.open_input_stream(place.path) as stream:
                return _checked(name, stream.read(MAX_BYTES + 1))
        except PhotoError as error:
            if place.is_local and not os.path.lexists(self.root.path):
                raise FileNotFoundError(f"{self.root.path} is gone.") from error
            return error
        except OSError as error:
            return self._refusal(name, error)

    def _parts(self, name: str, rows: list[dict[str, Any]]) -> Iterator[bytes | PhotoError]:
        """Read photos in one tar, or consecutive rows of a Parquet file."""
        place = self._place(name)
        with place.filesystem.open_input_file(os.fsencode(place.path)) as file:
            if rows[0]["size"] is None:
                yield from map(_checked, (row["photo"] for row in rows), _parquet_rows(file, rows[0]["at"], len(rows)))
            else:
                for row in rows:
                    file.seek(row["at"])
                    yield _checked(row["photo"], file.read(min(row["size"], MAX_BYTES + 1)))

    def _refusal(self, name: str, error: Exception) -> PhotoError:
        """Return why a file cannot be read.

        Raises:
            OSError: The storage does not answer, so the file may be sound.
        """
        place = self._place(name)
        if place.kind() == FileType.NotFound:
            return PhotoError(f"{_shown(name)} does not exist.")
        reason = str(error).split("\n", 1)[0]
        return PhotoError(f"{_shown(name)} cannot be read: {reason}")


def _checked(name: str, content: bytes | None) -> bytes | PhotoError:
    if len(content or b"") > MAX_BYTES:
        return PhotoError(f"{name} is too large: more than {MAX_BYTES // 1_000_000} MB. Make it smaller first.")
    return content or b""


def _parquet_rows(file: Any, first: int, count: int) -> Iterator[bytes | None]:
    """Yield `count` rows of the column with photos."""
    parquet = pq.ParquetFile(file)
    column = _image_column(parquet.schema_arrow)
    at = 0
    for group in range(parquet.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        if at + rows <= first or at >= first + count:
            at += rows
            continue
        for batch in parquet.iter_batches(_BATCH, [group], [column]):
            values = batch.column(0)
            for value in values.field("bytes") if pa.types.is_struct(values.type) else values:
                if first <= at < first + count:
                    yield value.as_py()
                at += 1


def _image_column(schema: pa.Schema) -> str | None:
    """Return the first column of bytes, or of structs with a field "bytes", as in Hugging Face's data sets."""
    for field in schema:
        if pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            return str(field.name)
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return f"{field.name}.bytes"
    return None


def _table(rows: Iterator[_Row], most: int | None = _CHUNK) -> pa.Table:
    columns = list(zip(*islice(rows, most), strict=True)) or [()] * len(PHOTOS)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, PHOTOS, strict=True)], PHOTOS)


def _shown(name: str) -> str:
    """Return a name as valid Unicode."""
    return os.fsencode(name).decode(errors="backslashreplace")
