"""Label maps from files: what is read, and what is refused. Odd files of all kinds are in `test_hostile`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from hierseg.photo import label_map as label_map_module
from hierseg.photo import reading as image_module
from hierseg.photo.label_map import LabelMapError, open_label_map
from hierseg.tree import Hierarchy, UInt8Map
from hierseg.visualize import indexed_image
from tests.hostile import chunk, idat, png

LABELS = np.arange(12, dtype=np.uint8).reshape(3, 4)
TREE = Hierarchy.default()
HEAD = TREE.colors[TREE.index("head")]
NOISE = Image.effect_noise((64, 64), 50)
OF_TREE = np.array([[0, 4, 2], [9, 4, 255]], np.uint8)


def indexed(places: list[int], colors: list[int]) -> Image.Image:
    """Return an image of one row."""
    image = Image.fromarray(np.array([places], np.uint8))
    image.putpalette(colors)
    return image


def rendered(labels: UInt8Map) -> Image.Image:
    """Return labels in the tree's colours."""
    return indexed_image(labels, TREE).convert("RGB")


@pytest.mark.parametrize("labels", [OF_TREE, OF_TREE[:, :2], np.zeros((2, 3), np.uint8), np.full((2, 3), 4, np.uint8)])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("dropped.png", lambda labels: rendered(labels).quantize(8)),
        ("dropped.gif", lambda labels: rendered(labels).quantize(8)),
        ("as we write it.png", lambda labels: indexed_image(labels, TREE)),
        ("in colours.png", rendered),
        ("in colours.bmp", rendered),
        ("opaque.png", lambda labels: rendered(labels).convert("RGBA")),
        ("deep.png", lambda labels: Image.fromarray(labels.astype(np.uint16))),
        ("grey.tif", Image.fromarray),
    ],
)
def test_in_the_trees_colours_the_colours_are_the_labels_whatever_the_indices(
    labels: UInt8Map, name: str, make: Callable[[UInt8Map], Image.Image], tmp_path: Path
) -> None:
    make(labels).save(tmp_path / name)
    np.testing.assert_array_equal(open_label_map(tmp_path / name, TREE), labels)


def test_a_wrong_index_of_the_trees_own_palette_stays_wrong(tmp_path: Path) -> None:
    indexed_image(LABELS, TREE).save(tmp_path / "map.png")  # 10 and 11 belong to no node, and are black
    np.testing.assert_array_equal(open_label_map(tmp_path / "map.png", TREE), LABELS)


def test_of_vocs_colours_and_of_greys_the_places_in_their_palettes_are_the_labels(tmp_path: Path) -> None:
    voc = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128]
    indexed([0, 1, 4, 2], voc).save(tmp_path / "voc.png")
    indexed([0, 1, 3, 2], [0, 0, 0, 128, 0, 0, 0, 128, 0, 0, 0, 128]).save(tmp_path / "dropped.png")
    indexed([0, 1, 4, 2], voc).convert("RGB").save(tmp_path / "colours.png")
    indexed([2, 1, 0, 3], [4, 4, 4, 1, 1, 1, 0, 0, 0, 2, 2, 2]).save(tmp_path / "greys.png")
    for name in ("voc.png", "dropped.png", "colours.png", "greys.png"):
        np.testing.assert_array_equal(open_label_map(tmp_path / name, TREE), [[0, 1, 4, 2]], name)


def test_a_turn_of_the_files_own_is_applied(tmp_path: Path) -> None:
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        Image.fromarray(OF_TREE).save(tmp_path / "map.png", exif=exif)
        upright = ImageOps.exif_transpose(Image.open(tmp_path / "map.png"))
        np.testing.assert_array_equal(open_label_map(tmp_path / "map.png", TREE), np.array(upright))


def test_a_gamma_changes_no_label(tmp_path: Path) -> None:
    file = tmp_path / "map.png"
    rendered(OF_TREE).save(file)
    data = file.read_bytes()
    file.write_bytes(data[:33] + chunk(b"gAMA", (100_000).to_bytes(4, "big")) + data[33:])
    np.testing.assert_array_equal(open_label_map(file, TREE), OF_TREE)


def test_an_array_is_the_callers_own_and_the_file_is_let_go(tmp_path: Path) -> None:
    file = tmp_path / "array.npy"
    np.save(file, LABELS)
    read = open_label_map(file, TREE)
    read[:] = 9
    np.testing.assert_array_equal(np.load(file), LABELS)
    assert type(read) is np.ndarray
    assert read.base is None


@pytest.mark.parametrize(
    ("name", "write", "sentence"),
    [
        ("colors.png", lambda path: Image.new("RGB", (4, 3), "#123456").save(path), "not in the tree"),
        ("four bits.png", lambda path: path.write_bytes(png(4, 3, 4, 0, idat(bytes(9)))), "one 8-bit label per pixel"),
        ("inverted.tif", lambda path: Image.fromarray(LABELS).save(path, tiffinfo={262: 0}), "8-bit label per pixel"),
        ("clear.png", lambda path: Image.new("RGBA", (4, 3)).save(path), "transparent"),
        ("many.png", lambda path: Image.merge("RGB", [NOISE, NOISE, NOISE.rotate(90)]).save(path), "more colours"),
        ("two.png", lambda path: indexed([0, 1], [0, 0, 0, 255, 255, 255]).save(path), "only black and white"),
        ("mixed.png", lambda path: indexed([0, 1], [*HEAD, 1, 2, 3]).save(path), "mixes the tree's colours"),
        ("missing.npy", lambda path: None, "cannot be read"),
        ("folder.png", lambda path: path.mkdir(), "is a folder"),
        ("float.npy", lambda path: np.save(path, np.ones((2, 2))), "one whole number per pixel"),
        ("large.npy", lambda path: np.save(path, LABELS.astype(int) + 250), "outside 0 to 255"),
        ("wide.png", lambda path: Image.new("L", (9000, 9000)).save(path), "more than 64 million pixels"),
        ("long.png", lambda path: Image.new("L", (1, 70_000)).save(path), "more than 65,535 along a side"),
    ],
)
def test_what_is_no_label_map_is_refused_by_name(
    tmp_path: Path, name: str, write: Callable[[Path], object], sentence: str
) -> None:
    write(tmp_path / name)
    with pytest.raises(LabelMapError, match=sentence) as caught:
        open_label_map(tmp_path / name, TREE)
    assert str(caught.value).startswith(name)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("name", ["map.png", "map.npy"])
def test_the_limits_hold_for_both_kinds(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / name
    np.save(file, LABELS) if name == "map.npy" else Image.fromarray(LABELS).save(file)
    monkeypatch.setattr(label_map_module, "MAX_PIXELS", LABELS.size)
    np.testing.assert_array_equal(open_label_map(file, TREE), LABELS)
    monkeypatch.setattr(label_map_module, "MAX_PIXELS", LABELS.size - 1)
    with pytest.raises(LabelMapError, match="pixels"):
        open_label_map(file, TREE)


def test_a_file_beyond_the_limit_of_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "map.png"
    Image.fromarray(LABELS).save(file)
    monkeypatch.setattr(image_module, "MAX_BYTES", file.stat().st_size)
    np.testing.assert_array_equal(open_label_map(file, TREE), LABELS)
    monkeypatch.setattr(image_module, "MAX_BYTES", file.stat().st_size - 1)
    with pytest.raises(LabelMapError, match=r"^map\.png is too large"):
        open_label_map(file, TREE)
