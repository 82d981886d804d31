"""Tests of train.dataset: what is read, and that every fault is named before training."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hierseg.tree import Hierarchy
from tests.data import BACKGROUND, draw_person, write_dataset, write_example, write_ids
from train.dataset import DataError, load_examples, load_training_data, read_ids, split_hash
from train.recipe import Source


def test_png_and_npy_masks_are_the_same(tmp_path: Path, tree: Hierarchy) -> None:
    images, arrays = write_dataset(tmp_path / "png"), write_dataset(tmp_path / "npy", masks="npy")
    ids = read_ids(images, "train")
    for image, array in zip(load_examples(images, ids, tree), load_examples(arrays, ids, tree), strict=True):
        assert image.id == array.id
        assert image.label_map.dtype == array.label_map.dtype == np.uint8
        np.testing.assert_array_equal(image.label_map, array.label_map)
        np.testing.assert_array_equal(image.photo, array.photo)


@pytest.mark.parametrize("content", [b"b\na\nc\n", b"b\r\na\r\nc\r\n", b"b\na\nc", b"\xef\xbb\xbfb\r\na\r\n\r\nc"])
def test_ids_are_read_in_order_with_any_line_ends(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "val_id.txt").write_bytes(content)
    assert read_ids(tmp_path, "val") == ["b", "a", "c"]


def test_an_id_may_hold_spaces(tmp_path: Path, tree: Hierarchy) -> None:
    (tmp_path / "train_id.txt").write_bytes(b"my photo\r\n  other \n\n")
    assert read_ids(tmp_path, "train") == ["my photo", "other"]
    write_example(tmp_path, "my photo", *draw_person(64, 64, seed=0))
    assert [example.id for example in load_examples(tmp_path, ["my photo"], tree)] == ["my photo"]


def test_examples_come_in_the_order_of_the_list(tmp_path: Path, tree: Hierarchy) -> None:
    write_dataset(tmp_path, train=12)
    ids = read_ids(tmp_path, "train")
    random.Random(0).shuffle(ids)
    assert [example.id for example in load_examples(tmp_path, ids, tree)] == ids


@given(st.lists(st.text("abc_123", min_size=1), min_size=1, unique=True), st.randoms())
def test_split_hash_depends_on_the_ids_alone(ids: list[str], shuffler: random.Random) -> None:
    shuffled = ids.copy()
    shuffler.shuffle(shuffled)
    assert split_hash(shuffled) == split_hash(ids)
    assert split_hash([*ids, "another one"]) != split_hash(ids)


def test_a_list_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"train_id\.txt"):
            read_ids(folder, "train")
    write_ids(tmp_path, "train", [])
    with pytest.raises(DataError, match=r"train_id\.txt names no photo"):
        read_ids(tmp_path, "train")
    write_ids(tmp_path, "train", ["a", "b", "a", "c", "b"])
    with pytest.raises(DataError, match=r"train_id\.txt names a, b more than once"):
        read_ids(tmp_path, "train")
    (tmp_path / "train_id.txt").write_bytes(b"\xff\xfea\x00")
    with pytest.raises(DataError, match=r"train_id\.txt"):
        read_ids(tmp_path, "train")


def mask(folder: Path, name: str) -> Path:
    return folder / "gt_masks" / f"{name}.png"


def photo(folder: Path, name: str) -> Path:
    return folder / "JPEGImages" / f"{name}.jpg"


def replace_by_npy(folder: Path, name: str, array: np.ndarray) -> None:
    mask(folder, name).unlink()
    np.save(mask(folder, name).with_suffix(".npy"), array)


def save_mask(folder: Path, name: str, array: np.ndarray) -> None:
    Image.fromarray(array).save(mask(folder, name))


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


ZEROS = np.zeros((96, 72), np.uint8)
FAULTS: dict[str, tuple[Callable[[Path, str], None], str]] = {
    "no_photo": (lambda folder, name: photo(folder, name).unlink(), "cannot be read"),
    "no_mask": (lambda folder, name: mask(folder, name).unlink(), "there is no mask"),
    "other_size": (lambda folder, name: save_mask(folder, name, ZEROS.T), "(72, 96)"),
    "unknown_label": (lambda folder, name: save_mask(folder, name, ZEROS + 77), "77"),
    "damaged_photo": (lambda folder, name: cut_in_half(photo(folder, name)), "damaged"),
    "damaged_mask": (lambda folder, name: cut_in_half(mask(folder, name)), "damaged"),
    "object_npy": (lambda folder, name: replace_by_npy(folder, name, ZEROS.astype(object)), "not a label map"),
}


def damage(folder: Path, name: str) -> None:
    FAULTS[name][0](folder, name)


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    for name in FAULTS:
        write_example(tmp_path, name, *draw_person(96, 72, seed=0))
        damage(tmp_path, name)
    return tmp_path


def test_all_faults_are_named_at_once_with_their_photos_and_sound_photos_are_not(faulty: Path, tree: Hierarchy) -> None:
    write_example(faulty, "sound", *draw_person(96, 72, seed=0))
    with pytest.raises(DataError, match=f"{len(FAULTS)} of {len(FAULTS) + 1} examples") as caught:
        load_examples(faulty, ["sound", *FAULTS], tree)
    for line, (name, (_, reason)) in zip(str(caught.value).splitlines()[1:], FAULTS.items(), strict=True):
        assert line.startswith(f"{name}: ") and reason in line


def test_a_long_list_of_faults_is_counted_not_listed(tmp_path: Path, tree: Hierarchy) -> None:
    ids = [f"missing_{number}" for number in range(50)]
    with pytest.raises(DataError, match="50 of 50 examples") as caught:
        load_examples(tmp_path, ids, tree)
    lines = str(caught.value).splitlines()
    assert lines[-1] == f"... and {50 - (len(lines) - 2)} more"


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_photos_load(split: str, real_data: Path, tree: Hierarchy) -> None:
    ids = read_ids(real_data, split)[::400]
    examples = load_examples(real_data, ids, tree)
    assert [example.id for example in examples] == ids
    for example in examples:
        assert example.photo.shape == (*example.label_map.shape, 3)
        assert BACKGROUND <= example.label_map.min() <= example.label_map.max() <= 6
        assert example.label_map.any()


# Several sources


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two folders of people and one of photos without people."""
    write_dataset(tmp_path / "people", train=5, val=3)
    write_dataset(tmp_path / "more", train=4, val=2)
    write_dataset(tmp_path / "nobody", train=3, val=2)
    shutil.rmtree(tmp_path / "nobody" / "gt_masks")
    (tmp_path / "more" / "val_id.txt").unlink()
    return tmp_path


