"""Tests of train.prepare.nobody on photos of noise, and of the published lists of its photos."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierseg.photo import open_photo
from hierseg.tree import Hierarchy
from tests import REPOSITORY
from tests.data import write_ids
from tests.prepared import files, write_photo
from train.dataset import load_examples, read_ids
from train.prepare.common import LONGEST_SIDE, PrepareError, read_list
from train.prepare.nobody import prepare

SPLITS = REPOSITORY / "train" / "splits"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photos, one of them in a subfolder."""
    folder = tmp_path / "photos"
    for seed, name in enumerate(("b.jpg", "a.png", "rooms/my kitchen.webp")):
        write_photo(folder / name, 30 + seed, 50, seed)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "nobody"


def test_the_folder_loads_as_nobody_and_holds_nothing_else(photos: Path, out: Path, tree: Hierarchy) -> None:
    report = prepare(photos, out)
    names = ["a", "b", "rooms_my_kitchen"]
    assert report.complete
    assert read_ids(out, "train") == names
    assert files(out) == {*(f"JPEGImages/{name}.jpg" for name in names), "train_id.txt"}
    for example in load_examples(out, names, tree, masks=False):
        assert not example.label_map.any()


@given(st.integers(1, 1200), st.integers(1, 1200))
def test_photos_shrink_to_the_longest_side_and_never_grow(height: int, width: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photo(folder / "photos" / "a.jpg", height, width)
        prepare(folder / "photos", folder / "out")
        size = open_photo(folder / "out" / "JPEGImages" / "a.jpg").shape[:2]
    assert max(size) == min(LONGEST_SIDE, max(height, width))
    scale = max(size) / max(height, width)
    assert np.abs(np.array(size) - np.array([height, width]) * scale).max() <= max(0.5, 1 - min(height, width) * scale)


def test_a_list_sets_photos_apart_for_validation(photos: Path, out: Path, tmp_path: Path) -> None:
    write_ids(tmp_path, "val", ["b"], newline="\r\n")
    report = prepare(photos, out, val_ids=tmp_path / "val_id.txt")
    assert report.complete
    assert report.written == {"train": 2, "val": 1}
    assert read_ids(out, "val") == ["b"]
    assert read_ids(out, "train") == ["a", "rooms_my_kitchen"]


def test_a_photo_for_validation_that_is_not_there_is_a_fault(photos: Path, out: Path, tmp_path: Path) -> None:
    write_ids(tmp_path, "val", ["b", "z"])
    report = prepare(photos, out, val_ids=tmp_path / "val_id.txt")
    assert report.faults == {"photos for validation that are not there": ["z"]}
    assert report.written == report.expected == {"train": 2, "val": 1}


def test_the_same_bytes_are_taken_once(photos: Path, out: Path) -> None:
    (photos / "copy.jpg").write_bytes((photos / "b.jpg").read_bytes())
    report = prepare(photos, out)
    assert report.complete
    assert report.left_out == {"photos with the same bytes as another, left out": ["copy: b"]}
    assert "copy" not in read_ids(out, "train")


@pytest.mark.parametrize(
    ("damage", "kind", "told"),
    [
        (lambda photos: (photos / "notes.txt").write_text("none"), "damaged photos", "notes: "),
        (lambda photos: (photos / "c.jpg").write_bytes(b""), "damaged photos", "c: "),
        (lambda photos: write_photo(photos / "b.png", 9, 9, 7), "photos with the id of another", "b: "),
    ],
    ids=["no photo", "empty", "same name"],
)
def test_a_fault_is_told_and_the_rest_is_written(
    damage: Callable[[Path], object], kind: str, told: str, photos: Path, out: Path
) -> None:
    damage(photos)
    report = prepare(photos, out)
    ((found, (line,)),) = report.faults.items()
    assert (found, line[: len(told)]) == (kind, told)
    assert not report.complete
    assert read_ids(out, "train") == ["a", "b", "rooms_my_kitchen"]


def test_a_table_chooses_photos_and_names_them(photos: Path, out: Path, tmp_path: Path) -> None:
    table = tmp_path / "sources.tsv"
    table.write_bytes(
        b"id\trepo\tpath\r\nkitchen\trooms\tmy kitchen.webp\r\nany\t\t*/my*.webp\r\nno\tx/y\tz.jpg\tcats\r\n"
    )
    report = prepare(photos, out, sources=table)
    assert report.faults == {"photos that are not there": ["no"]}
    assert report.left_out == {"photos with the same bytes as another, left out": ["any: kitchen"]}
    assert files(out) == {"JPEGImages/kitchen.jpg", "train_id.txt"}


@pytest.mark.parametrize("content", [b"\xff", b"id\nb\n", b"id\trepo\tpath\nb\t\t\n", b"id\trepo\tpath\nb\tc\t/d\n"])
def test_a_damaged_table_is_refused(content: bytes, photos: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "sources.tsv").write_bytes(content)
    with pytest.raises(PrepareError, match=r"sources\.tsv cannot be read .*separated by tabs"):
        prepare(photos, out, sources=tmp_path / "sources.tsv")
    assert not out.exists()


def test_a_folder_without_photos_is_refused(out: Path, tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match="holds no photo"):
        prepare(tmp_path / "nowhere", out)
    assert not out.exists()


def test_the_shipped_table_names_each_photo_of_the_shipped_lists_once() -> None:
    rows = [line.split("\t") for line in (SPLITS / "extra_nobody_sources.tsv").read_text().splitlines()]
    assert rows[0] == ["id", "repo", "path"]
    lists = [read_list(SPLITS / f"extra_nobody_{side}_id.txt") for side in ("train", "val")]
    assert sorted(row[0] for row in rows[1:]) == sorted([*lists[0], *lists[1]])
    assert len({row[0] for row in rows}) == len({tuple(row[1:]) for row in rows}) == len(rows) == 1493


@pytest.mark.parametrize("source", ["ccp", "coco", "camvid", "vikram", "nobody"])
def test_the_shipped_lists_are_those_of_the_real_folders(source: str, real_data: Path) -> None:
    folder = real_data.parent / "extra" / source
    if not folder.is_dir():
        pytest.skip("the extra photos are not on this machine (they may not be redistributed)")
    for side in ("train", "val") if source == "nobody" else ("train",):
        listed = [name for name in read_ids(folder, side) if name != "ccp_0536"]  # a woman, labelled as background
        assert read_list(SPLITS / f"extra_{source}_{side}_id.txt") == listed
