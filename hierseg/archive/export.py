"""Export an archive's rows as CSV, COCO's JSON or PNG."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from hierseg.archive.plan import Plan
from hierseg.files import own_path
from hierseg.predictor import Area
from hierseg.tree import Hierarchy
from hierseg.visualize import readable

_ROWS = 64  # in memory at a time


def to_csv(plan: Plan, out: Path) -> None:
    """Write one line for each photo: its size, the figures of each node, and its error."""
    nodes = Hierarchy.from_dict(plan.about["tree"], source=plan.out.path).nodes
    figures = [field.name for field in dataclasses.fields(Area)]
    texts = ["path", "width", "height", "checkpoint", "version", "error"]
    with _written(out, newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*texts, *(f"{node}_{figure}" for node in nodes for figure in figures)])
        for row in _rows(plan, [*texts, "areas"]):
            areas = row["areas"] or {}
            values = [areas[node][figure] if areas else None for node in nodes for figure in figures]
            writer.writerow([*(row[text] for text in texts), *values])


def to_coco(plan: Plan, out: Path) -> None:
    """Write COCO's JSON: an image for each segmented photo, an annotation for each node found in it, masks as RLE."""
    tree = Hierarchy.from_dict(plan.about["tree"], source=plan.out.path)
    categories = [
        {"id": node + 1, "name": readable(name), "supercategory": readable(tree.nodes[parent]) if parent >= 0 else ""}
        for node, (name, parent) in enumerate(zip(tree.nodes, tree.parents, strict=True))
    ]
    with _written(out) as file:
        file.write(f'{{"categories": {json.dumps(categories)},\n"images": [')
        for number, row in enumerate(_segmented(plan, ["path", "width", "height"])):
            image = {"id": number, "file_name": row["path"], "width": row["width"], "height": row["height"]}
            file.write(f"{',' if number else ''}\n{json.dumps(image)}")
        file.write('],\n"annotations": [')
        count = 0
        for number, row in enumerate(_segmented(plan, ["mask", "areas"])):
            for annotation in _annotations(row, tree):
                file.write(f"{',' if count else ''}\n{json.dumps({'id': count + 1, 'image_id': number, **annotation})}")
                count += 1
        file.write("]}\n")


def to_png(plan: Plan, out: Path) -> None:
    """Write each photo's mask into a folder, and its overlay if the archive has one."""
    taken: set[str] = set()
    for row in _segmented(plan, ["path", "mask", "overlay"]):
        target = own_path(out, PurePosixPath(row["path"].replace("://", "/")), taken)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.with_name(f"{target.name}-mask.png").write_bytes(row["mask"])
        if row["overlay"]:
            target.with_name(f"{target.name}-overlay.jpg").write_bytes(row["overlay"])


EXPORTS: dict[str, Callable[[Plan, Path], None]] = {"coco": to_coco, "csv": to_csv, "png": to_png}


def _annotations(row: dict[str, Any], tree: Hierarchy) -> Iterator[dict[str, Any]]:
    with Image.open(io.BytesIO(row["mask"]), formats=("PNG",)) as image:
        labels = np.asarray(image)
    for node, members in enumerate(tree.membership.T):
        found = members[labels]
        if not found.any():
            continue
        encoded = coco_mask.encode(np.asfortranarray(found, np.uint8))
        yield {
            "category_id": node + 1,
            "segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode()},
            "area": int(coco_mask.area(encoded)),
            "bbox": coco_mask.toBbox(encoded).tolist(),
            "iscrowd": 0,
            "score": row["areas"][tree.nodes[node]]["confidence"],
        }


def _rows(plan: Plan, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Yield rows in the plan's order."""
    rows = plan.rows()
    with tqdm(total=rows.count_rows(), unit=" photos", disable=None) as bar:
        for batch in rows.to_batches(columns=columns, batch_size=_ROWS):
            yield from batch.to_pylist()
            bar.update(len(batch))


def _segmented(plan: Plan, columns: list[str]) -> Iterator[dict[str, Any]]:
    return (row for row in _rows(plan, [*columns, "error"]) if row["error"] is None)


@contextlib.contextmanager
def _written(path: Path, newline: str | None = None) -> Iterator[IO[str]]:
    """Open a file for writing; it gets its name once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8", newline=newline) as file:
        yield file
    os.replace(part, path)
