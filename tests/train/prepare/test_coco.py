"""Tests of train.prepare.coco on small files like COCO's, which the tests write themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierseg.tree import BoolMask, Hierarchy
from tests import REPOSITORY
from tests.prepared import assert_one_left_out, command, files, read_mask, write_photo
from train.dataset import load_examples, read_ids
from train.prepare import coco
from train.prepare.coco import Person, label_map, prepare, segment
from train.prepare.common import LONGEST_SIDE, Fault, PrepareError, book, read_list

HEIGHT, WIDTH = 60, 80
SIZE = HEIGHT, WIDTH
POINTS = (
    *("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    *("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle"),
)
# A person who stands with the arms held out, as (x, y).
STANDING = {
    **{"nose": (40, 8), "left_eye": (42, 6), "right_eye": (38, 6), "left_ear": (44, 8), "right_ear": (36, 8)},
    **{"left_shoulder": (46, 16), "right_shoulder": (34, 16), "left_hip": (44, 34), "right_hip": (36, 34)},
    **{"left_elbow": (58, 18), "right_elbow": (22, 18), "left_wrist": (70, 20), "right_wrist": (10, 20)},
    **{"left_knee": (45, 45), "right_knee": (35, 45), "left_ankle": (46, 56), "right_ankle": (34, 56)},
}
BODY, VOID = 7, 255


def box(top: int, left: int, bottom: int, right: int) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def runs(mask: BoolMask) -> dict[str, Any]:
    """COCO's runs of a mask, counted pixel by pixel."""
    counts, inside = [0], False
    for column in range(mask.shape[1]):
        for row in range(mask.shape[0]):
            if bool(mask[row, column]) != inside:
                inside = not inside
                counts.append(0)
            counts[-1] += 1
    return {"counts": counts, "size": list(mask.shape)}


class Source:
    """COCO's published files, and the output folder."""

    def __init__(self, folder: Path) -> None:
        self.images, self.out, self.nobody = folder / "val2017", folder / "data", folder / "empty"
        self.instances, self.keypoints = folder / "instances.json", folder / "keypoints.json"
        self.pictures: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.points: list[dict[str, Any]] = []

    def add(self, number: int, *segmentations: object, height: int = HEIGHT, width: int = WIDTH) -> str:
        """Write a photo of people, and return its id."""
        name = f"{number:012}.jpg"
        write_photo(self.images / name, height, width, seed=number)
        self.pictures.append({"id": number, "file_name": name, "height": height, "width": width})
        for segmentation in segmentations:
            self.annotate(number, segmentation)
        return f"coco_{number:012}"

    def annotate(self, number: int, segmentation: object, category: int = 1, crowd: int = 0) -> None:
        """Annotate something in a photo."""
        about = {"id": len(self.annotations) + 1, "image_id": number, "category_id": category}
        self.annotations.append({**about, "iscrowd": crowd, "area": 1.0, "segmentation": segmentation})

    def point(self, visible: dict[str, tuple[int, int]], hidden: dict[str, tuple[int, int]]) -> None:
        """Give the last annotation key points."""
        triples = [(*visible[name], 2) if name in visible else (*hidden.get(name, (0, 0)), 1) for name in POINTS]
        self.points.append({**self.annotations[-1], "keypoints": [number for triple in triples for number in triple]})

    def write(self) -> None:
        """Write the annotations."""
        categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
        whole = {"images": self.pictures, "annotations": self.annotations, "categories": categories}
        self.instances.write_text(json.dumps(whole))
        persons = [{"id": 1, "name": "person", "keypoints": POINTS}]
        self.keypoints.write_text(json.dumps({"annotations": self.points, "categories": persons}))

    def prepare(self, ids: Path | None = None, nobody: Path | None = None) -> list[coco.Report]:
        """Run the command."""
        self.write()
        sources = [self.images], [self.instances], self.out, [self.keypoints]
        return prepare(*sources, ids=ids, nobody=nobody)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