SOURCES = (Source("nobody", 0.2, nobody=True), Source("people", 0.5), Source("more", 0.3))


def test_a_recipes_sources_are_read_together(folders: Path, tree: Hierarchy) -> None:
    found = load_training_data(folders, SOURCES, tree)
    assert [len(examples) for examples in found.examples] == [3, 5, 4]
    people, nobody = (read_ids(folders / folder, "train") for folder in ("people", "nobody"))
    assert [example.id for example in found.annotated] == people
    for most in (0, 2, 9):
        assert [example.id for example in found.to_calibrate(most)] == [*people[:most], *nobody[:most]]
    assert [example.id for example in found.validation] == read_ids(folders / "people", "val")
    assert [example.id for example in found.nobody] == ["val_0", "val_1"]
    for example in [*found.examples[0], *found.nobody]:
        assert example.label_map.shape == example.photo.shape[:2]
        assert (example.label_map == tree.background).all()
    few = load_training_data(folders, SOURCES, tree, validation_photos=1)
    assert (len(few.validation), len(few.nobody)) == (1, 1)


def test_the_record_names_every_source(folders: Path, tree: Hierarchy) -> None:
    record = load_training_data(folders, SOURCES, tree).record
    assert (record["train_photos"], record["val_photos"]) == (5, 3)
    assert [(source["folder"], source["share"], source["nobody"]) for source in record["sources"]] == [
        ("nobody", 0.2, True),
        ("people", 0.5, False),
        ("more", 0.3, False),
    ]
    for source in record["sources"]:
        ids = read_ids(folders / source["folder"], "train")
        assert (source["train_photos"], source["train_ids_sha256"]) == (len(ids), split_hash(ids))
    assert "sources" not in load_training_data(folders / "people", (Source(),), tree).record


@pytest.mark.parametrize("folder", ["people", "nobody"])
def test_a_photo_on_both_lists_is_refused_before_any_photo_is_opened(
    folder: str, folders: Path, tree: Hierarchy
) -> None:
    (folders / "people" / "JPEGImages" / "train_0.jpg").write_bytes(b"damaged")
    write_ids(folders / folder, "val", ["val_0", "train_1", "val_1", "train_2"])
    with pytest.raises(DataError, match=rf"Both lists of .*{folder} name train_1, train_2\. .*remove it from one"):
        load_training_data(folders, SOURCES, tree)


def test_a_source_without_masks_that_is_not_declared_as_nobody_is_refused(folders: Path, tree: Hierarchy) -> None:
    with pytest.raises(DataError, match=r"3 of 3 examples in .*nobody cannot be used"):
        load_training_data(folders, (Source("people"), Source("nobody")), tree)


def test_validation_photos_that_show_nobody_are_refused_before_training(folders: Path, tree: Hierarchy) -> None:
    for name in read_ids(folders / "people", "val"):
        label_map = np.array(Image.open(folders / "people" / "gt_masks" / f"{name}.png"))
        label_map[:] = tree.void if name == "val_0" else tree.background
        Image.fromarray(label_map).save(folders / "people" / "gt_masks" / f"{name}.png")
    with pytest.raises(DataError, match=r"Nothing can be measured on .*people: the 3 photos"):
        load_training_data(folders, SOURCES, tree)
