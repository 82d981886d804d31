"""Tests of train.prepare.clothing on .mat files like those of Clothing Co-Parsing, which the tests write themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import savemat

from hierseg.tree import Hierarchy, UInt8Map
from tests import REPOSITORY
from tests.prepared import assert_one_left_out, files, read_mask, write_photo
from train.dataset import load_examples, read_ids
from train.prepare.clothing import label_map, prepare
from train.prepare.common import LONGEST_SIDE, PrepareError, Report, book, read_list

# The published label_list.mat, in its order; "null" is 0.
PUBLISHED = (
    "null accessories bag belt blazer blouse bodysuit boots bra bracelet cape cardigan clogs coat dress earrings flats "
    "glasses gloves hair hat heels hoodie intimate jacket jeans jumper leggings loafers necklace panties pants pumps "
    "purse ring romper sandals scarf shirt shoes shorts skin skirt sneakers socks stockings suit sunglasses sweater "
    "sweatshirt swimwear t-shirt tie tights top vest wallet watch wedges"
)
NAMES = PUBLISHED.split()
NUMBERS = {name: number for number, name in enumerate(NAMES)}
# Labels of pixels that do not depend on their height.
KNOWN = {
    0: "null bag purse wallet",
    255: "accessories earrings necklace",
    4: "hair hat glasses sunglasses",
    2: "tie bra",
    1: "gloves bracelet ring watch",
    8: "blouse cardigan hoodie jacket jumper shirt sweater sweatshirt t-shirt top vest",
    9: "jeans leggings panties pants shorts skirt stockings tights",
    3: "boots clogs flats heels loafers pumps sandals shoes sneakers socks wedges",
    7: "belt blazer bodysuit cape coat dress intimate romper scarf skin suit swimwear",
}
LABELS = {name: label for label, names in KNOWN.items() for name in names.split()}
VOID = 255
HEIGHT, WIDTH = 100, 60


def drawn(things: UInt8Map) -> UInt8Map:
    found = label_map(things, NAMES, Hierarchy.default(), book("clothing"))
    assert found is not None
    return found


def somebody(clothes: str = "dress", height: int = HEIGHT, width: int = WIDTH) -> UInt8Map:
    """A whole standing person: hair, shoes and one thing between; 80 % of the photo's height."""
    things = np.zeros((height, width), np.uint8)
    left, right = round(0.4 * width), round(0.6 * width)
    for name, top, bottom in (("hair", 0.1, 0.15), (clothes, 0.15, 0.85), ("shoes", 0.85, 0.9)):
        things[round(top * height) : round(bottom * height), left:right] = NUMBERS[name]
    return things


def write_things(path: Path, things: UInt8Map) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"groundtruth": things}, do_compression=True)


class Source:
    """The published files, and the output folder."""

    def __init__(self, folder: Path) -> None:
        self.photos, self.annotations = folder / "photos", folder / "annotations" / "pixel-level"
        self.names, self.out = folder / "label_list.mat", folder / "data"
        self.photos.mkdir(parents=True)
        self.name(NAMES)

    def name(self, names: Sequence[str]) -> None:
        """Write the names of things as a cell array of MATLAB's."""
        cells = np.empty((1, len(names)), dtype=object)
        cells[0] = names
        savemat(self.names, {"label_list": cells})

    def add(self, number: str, things: UInt8Map | None = None) -> str:
        """Write a photo and its annotation, and return its id."""
        things = somebody() if things is None else things
        write_photo(self.photos / f"{number}.jpg", *things.shape)
        write_things(self.annotations / f"{number}.mat", things)
        return f"ccp_{number}"

    def prepare(self, ids: Path | None = None) -> Report:
        """Run the command."""
        return prepare(self.photos, self.annotations, self.out, ids)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


# What things tell ---------------------------------------------------------------------------------------------------


def test_every_thing_gets_the_label_of_its_node() -> None:
    for name in NAMES[1:]:
        things = np.full((8, 20), NUMBERS["skin"], np.uint8)  # lying, so that heights tell nothing
        things[2:5, 5:9] = NUMBERS[name]
        found = drawn(things)
        assert (found[2:5, 5:9] == LABELS[name]).all(), name
        assert (found[things == NUMBERS["skin"]] == 7).all()


def labels_by_pixel(things: UInt8Map) -> UInt8Map:
    """The rules of clothing.yaml, read for one pixel after another."""
    plain = np.array([[LABELS[NAMES[thing]] for thing in row] for row in things])
    person, labelled = np.argwhere((plain != 0) & (plain != VOID)), np.argwhere(things > 0)
    (top, left), (bottom, right) = person.min(axis=0), person.max(axis=0) + 1
    tall = bottom - top
    heads, feet = (np.argwhere(plain == label)[:, 0] for label in (4, 3))
    whole = right - left <= tall / 2 and heads.min() - top <= 0.03 * tall and bottom - 1 - feet.max() <= 0.03 * tall

    def label(row: int, column: int) -> int:
        name, height = NAMES[things[row, column]], (row + 0.5 - top) / tall
        if name == "null":
            near = np.linalg.norm(labelled - [row, column], axis=1).min() <= 0.047 * max(things.shape)
            return 0 if near else VOID
        if whole and name == "skin":
            return 4 if height < 0.105 else 8 if height < 0.4 else 7 if height < 0.66 else 9 if height < 0.83 else 3
        if whole and name in ("jeans", "leggings", "pants", "stockings", "tights"):
            return 5 if 0.56 <= height < 0.64 else 3 if height >= 0.83 else 9
        return 8 if whole and LABELS[name] == 7 and height < 0.42 else LABELS[name]

    return np.array([[label(row, column) for column in range(things.shape[1])] for row in range(len(things))])