# Outlines -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**20))
def test_runs_match_a_count_pixel_by_pixel(height: int, width: int, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < seed % 5 / 4
    np.testing.assert_array_equal(segment(runs(mask), (height, width)), mask)


def inside_by_angle(polygon: list[tuple[float, float]], x: float, y: float) -> bool:
    """Tell whether a polygon winds around a point an odd number of times, by summing the angles of its edges."""
    ends = np.array([complex(*corner) for corner in polygon]) - complex(x, y)
    return round(np.angle(np.roll(ends, -1) / ends).sum() / (2 * np.pi)) % 2 == 1


# Corners off the middles of pixels and off the lines between them, so that no middle lies on an edge by design.
CORNER = st.tuples(*(st.integers(-20, 120).map(lambda tenth: tenth / 10 + 0.013) for _ in range(2)))


@given(st.lists(st.lists(CORNER, min_size=3, max_size=7), min_size=1, max_size=3))
def test_polygons_match_a_look_from_each_pixels_middle(polygons: list[list[tuple[float, float]]]) -> None:
    found = segment([[number for corner in polygon for number in corner] for polygon in polygons], (8, 11))
    for row in range(8):
        for column in range(11):
            middle = column + 0.5, row + 0.5
            distance = min(_distance(middle, *edge) for polygon in polygons for edge in _edges(polygon))
            if distance > 1e-6:
                assert found[row, column] == any(inside_by_angle(polygon, *middle) for polygon in polygons)


def _edges(polygon: list[tuple[float, float]]) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    return list(zip(polygon, [*polygon[1:], polygon[0]], strict=True))


def _distance(point: tuple[float, float], start: tuple[float, float], stop: tuple[float, float]) -> float:
    """The distance of a point from a line between two others."""
    place, first, last = np.array(point), np.array(start), np.array(stop)
    length = max(((last - first) ** 2).sum(), 1e-12)
    share = np.clip((place - first) @ (last - first) / length, 0, 1)
    return float(np.linalg.norm(place - first - share * (last - first)))


DAMAGED_OUTLINES = (
    [],
    {},
    {"counts": [3, 4]},
    {"counts": "compressed"},
    {"counts": [-1, 4801]},
    [[1, 2, 3]],
    [["a"] * 6],
    3,
)


@pytest.mark.parametrize("segmentation", DAMAGED_OUTLINES, ids=str)
def test_a_damaged_outline_is_a_fault_of_its_photo_alone(segmentation: object, source: Source) -> None:
    with pytest.raises(Fault):
        segment(segmentation, SIZE)
    whole, damaged = source.add(1, box(0, 0, 9, 9)), source.add(2, segmentation)
    (report,) = source.prepare()
    assert_one_left_out(report, "damaged annotations", "", damaged, [whole])


# Strokes ------------------------------------------------------------------------------------------------------------


def points_of(seed: int) -> dict[str, tuple[float, float]]:
    random = np.random.default_rng(seed)
    return {name: tuple(random.uniform(-5, 85, 2)) for name in POINTS if random.random() < 0.8}


@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=3))
def test_strokes_lie_inside_their_own_person_near_the_persons_lines(seeds: list[int]) -> None:
    tree, known = Hierarchy.default(), book("coco")
    masks = [np.random.default_rng(seed).random(SIZE) < 0.7 for seed in seeds]
    people = [Person(runs(mask), False, points_of(seed)) for seed, mask in zip(seeds, masks, strict=True)]
    drawn = label_map(people, SIZE, tree, known)
    np.testing.assert_array_equal(drawn > 0, np.any(masks, axis=0))
    names = dict(zip(tree.labels, tree.nodes, strict=True))
    for row, column in np.argwhere((drawn > 0) & (drawn != BODY))[::17]:
        (owner,) = (index for index, mask in enumerate(masks) if mask[row, column])
        stroke = known["strokes"][names[drawn[row, column]]]
        reach = stroke["width"] * np.sqrt(masks[owner].sum()) / 2 + 1.5
        assert any(
            _distance((column, row), *ends) <= reach
            for line in stroke["lines"]
            if (ends := _ends(line, people[owner].points))
        )


