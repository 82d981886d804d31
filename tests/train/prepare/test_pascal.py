"""Tests of train.prepare.pascal on .mat files nested like PASCAL-Part's, which the tests write themselves."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from hierseg.tree import BoolMask, Hierarchy, UInt8Map
from hierseg.visualize import indexed_png
from tests import REPOSITORY
from tests.data import write_ids
from tests.prepared import assert_one_left_out, command, files, read_mask, write_photo
from train.dataset import DataError, check_numbering, load_examples, read_ids
from train.prepare import common, pascal
from train.prepare.common import PrepareError, Report, read_list
from train.prepare.pascal import numbered_tree, prepare

Part = tuple[str, BoolMask]
Thing = tuple[str, Sequence[Part]]  # class and parts, in the order of the file

# Written out again, as an independent copy to compare the data file with.
NAMES = {
    "head": ("head", "leye", "reye", "lear", "rear", "lebrow", "rebrow", "nose", "mouth", "hair"),
    "torso": ("torso", "neck"),
    "upper_arm": ("luarm", "ruarm"),
    "lower_arm": ("llarm", "rlarm", "lhand", "rhand"),
    "upper_leg": ("luleg", "ruleg"),
    "lower_leg": ("llleg", "rlleg", "lfoot", "rfoot"),
}
NUMBERS = {
    "predecessor": {"lower_arm": 1, "torso": 2, "lower_leg": 3, "head": 4, "upper_leg": 5, "upper_arm": 6},
    "papers": {"head": 1, "torso": 2, "upper_arm": 3, "lower_arm": 4, "upper_leg": 5, "lower_leg": 6},
}
NODES = {part: node for node, parts in NAMES.items() for part in parts}
HEIGHT, WIDTH = 6, 8
TRAIN = read_list(REPOSITORY / "train" / "splits" / "predecessor_train_id.txt")
LISTED, OTHER = TRAIN[0], "2010_999999"  # on the predecessor's training list, and on no list
FIRST, SECOND, THIRD = "2008_000001", "2008_000002", "2008_000003"
NEVER_ANNOTATED = "photos without an annotation (VOC 2010 has such), left out"


def block(top: int, left: int, bottom: int, right: int, height: int = HEIGHT, width: int = WIDTH) -> BoolMask:
    mask = np.zeros((height, width), dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def person(*parts: Part) -> Thing:
    return "person", parts or [("head", block(0, 0, 2, 2)), ("torso", block(2, 0, 5, 3))]


def struct(fields: Sequence[str], rows: Sequence[Sequence[object]]) -> npt.NDArray[np.generic]:
    """MATLAB's struct array, 1 x n; without rows its empty array []."""
    if not rows:
        return np.zeros((0, 0))
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    for index, row in enumerate(rows):
        array[0, index] = tuple(row)
    return array


def write_mat(folder: Path, name: str, things: Sequence[Thing], imname: str | None = None) -> None:
    rows = []
    for number, (category, parts) in enumerate(things):
        shape = parts[0][1].shape if parts else (HEIGHT, WIDTH)
        masks = [(part, mask.astype(np.uint8)) for part, mask in parts]
        rows.append((category, float(number), np.ones(shape, np.uint8), struct(("part_name", "mask"), masks)))
    objects = struct(("class", "class_ind", "mask", "parts"), rows)
    anno = struct(("imname", "objects"), [(imname or name, objects)])
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / f"{name}.mat", {"anno": anno}, do_compression=True)


