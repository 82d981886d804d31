"""The plan of a run: its settings, its shards, and which of them are done."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import threading
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import FileType

from hierseg.archive.places import ArchiveError, Place
from hierseg.archive.sources import Source

# Readers of Parquet folders skip names that begin with "_".
_ARCHIVE = "_archive.json"  # settings and tree; written last, as a sign that the plan is complete
_PLAN = "_plan.parquet"  # all photos; each of its row groups is a shard
_SHARD = re.compile(r"photos-(\d+)\.parquet")
_LEAST, _MOST = 16, 1000  # photos per shard: few enough to repeat after a crash, and to give every worker some
_MOST_PICTURES = 100  # with overlays, as a worker holds the rows of a shard in memory


@dataclasses.dataclass(frozen=True)
class Settings:
    """What determines the rows; the same for all runs that work on an archive.

    Attributes:
        source: Name of the source, without secrets.
        checkpoint: Name of the checkpoint.
        sha256: Checksum of the checkpoint's file.
        threshold: Below this a pixel is background.
        certainty: Below this a pixel stops higher in the tree; 0 for never.
        overlays: Whether rows hold the photo with coloured parts.
        version: Version of hierseg.
    """

    source: str
    checkpoint: str
    sha256: str
    threshold: float
    certainty: float
    overlays: bool
    version: str


class Plan:
    """All shards of an archive.

    Attributes:
        out: Folder of the archive.
        about: Content of `_archive.json`: the settings, the number of photos and the tree.
    """

    def __init__(self, out: Place) -> None:
        """Open the plan of an existing archive.

        Raises:
            ArchiveError: There is none, or it cannot be read.
        """
        self.out = out
        self._reading = threading.Lock()
        try:
            self._written = (out / _ARCHIVE).read()
            self.about: dict[str, Any] = json.loads(self._written)
            self._plan = pq.ParquetFile(io.BytesIO((out / _PLAN).read()))
        except FileNotFoundError as error:
            raise ArchiveError(f"There is no archive in {out.name}.") from error
        except (OSError, ValueError) as error:
            raise ArchiveError(f"The archive in {out.name} cannot be read: {error}") from error

    @staticmethod
    def begin(out: Place, source: Source, settings: Settings, tree: dict[str, Any]) -> tuple[Plan, list[str]]:
        """Open an archive's plan, or create it.

        Args:
            out: Folder of the archive.
            source: The photos; they are listed only if there is no plan yet.
            settings: What determines the rows.
            tree: The tree, from `Hierarchy.to_dict`.

        Returns:
            The plan, and the files of the source that were skipped.

        Raises:
            ArchiveError: There are no photos, the existing plan has other settings, or it cannot be read or written.
        """
        skipped: list[str] = []
        try:
            if (out / _ARCHIVE).kind() == FileType.NotFound:
                photos, skipped = source.photos(out)
                if not len(photos):
                    raise ArchiveError(f"There are no photos in {settings.source}.")
                buffer = io.BytesIO()
                most = _MOST_PICTURES if settings.overlays else _MOST
                pq.write_table(photos, buffer, row_group_size=min(max(len(photos) // 1000, _LEAST), most))
                (out / _PLAN).write(buffer.getvalue())
                about = {**dataclasses.asdict(settings), "photos": len(photos), "tree": tree}
                (out / _ARCHIVE).write((json.dumps(about, indent=1) + "\n").encode())
        except OSError as error:
            raise ArchiveError(f"{out.name} cannot be written: {error}") from error
        plan = Plan(out)
        for key, value in dataclasses.asdict(settings).items():
            if plan.about.get(key) != value:
                raise ArchiveError(
                    f"{out.name} was started with another {key}: {plan.about.get(key)}, not {value}. "
                    "Choose another folder with --out, or use the same settings."
                )
        return plan, skipped

    def __len__(self) -> int:
        """Return the number of shards."""
        return int(self._plan.num_row_groups)

    def size(self, shard: int) -> int:
        """Return the number of photos in a shard."""
        return int(self._plan.metadata.row_group(shard).num_rows)

    def photos(self, shard: int) -> pa.Table:
        """Return a shard's photos, see `sources.PHOTOS`."""
        with self._reading:
            return self._plan.read_row_group(shard)

    def todo(self) -> list[int]:
        """Return the shards that are not done, in order."""
        done = {int(found[1]) for found in map(_SHARD.fullmatch, self.out.names()) if found}
        return [shard for shard in range(len(self)) if shard not in done]

    def rows(self) -> ds.Dataset:
        """Return the finished rows.

        Raises:
            ArchiveError: There are none.
        """
        shards = sorted(name for name in self.out.names() if _SHARD.fullmatch(name))
        if not shards:
            raise ArchiveError(f"Nothing is done yet in {self.out.name}.")
        return ds.dataset([(self.out / name).path for name in shards], filesystem=self.out.filesystem)

    def check(self) -> int:
        """Check that there is one row per photo.

        Returns:
            The number of rows with an error.

        Raises:
            ArchiveError: There are too few or too many rows, or another run started in the same place.
        """
        rows = self.rows()
        if (self.out / _ARCHIVE).read() != self._written or rows.count_rows() != self.about["photos"]:
            raise ArchiveError(
                f"{self.out.name} does not hold the rows of this run. Did another run start there at the same time? "
                "Choose an empty folder with --out."
            )
        return int(rows.count_rows(filter=ds.field("error").is_valid()))


def shard_name(shard: int) -> str:
    """Return the name of a shard's file."""
    return f"photos-{shard:06d}.parquet"