def _ends(line: list[str], points: Any) -> list[tuple[float, float]] | None:
    ends = [[points.get(name) for name in end.split("+")] for end in line]
    return None if any(None in end for end in ends) else [tuple(np.mean(end, axis=0)) for end in ends]


def test_every_part_of_somebody_who_stands_is_drawn(tree: Hierarchy) -> None:
    drawn = label_map([Person(box(0, 0, HEIGHT, WIDTH), False, STANDING)], SIZE, tree, book("coco"))
    assert {tree.labels[leaf] for leaf in tree.leaves} <= set(np.unique(drawn).tolist())


def test_a_hidden_key_point_draws_nothing(source: Source) -> None:
    name = source.add(1, box(0, 0, HEIGHT, WIDTH))
    source.point({}, hidden=STANDING)
    source.prepare()
    assert np.unique(read_mask(source.out, name)).tolist() == [BODY]


# Photos -------------------------------------------------------------------------------------------------------------


def test_persons_are_bodies_and_crowds_are_void_where_nobody_is_outlined(source: Source) -> None:
    name = source.add(1, box(10, 10, 30, 30), box(20, 20, 40, 40))
    source.annotate(1, runs(np.arange(WIDTH) % WIDTH >= np.full((HEIGHT, 1), 25)), crowd=1)
    source.annotate(1, box(50, 0, 60, 10), category=18)
    source.prepare()
    expected = np.zeros(SIZE, np.uint8)
    expected[:, 25:] = VOID
    expected[10:30, 10:30] = expected[20:40, 20:40] = BODY
    np.testing.assert_array_equal(read_mask(source.out, name), expected)