class Source:
    """The two published folders, and the output folder."""

    def __init__(self, folder: Path) -> None:
        self.photos, self.annotations, self.out = folder / "VOC2010", folder / "Annotations_Part", folder / "data"

    def photograph(self, name: str) -> None:
        """Write a photo."""
        write_photo(self.photos / "JPEGImages" / f"{name}.jpg", HEIGHT, WIDTH)

    def add(self, name: str, *things: Thing) -> None:
        """Write a photo and its annotation; one person unless told otherwise."""
        self.photograph(name)
        write_mat(self.annotations, name, things or [person()])

    def lists(self, newline: str = "\n", **names: Sequence[str]) -> None:
        """Write VOC's id lists, by side."""
        main = self.photos / "ImageSets" / "Main"
        for side, ids in names.items():
            write_ids(main, side, ids, newline)
            (main / f"{side}_id.txt").rename(main / f"{side}.txt")

    def prepare(self, numbering: str = "predecessor", split: str = "predecessor") -> Report:
        """Run the command."""
        return prepare(self.photos, self.annotations, self.out, numbering, split)

    @property
    def photo(self) -> Path:
        """The photo that tests of faults damage."""
        return self.photos / "JPEGImages" / f"{SECOND}.jpg"

    @property
    def mat(self) -> Path:
        """Its annotation."""
        return self.annotations / f"{SECOND}.mat"

    def files(self) -> set[str]:
        """List what was written."""
        return files(self.out)

    def mask(self, name: str) -> UInt8Map:
        """Read a mask that was written."""
        return read_mask(self.out, name)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


# What is painted ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbering", NUMBERS)
def test_every_part_gets_the_number_of_its_node(numbering: str, source: Source) -> None:
    cells = [(row, column) for row in range(4) for column in range(6)]
    parts = [(part, block(row, column, row + 1, column + 1)) for part, (row, column) in zip(NODES, cells, strict=True)]
    source.add(LISTED, person(*parts))
    source.prepare(numbering)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    for (part, _), cell in zip(parts, cells, strict=True):
        expected[cell] = NUMBERS[numbering][NODES[part]]
    np.testing.assert_array_equal(source.mask(LISTED), expected)
    told = json.loads((source.out / "labels.json").read_text())
    assert told == {"labels": NUMBERS[numbering] | {"body": 7, "upper": 8, "lower": 9}}


@pytest.mark.parametrize("numbering", NUMBERS)
def test_a_numbered_tree_is_the_default_tree_with_distinct_labels(numbering: str, tree: Hierarchy) -> None:
    numbered = numbered_tree(numbering)
    assert replace(numbered, labels=tree.labels) == tree
    assert len({*numbered.labels, numbered.background, numbered.void}) == len(tree) + 2
    assert (numbered == tree) == (numbering == "predecessor")


def paint_by_pixel(things: Sequence[Thing], numbers: dict[str, int]) -> UInt8Map:
    """The last part of the last person that covers a pixel wins; found by looking from the front."""
    label_map = np.zeros((HEIGHT, WIDTH), np.uint8)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            covering = (
                numbers[NODES[part]]
                for category, parts in reversed(things)
                if category == "person"
                for part, mask in reversed(parts)
                if mask[row, column]
            )
            label_map[row, column] = next(covering, 0)
    return label_map


MASKS = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random((HEIGHT, WIDTH)) < seed % 4 / 4)
PERSONS = st.tuples(st.just("person"), st.lists(st.tuples(st.sampled_from(sorted(NODES)), MASKS), max_size=4))
DOGS = st.tuples(st.just("dog"), st.lists(st.tuples(st.sampled_from(["head", "tail"]), MASKS), max_size=2))


@given(st.lists(PERSONS | DOGS, max_size=4), st.sampled_from(sorted(NUMBERS)))
def test_painting_matches_a_loop_over_pixels(things: list[Thing], numbering: str) -> None:
    expected = paint_by_pixel(things, NUMBERS[numbering])
    with tempfile.TemporaryDirectory() as folder:
        source = Source(Path(folder))
        source.photograph(OTHER)
        write_mat(source.annotations, OTHER, things)
        report = source.prepare(numbering)
        assert report.written == {"train": 0, "val": int(expected.any())}
        if expected.any():
            np.testing.assert_array_equal(source.mask(OTHER), expected)
        else:
            assert source.files() == {"labels.json", "train_id.txt", "val_id.txt"}


