"""Files and folders on this machine or in an object store, through pyarrow's file systems."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from hierseg.errors import UserError
from hierseg.files import write_atomically


class ArchiveError(UserError):
    """A run cannot start or continue. The message says why."""


@dataclass(frozen=True)
class Place:
    """A folder or a file.

    Attributes:
        filesystem: The file system.
        path: The path in the file system.
    """

    filesystem: FileSystem
    path: str

    @staticmethod
    def of(where: str) -> Place:
        """Find a place.

        Args:
            where: A path, or a URI that pyarrow knows, such as s3://bucket/folder. A URI's options come after "?".

        Raises:
            ArchiveError: No file system supports this kind of URI.
        """
        if "://" not in where:
            return Place(LocalFileSystem(), os.path.abspath(where))
        path, mark, options = where.partition("?")
        return Place(*locate(path.rstrip("/"), mark + options))

    @property
    def is_local(self) -> bool:
        """Whether this is a path on this machine, network mounts included."""
        return isinstance(self.filesystem, LocalFileSystem)

    @property
    def name(self) -> str:
        """Name for messages, without a URI's options and secrets."""
        return self.path if self.is_local else f"{self.filesystem.type_name}://{self.path}"

    def __truediv__(self, name: str) -> Place:
        """Return the place of this name in this folder."""
        return Place(self.filesystem, f"{self.path.rstrip('/')}/{name}")

    def kind(self) -> FileType:
        """Tell whether this is a folder, a file or missing."""
        return self.filesystem.get_file_info(self.path).type

    def names(self) -> list[str]:
        """Return the names in this folder; none if it does not exist."""
        found = self.filesystem.get_file_info(FileSelector(self.path, allow_not_found=True))
        return [each.base_name for each in found]

    def read(self) -> bytes:
        """Return this file's content."""
        with self.filesystem.open_input_stream(self.path) as stream:
            return bytes(stream.read())

    def write(self, payload: bytes) -> None:
        """Write this file atomically."""
        if self.is_local:
            write_atomically(Path(self.path), payload)
        else:  # an object store shows a file once it is closed
            with self.filesystem.open_output_stream(self.path) as stream:
                stream.write(payload)


def locate(uri: str, options: str = "") -> tuple[FileSystem, str]:
    """Return the file system of a URI, and its path there.

    Args:
        uri: A URI whose path is not percent-encoded.
        options: Options of the file system, with a leading "?".

    Raises:
        ArchiveError: No file system supports this kind of URI.
    """
    scheme, rest = uri.split("://", 1)
    authority, slash, path = rest.partition("/")
    filesystem, root = _filesystem(f"{scheme}://{authority}", options)
    return filesystem, f"{root.rstrip('/')}{slash}{path}"


@functools.cache
def _filesystem(base: str, options: str) -> tuple[FileSystem, str]:
    try:
        filesystem, root = FileSystem.from_uri(f"{quote(base, safe=':/@%[]')}/{options}")
    except (pa.ArrowException, ValueError, OSError) as error:
        shown = base.rsplit("@", 1)[-1]  # without a secret key
        raise ArchiveError(f"{shown} cannot be opened: {error}") from error
    return filesystem, root