@pytest.mark.parametrize(("height", "width"), [(864, 648), (333, 500), (40, 1000), (432, 10)])
def test_photos_and_masks_shrink_alike_and_never_grow(height: int, width: int, source: Source, tree: Hierarchy) -> None:
    name = source.add(1, box(0, 0, height, width // 2), height=height, width=width)
    source.prepare()
    (example,) = load_examples(source.out, [name], tree)
    scale = min(1, LONGEST_SIDE / max(height, width))
    assert example.label_map.shape == (round(height * scale), round(width * scale))
    half = example.label_map.shape[1] // 2
    assert (example.label_map[:, : half - 1] == BODY).all()
    assert not example.label_map[:, half + 1 :].any()


def test_the_folder_loads_and_holds_nothing_else(source: Source, tree: Hierarchy) -> None:
    names = [source.add(number, box(0, 0, 9, 9)) for number in (25, 9)]
    (report,) = source.prepare()
    assert report.complete
    assert read_ids(source.out, "train") == sorted(names)
    photos = {f"JPEGImages/{name}.jpg" for name in names} | {f"gt_masks/{name}.png" for name in names}
    assert files(source.out) == photos | {"labels.json", "train_id.txt"}
    assert len(load_examples(source.out, names, tree)) == 2


def test_photos_without_people_are_told_or_become_nobody(source: Source, tree: Hierarchy) -> None:
    person, dog, nothing = source.add(1, box(0, 0, 9, 9)), source.add(2), source.add(3)
    source.annotate(2, box(0, 0, 9, 9), category=18)
    (report,) = source.prepare()
    assert report.left_out == {"photos without people, left out": [dog, nothing]}
    assert report.complete
    source.out = source.out.with_name("again")
    people, empty = source.prepare(nobody=source.nobody)
    assert people.complete
    assert empty.complete
    assert not people.left_out
    assert read_ids(source.out, "train") == [person]
    assert read_ids(source.nobody, "train") == [dog, nothing]
    assert files(source.nobody) == {f"JPEGImages/{dog}.jpg", f"JPEGImages/{nothing}.jpg", "train_id.txt"}
    assert not load_examples(source.nobody, [dog], tree, masks=False)[0].label_map.any()


def test_a_list_chooses_photos_and_what_it_names_in_vain_is_a_fault(source: Source, tmp_path: Path) -> None:
    first, _, third = (source.add(number, box(0, 0, 9, 9)) for number in (1, 2, 3))
    ids = tmp_path / "ids.txt"
    ids.write_bytes(f"{third}\r\n{first}\r\n".encode())
    assert source.prepare(ids)[0].complete
    assert read_ids(source.out, "train") == [first, third]
    ids.write_text(f"{first}\ncoco_000000000099\n")
    source.out = source.out.with_name("again")
    (report,) = source.prepare(ids)
    assert report.faults == {"listed photos without an annotation": ["coco_000000000099"]}


def test_the_shipped_list_fits_the_ids_that_are_made(source: Source) -> None:
    shipped = REPOSITORY / "train" / "splits" / "extra_coco_train_id.txt"
    numbers = [int(name.removeprefix("coco_")) for name in read_list(shipped)]
    source.add(numbers[0], box(0, 0, 9, 9))
    (report,) = source.prepare(shipped)
    assert report.written == {"train": 1}
    assert len(report.faults["listed photos without an annotation"]) == len(numbers) - 1 == 230


def test_two_parts_of_the_data_set_are_prepared_as_one(source: Source, tmp_path: Path) -> None:
    first = source.add(1, box(0, 0, 9, 9))
    source.write()
    other = Source(tmp_path / "other")
    second = other.add(2, box(0, 0, 9, 9))
    other.write()
    prepare([source.images, other.images], [source.instances, other.instances], source.out)
    assert read_ids(source.out, "train") == [first, second]


# Faults and refusals ------------------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no photo": (lambda photo: photo.unlink(), "annotations without a photo", ""),
    "damaged": (lambda photo: photo.write_bytes(photo.read_bytes()[:400]), "damaged photos", "damaged or incomplete"),
    "turned": (
        lambda photo: write_photo(photo, WIDTH, HEIGHT),
        "photos of another size than their annotation",
        "(80, 60), not (60, 80)",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_its_photo_which_alone_is_left_out(name: str, source: Source) -> None:
    damage, kind, reason = FAULTS[name]
    whole, damaged = source.add(1, box(0, 0, 9, 9)), source.add(2, box(0, 0, 9, 9))
    damage(source.images / f"{2:012}.jpg")
    (report,) = source.prepare()
    assert_one_left_out(report, kind, reason, damaged, [whole])


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


REFUSALS: dict[str, Callable[[Source], object]] = {
    "no file": lambda source: source.instances.unlink(),
    "no JSON": lambda source: source.instances.write_bytes(b"<html>"),
    "a list": lambda source: source.instances.write_text("[]"),
    "captions": lambda source: rewrite(source.instances, annotations=[{"caption": "A dog."}]),
    "no person": lambda source: rewrite(source.instances, categories=[{"id": 1, "name": "dog"}]),
    "instances as key points": lambda source: source.keypoints.write_bytes(source.instances.read_bytes()),
    "too few key points": lambda source: rewrite(
        source.keypoints, annotations=[{"id": 1, "category_id": 1, "keypoints": [1, 2, 2]}]
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_wrong_annotation_file_is_refused_before_anything_is_written(name: str, source: Source) -> None:
    source.add(1, box(0, 0, 9, 9))
    source.point(STANDING, hidden={})
    source.write()
    REFUSALS[name](source)
    with pytest.raises(PrepareError, match=r"\.json cannot be read .*COCO's annotations"):
        prepare([source.images], [source.instances], source.out, [source.keypoints])
    assert not source.out.exists()


def test_the_command_writes_both_folders(source: Source, capsys: pytest.CaptureFixture[str]) -> None:
    source.add(1, box(0, 0, 9, 9))
    source.add(2)
    source.write()
    words = ["--images", source.images, "--annotations", source.instances, "--out", source.out]
    assert command("coco", *words, "--keypoints", source.keypoints, "--nobody", source.nobody) == 0
    assert capsys.readouterr().out.count("The data set is complete.") == 2