def test_one_object_and_one_part_are_read_like_many(source: Source) -> None:
    head, torso = person()[1]
    source.add(LISTED, person(head))
    source.add(OTHER, person(head), person(torso))
    source.add(FIRST)
    parts = {"part_name": head[0], "mask": head[1].astype(np.uint8)}  # a dict becomes a 1 x 1 struct
    objects = {"class": "person", "class_ind": 15.0, "mask": head[1].astype(np.uint8), "parts": parts}
    savemat(source.annotations / f"{FIRST}.mat", {"anno": {"imname": FIRST, "objects": objects}})
    source.prepare()
    np.testing.assert_array_equal(source.mask(LISTED), source.mask(FIRST))
    np.testing.assert_array_equal(source.mask(OTHER), paint_by_pixel([person()], NUMBERS["predecessor"]))


# What is written ----------------------------------------------------------------------------------------------------


def test_the_folder_loads_with_the_default_tree_and_holds_nothing_else(source: Source, tree: Hierarchy) -> None:
    names = [*TRAIN[:2], "2010_000001", "2010_999999"]
    for name in names:
        source.add(name, ("dog", [("tail", block(0, 0, 6, 8))]), person(), person(("lhand", block(1, 1, 3, 5))))
    source.add("2010_000002", ("dog", [("head", block(0, 0, 6, 8))]), ("person", []))
    report = source.prepare()
    assert read_ids(source.out, "train") == names[:2]
    assert read_ids(source.out, "val") == names[2:]
    assert report.written == {"train": 2, "val": 2}
    assert source.files() == {
        *(f"JPEGImages/{name}.jpg" for name in names),
        *(f"gt_masks/{name}.png" for name in names),
        "labels.json",
        "train_id.txt",
        "val_id.txt",
    }
    shown = [0, *(tree.labels[tree.index(node)] for node in ("lower_arm", "torso", "head"))]
    for example in load_examples(source.out, names, tree):
        assert np.unique(example.label_map).tolist() == sorted(shown)
    for name in names:
        photo = f"JPEGImages/{name}.jpg"
        assert (source.out / photo).read_bytes() == (source.photos / photo).read_bytes()
        header = (source.out / "gt_masks" / f"{name}.png").read_bytes()[:26]
        assert header[24:26] == b"\x08\x03"  # in PNG's IHDR: 8 bits per pixel, palette


