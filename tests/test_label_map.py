"""Label maps from files: what is read, and what is refused by name."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hierseg.label_map import LabelMapError, open_label_map

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


def _colors(path: Path) -> None:
    Image.new("RGB", (4, 3)).save(path)


def _lying_array(path: Path) -> None:
    """A header that promises far more than the file holds."""
    header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (100000, 100000), }"
    header += b" " * (117 - len(header)) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 64)


@pytest.mark.parametrize(
    ("name", "write", "sentence"),
    [
        ("words.png", lambda path: path.write_text("no picture"), "damaged or not a label map"),
        ("colors.png", _colors, "one 8-bit label a pixel, not RGB"),
        ("missing.npy", lambda path: None, "damaged or not a label map"),
        ("float.npy", lambda path: np.save(path, np.ones((2, 2))), "one whole number a pixel, not float64"),
        ("flat.npy", lambda path: np.save(path, LABELS.ravel()), "one whole number a pixel"),
        ("large.npy", lambda path: np.save(path, LABELS.astype(int) + 250), "outside 0 to 255"),
        ("negative.npy", lambda path: np.save(path, LABELS.astype(int) - 1), "outside 0 to 255"),
        ("lying.npy", _lying_array, "damaged or not a label map"),
        ("objects.npy", lambda path: np.save(path, np.array([[{}]], object), allow_pickle=True), "not a label map"),
        ("wide.png", lambda path: Image.new("L", (9000, 9000)).save(path), "more than 64 million pixels"),
    ],
)
def test_what_is_no_label_map_is_refused_by_name(
    tmp_path: Path, name: str, write: Callable[[Path], object], sentence: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(LabelMapError, match=sentence) as caught:
        open_label_map(tmp_path / name)
    assert name in str(caught.value)
