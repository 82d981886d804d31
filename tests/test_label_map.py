"""Label maps from files: what is read, and what is refused by name. Odd files of all kinds are in `test_hostile`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hierseg.photo import label_map as label_map_module
from hierseg.photo import reading as image_module
from hierseg.photo.label_map import LabelMapError, open_label_map

LABELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def test_indexed_and_grey_images_and_arrays_give_the_same_labels(tmp_path: Path) -> None:
    indexed = Image.fromarray(LABELS)
    indexed.putpalette([255, 0, 0] * 256)
    indexed.save(tmp_path / "indexed.png")
    Image.fromarray(LABELS).save(tmp_path / "grey.png")
    for kind in (np.uint8, np.int64, np.dtype(">i2")):
        np.save(tmp_path / "array.npy", LABELS.astype(kind))
        for name in ("indexed.png", "grey.png", "array.npy"):
            read = open_label_map(tmp_path / name)
            assert read.dtype == np.uint8
            np.testing.assert_array_equal(read, LABELS)


def test_an_array_is_the_callers_own_and_the_file_is_let_go(tmp_path: Path) -> None:
    file = tmp_path / "array.npy"
    np.save(file, LABELS)
    read = open_label_map(file)
    read[:] = 9
    np.testing.assert_array_equal(np.load(file), LABELS)
    assert type(read) is np.ndarray
    assert read.base is None


@pytest.mark.parametrize(
    ("name", "write", "sentence"),
    [
        ("words.png", lambda path: path.write_text("no picture"), "damaged or not a label map"),
        ("colors.png", lambda path: Image.new("RGB", (4, 3)).save(path), "must hold one 8-bit label a pixel"),
        ("missing.npy", lambda path: None, "cannot be read"),
        ("missing.png", lambda path: None, "cannot be read"),
        ("folder.npy", lambda path: path.mkdir(), "cannot be read"),
        ("folder.png", lambda path: path.mkdir(), "is a folder"),
        ("float.npy", lambda path: np.save(path, np.ones((2, 2))), "one whole number a pixel"),
        ("flat.npy", lambda path: np.save(path, LABELS.ravel()), "in rows and columns"),
        ("large.npy", lambda path: np.save(path, LABELS.astype(int) + 250), "outside 0 to 255"),
        ("negative.npy", lambda path: np.save(path, LABELS.astype(int) - 1), "outside 0 to 255"),
        ("wide.png", lambda path: Image.new("L", (9000, 9000)).save(path), "more than 64 million pixels"),
        ("long.png", lambda path: Image.new("L", (1, 70_000)).save(path), "more than 65,535 along a side"),
    ],
)
def test_what_is_no_label_map_is_refused_by_name(
    tmp_path: Path, name: str, write: Callable[[Path], object], sentence: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(LabelMapError, match=sentence) as caught:
        open_label_map(tmp_path / name)
    assert str(caught.value).startswith(name)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("name", ["map.png", "map.npy"])
def test_the_limits_hold_for_both_kinds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / name
    np.save(file, LABELS) if name == "map.npy" else Image.fromarray(LABELS).save(file)
    monkeypatch.setattr(label_map_module, "MAX_PIXELS", LABELS.size)
    np.testing.assert_array_equal(open_label_map(file), LABELS)
    monkeypatch.setattr(label_map_module, "MAX_PIXELS", LABELS.size - 1)
    with pytest.raises(LabelMapError, match="pixels"):
        open_label_map(file)


def test_a_file_beyond_the_limit_of_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "map.png"
    Image.fromarray(LABELS).save(file)
    monkeypatch.setattr(image_module, "MAX_BYTES", file.stat().st_size)
    np.testing.assert_array_equal(open_label_map(file), LABELS)
    monkeypatch.setattr(image_module, "MAX_BYTES", file.stat().st_size - 1)
    with pytest.raises(LabelMapError, match=r"^map\.png is too large"):
        open_label_map(file)