@given(st.lists(st.integers(0, len(NAMES) - 1), min_size=1, max_size=6), st.integers(0, 2**20), st.booleans())
def test_labels_match_the_rules_read_pixel_by_pixel(numbers: list[int], seed: int, tall: bool) -> None:
    random = np.random.default_rng(seed)
    things = np.zeros((60, 30) if tall else (20, 60), np.uint8)
    things[5:-5, 11:19] = random.choice(numbers, (len(things) - 10, 8))
    things[5:7, 12:18], things[-7:-5, 12:18] = NUMBERS["hair"], NUMBERS["shoes"]
    np.testing.assert_array_equal(drawn(things), labels_by_pixel(things))


@pytest.mark.parametrize("lack", ["hair", "shoes"])
def test_heights_tell_nothing_about_who_does_not_stand_whole(lack: str) -> None:
    things = somebody("skin")
    assert len(np.unique(drawn(things)[things == NUMBERS["skin"]])) == 5
    things[things == NUMBERS[lack]] = 0
    assert np.unique(drawn(things)[things == NUMBERS["skin"]]).tolist() == [7]


# Photos -------------------------------------------------------------------------------------------------------------


def test_the_folder_loads_and_holds_nothing_else(source: Source, tree: Hierarchy) -> None:
    names = [source.add("0002"), source.add("0001", somebody(height=2 * LONGEST_SIDE, width=LONGEST_SIDE))]
    write_photo(source.photos / "1005.jpg", 9, 9)  # most photos have no mask, only tags
    assert source.prepare().complete
    assert read_ids(source.out, "train") == sorted(names)
    photos = {f"JPEGImages/{name}.jpg" for name in names} | {f"gt_masks/{name}.png" for name in names}
    assert files(source.out) == photos | {"labels.json", "train_id.txt"}
    shapes = [example.label_map.shape for example in load_examples(source.out, names, tree)]
    assert shapes == [(HEIGHT, WIDTH), (LONGEST_SIDE, LONGEST_SIDE // 2)]
    np.testing.assert_array_equal(read_mask(source.out, names[0]), drawn(somebody()))


@pytest.mark.parametrize("name", ["null", "bag", "accessories"])
def test_a_photo_in_which_nobody_is_annotated_is_left_out(name: str, source: Source) -> None:
    person = source.add("0001")
    nobody = source.add("0536", np.full((30, 20), NUMBERS[name], np.uint8))
    report = source.prepare()
    assert report.complete
    assert report.left_out == {"photos in which nobody is annotated, left out": [nobody]}
    assert read_ids(source.out, "train") == [person]


def test_the_shipped_list_fits_the_ids_that_are_made(source: Source) -> None:
    shipped = REPOSITORY / "train" / "splits" / "extra_ccp_train_id.txt"
    listed = read_list(shipped)
    source.add(listed[0].removeprefix("ccp_"))
    report = source.prepare(shipped)
    assert report.written == {"train": 1}
    assert len(report.faults["listed photos without an annotation"]) == len(listed) - 1 == 899


# Faults and refusals ------------------------------------------------------------------------------------------------

DAMAGED = "damaged annotations"
FAULTS: dict[str, tuple[Callable[[Path, Path], object], str, str]] = {
    "no photo": (lambda photo, mat: photo.unlink(), "annotations without a photo", ""),
    "damaged photo": (lambda photo, mat: photo.write_bytes(photo.read_bytes()[:500]), "damaged photos", "damaged"),
    "turned": (
        lambda photo, mat: write_photo(photo, WIDTH, HEIGHT),
        "masks of another size than their photo",
        "(100, 60), not (60, 100)",
    ),
    "cut mat": (lambda photo, mat: mat.write_bytes(mat.read_bytes()[:150]), DAMAGED, ""),
    "other variable": (lambda photo, mat: savemat(mat, {"tags": np.ones(3)}), DAMAGED, "groundtruth"),
    "unknown number": (lambda photo, mat: write_things(mat, np.full((9, 9), 59, np.uint8)), DAMAGED, "below 59"),
    "text": (lambda photo, mat: savemat(mat, {"groundtruth": "hair"}), DAMAGED, "below 59"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_its_photo_which_alone_is_left_out(name: str, source: Source) -> None:
    damage, kind, reason = FAULTS[name]
    whole, damaged = source.add("0001"), source.add("0002")
    damage(source.photos / "0002.jpg", source.annotations / "0002.mat")
    assert_one_left_out(source.prepare(), kind, reason, damaged, [whole])


REFUSALS: dict[str, tuple[Callable[[Source], object], str]] = {
    "no annotation": (lambda source: (source.annotations / "0001.mat").unlink(), r"no \.mat file: .*pixel-level"),
    "no names": (lambda source: source.names.unlink(), r"label_list\.mat cannot be read .*beside the folder photos"),
    "damaged names": (lambda source: source.names.write_bytes(b"MATLAB"), r"label_list\.mat cannot be read"),
    "other names": (lambda source: source.name([*NAMES[:-1], "sari"]), r"not that of Clothing.* sari, wedges"),
    "files": (lambda source: source.out.touch(), "not an empty folder"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_wrong_input_is_refused_before_anything_is_written(name: str, source: Source, tmp_path: Path) -> None:
    source.add("0001")
    damage, message = REFUSALS[name]
    damage(source)
    before = files(tmp_path)
    with pytest.raises(PrepareError, match=message):
        source.prepare()
    assert files(tmp_path) == before