@pytest.mark.parametrize("failure", [OSError("no space left on device"), KeyboardInterrupt()])
def test_a_run_that_was_stopped_leaves_no_list(
    failure: BaseException, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TRAIN[:3]:
        source.add(name)
    left = [2]

    def draw_two(label_map: UInt8Map, tree: Hierarchy) -> bytes:
        left[0] -= 1
        if left[0] < 0:
            raise failure
        return indexed_png(label_map, tree)

    monkeypatch.setattr(common, "indexed_png", draw_two)
    with pytest.raises(PrepareError if isinstance(failure, OSError) else KeyboardInterrupt):
        source.prepare()
    assert f"gt_masks/{TRAIN[1]}.png" in source.files()
    assert not any(name.endswith(".txt") for name in source.files())


# Lists and counts ---------------------------------------------------------------------------------------------------


def test_the_shipped_list_has_as_many_photos_as_expected(source: Source) -> None:
    source.add(OTHER)
    assert len(set(TRAIN)) == len(TRAIN) == source.prepare().expected["train"] == 2826
    splits = common.book("pascal")["splits"]
    assert splits == {"predecessor": {"train": 2826, "val": 707}, "official": {"train": 1716, "val": 1817}}


def test_the_shipped_list_is_that_of_the_real_data(real_data: Path) -> None:
    assert read_ids(real_data, "train") == TRAIN
    assert not set(read_ids(real_data, "val")) & set(TRAIN)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_official_split_is_vocs_lists_less_the_photos_without_people(newline: str, source: Source) -> None:
    for name in ("2008_000003", "2008_000008", "2009_000001"):
        source.add(name)
    source.add("2008_000002", ("dog", []))
    source.lists(newline, train=["2008_000002", "2009_000001"], val=["2008_000003", "2008_000008"])
    report = source.prepare(split="official")
    assert read_ids(source.out, "train") == ["2009_000001"]
    assert read_ids(source.out, "val") == ["2008_000003", "2008_000008"]
    assert report.expected == {"train": 1716, "val": 1817}
    assert not report.faults
    assert not report.complete


# Faults -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def whole(source: Source, monkeypatch: pytest.MonkeyPatch) -> Source:
    """The sources of a data set that is complete with two training photos and one for validation."""
    book = common.book("pascal")
    book["splits"]["official"] = {"train": 2, "val": 1}
    monkeypatch.setattr(pascal, "book", lambda source: book)
    for name in (FIRST, SECOND, THIRD):
        source.add(name)
    source.lists(train=[FIRST, SECOND], val=[THIRD])
    return source


def test_a_whole_data_set_is_complete(whole: Source) -> None:
    report = whole.prepare(split="official")
    assert report.complete
    assert str(report).splitlines() == [
        f"Wrote {whole.out}.",
        "photos on the train list: 2 (expected: 2)",
        "photos on the val list: 1 (expected: 1)",
        "The data set is complete.",
    ]


def test_a_photo_that_was_never_annotated_is_told_but_is_no_fault(whole: Source) -> None:
    whole.photograph(OTHER)
    report = whole.prepare(split="official")
    assert report.complete
    assert report.left_out == {NEVER_ANNOTATED: [OTHER]}
    assert f"{NEVER_ANNOTATED}: 1\n  {OTHER}\n" in str(report)


def test_what_a_mac_packs_beside_files_is_not_read(whole: Source) -> None:
    for path in (whole.annotations / f"._{FIRST}.mat", whole.photos / "JPEGImages" / f"._{FIRST}.jpg"):
        path.write_bytes(b"\0\5\x16\7")
    assert whole.prepare(split="official").complete


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def annotate(source: Source, *things: Thing, imname: str | None = None) -> None:
    write_mat(source.annotations, SECOND, things, imname)


def save(source: Source, **content: object) -> None:
    savemat(source.mat, content)


DAMAGED, SIZE = "damaged annotations", "masks of another size than their photo"
FAULTS: dict[str, tuple[Callable[[Source], object], str, str]] = {
    "no photo": (lambda source: source.photo.unlink(), "annotations without a photo", ""),
    "damaged photo": (lambda source: cut_in_half(source.photo), "damaged photos", "damaged or incomplete"),
    "no annotation": (lambda source: source.mat.unlink(), "listed photos without an annotation", ""),
    "damaged mat": (lambda source: cut_in_half(source.mat), DAMAGED, ""),
    "no mat": (lambda source: source.mat.write_bytes(b"<html>not found</html>" * 99), DAMAGED, ""),
    "other variable": (lambda source: save(source, annotation=1.0), DAMAGED, "anno"),
    "other fields": (lambda source: save(source, anno={"imname": SECOND, "things": 1.0}), DAMAGED, "objects"),
    "other photo": (lambda source: annotate(source, person(), imname=THIRD), DAMAGED, f"annotation of {THIRD}"),
    "turned": (lambda source: annotate(source, person(("head", block(0, 0, 8, 6, 8, 6)))), SIZE, "'head' is (8, 6)"),
    "unknown parts": (
        lambda source: annotate(source, person(("wing", block(0, 0, 1, 1)), ("head", block(0, 0, 2, 2)))),
        "annotations with unknown parts of a person",
        "wing",
    ),
    "on no list": (
        lambda source: source.lists(train=[FIRST], val=[THIRD]),
        "photos of the data set that are on no list",
        "",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_its_photo_which_alone_is_left_out(name: str, whole: Source, tree: Hierarchy) -> None:
    damage, kind, reason = FAULTS[name]
    damage(whole)
    assert_one_left_out(whole.prepare(split="official"), kind, reason, SECOND, [FIRST])
    assert [example.id for example in load_examples(whole.out, [FIRST, THIRD], tree)] == [FIRST, THIRD]


@pytest.mark.parametrize("parts", [[], [("head", block(0, 0, 0, 0))]])
def test_a_listed_photo_without_a_part_of_a_person_is_a_fault(parts: list[Part], source: Source) -> None:
    source.add(LISTED, ("person", parts))
    source.add(OTHER, ("person", parts))
    report = source.prepare()
    assert report.faults["listed photos without a part of a person"] == [LISTED]
    assert report.faults["listed photos without an annotation"] == TRAIN[1:]


def test_a_long_list_of_faults_is_counted_and_cut(source: Source) -> None:
    source.add(LISTED)
    lines = str(source.prepare()).splitlines()
    start = lines.index("listed photos without an annotation: 2825") + 1
    assert lines[start : start + 20] == [f"  {name}" for name in TRAIN[1:21]]
    assert lines[start + 20] == "  ... and 2805 more"


# Refusals -----------------------------------------------------------------------------------------------------------


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def main_list(source: Source, side: str) -> Path:
    return source.photos / "ImageSets" / "Main" / f"{side}.txt"


REFUSALS: dict[str, tuple[Callable[[Source], object], str]] = {
    "no photos": (lambda source: empty(source.photos / "JPEGImages"), "JPEGImages holds no .jpg file: .* VOC2010"),
    "no annotations": (lambda source: empty(source.annotations), "holds no .mat file: .* Annotations_Part"),
    "no list": (lambda source: main_list(source, "val").unlink(), r"val\.txt cannot be read .*development kit"),
    "no text": (lambda source: main_list(source, "train").write_bytes(b"\xff\xfe"), r"train\.txt cannot be read"),
    "one photo on both lists": (lambda source: source.lists(val=[THIRD, FIRST]), f"Both lists .* name {FIRST}"),
    "hidden files": (lambda source: (source.out / ".git").mkdir(parents=True), "data is not an empty folder"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_wrong_input_is_refused_before_anything_is_written(name: str, whole: Source) -> None:
    damage, message = REFUSALS[name]
    damage(whole)
    before = whole.files()
    with pytest.raises(PrepareError, match=message):
        whole.prepare(split="official")
    assert whole.files() == before


# With the rest of train ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbering", NUMBERS)
def test_a_folder_is_refused_by_every_tree_but_its_own(numbering: str, source: Source) -> None:
    source.add(LISTED)
    source.prepare(numbering)
    for other in NUMBERS:
        if other == numbering:
            assert len(load_examples(source.out, [LISTED], numbered_tree(other))) == 1
        else:
            with pytest.raises(DataError, match=r"labels\.json .*head is [14], not [14].* another --numbering"):
                load_examples(source.out, [LISTED], numbered_tree(other))


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b'{"labels": 3}'])
def test_damaged_label_numbers_are_refused(content: bytes, tmp_path: Path, tree: Hierarchy) -> None:
    check_numbering(tmp_path, tree)  # a folder of another origin has none
    (tmp_path / "labels.json").write_bytes(content)
    with pytest.raises(DataError, match=r"labels\.json is damaged"):
        check_numbering(tmp_path, tree)


def test_the_command_tells_the_report_and_ends_well_only_when_complete(
    whole: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pascal", "--photos", whole.photos, "--annotations", whole.annotations, "--split", "official"]
    assert command(*words, "--out", whole.out) == 0
    assert "The data set is complete." in capsys.readouterr().out
    assert command(*words, "--out", whole.out) == 1
    assert "not an empty folder" in capsys.readouterr().err
    whole.photo.unlink()
    with pytest.raises(SystemExit) as stop:
        command(*words, "--out", f"{whole.out}-again")
    assert stop.value.code == 1
    assert SECOND in capsys.readouterr().out
