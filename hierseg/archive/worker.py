"""A worker: it loads a network and segments the photos of shards."""

from __future__ import annotations

import dataclasses
import io
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from hierseg.archive.places import Place
from hierseg.archive.plan import Settings, shard_name
from hierseg.archive.sources import Source
from hierseg.photo import PhotoError, open_photo
from hierseg.predictor import Area, Predictor
from hierseg.tree import Hierarchy
from hierseg.visualize import encoded, indexed_png, overlay

_Item = TypeVar("_Item")


def schema(hierarchy: Hierarchy) -> pa.Schema:
    """Return the columns of a row.

    `path`, `width` and `height` are the photo's; `areas` holds a `predictor.Area` for each node; `mask` is an indexed
    PNG of label numbers, of the photo's size; `overlay` is a JPEG, or null if not requested; `error` is a sentence, or
    null. If there is an error, all columns except `path`, `checkpoint` and `version` are null.
    """
    area = pa.struct([(field.name, pa.float32()) for field in dataclasses.fields(Area)])
    texts, numbers = ("path", "checkpoint", "version", "error"), ("width", "height")
    return pa.schema(
        [(name, pa.string()) for name in texts]
        + [(name, pa.int32()) for name in numbers]
        + [("areas", pa.struct([(node, area) for node in hierarchy.nodes]))]
        + [("mask", pa.binary()), ("overlay", pa.binary())]
    )


class Worker:
    """A network in its own process."""

    def __init__(self, settings: Settings, source: Source, out: Place) -> None:
        """Store the settings; only `load` may fail."""
        self._settings = settings
        self._source = source
        self._out = out

    def load(self, checkpoint: dict[str, bytes]) -> None:
        """Load the network.

        Args:
            checkpoint: The content of the checkpoint's files, by name: this may be another machine.

        Raises:
            CheckpointError: The checkpoint cannot be used here.
        """
        cv2.setNumThreads(1)  # other workers have the other cores
        os.environ["OMP_NUM_THREADS"] = "1"
        with tempfile.TemporaryDirectory() as folder:
            for name, content in checkpoint.items():
                Path(folder, name).write_bytes(content)
            self._predictor = Predictor(Path(folder, f"{self._settings.checkpoint}.safetensors"))
        self._schema = schema(self._predictor.card.hierarchy)

    def segment(self, shard: int, photos: pa.Table) -> int:
        """Segment a shard's photos and write their rows.

        Args:
            shard: Number of the shard.
            photos: See `sources.PHOTOS`.

        Returns:
            How many photos failed.

        Raises:
            OSError: The storage does not answer.
        """
        return self.write(shard, self.rows(photos))

    def rows(self, photos: pa.Table) -> list[dict[str, Any]]:
        """Segment photos; see `schema` for their rows."""
        names = photos["photo"].to_pylist()
        return [self._row(*each) for each in zip(names, _one_ahead(self._source.read(photos)), strict=True)]

    def write(self, shard: int, rows: list[dict[str, Any]]) -> int:
        """Write a shard's rows; return how many photos failed."""
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, self._schema), buffer)
        (self._out / shard_name(shard)).write(buffer.getvalue())
        return sum(row["error"] is not None for row in rows)

    def _row(self, name: str, content: bytes | PhotoError) -> dict[str, Any]:
        row = unsegmented(name, self._settings)
        try:
            if isinstance(content, PhotoError):
                raise content
            return row | self._segmented(content)
        except PhotoError as error:
            return row | {"error": str(error)}
        except Exception as error:  # a bug here must not stop the other photos
            return row | {"error": f"The photo could not be segmented: {type(error).__name__}, {error}."}

    def _segmented(self, content: bytes) -> dict[str, Any]:
        photo = open_photo(content)
        prediction = self._predictor.predict(photo)
        decoding = (self._settings.threshold, self._settings.certainty)
        labels = prediction.decoded(*decoding).labels
        tree = prediction.hierarchy
        picture = Image.fromarray(overlay(photo, labels, tree)) if self._settings.overlays else None
        return {
            "height": photo.shape[0],
            "width": photo.shape[1],
            "areas": {node: dataclasses.asdict(area) for node, area in prediction.areas(*decoding).items()},
            "mask": indexed_png(labels, tree),
            "overlay": encoded(picture, "JPEG", quality=92) if picture else None,
        }


def unsegmented(name: str, settings: Settings) -> dict[str, Any]:
    """Return the row of a photo that is not segmented yet."""
    return {"path": name, "checkpoint": settings.checkpoint, "version": settings.version, "error": None}


def _one_ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """Yield the items, and fetch the next while one is in use: object stores are slow."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = reader.submit(next, items, None)
            yield item
