"""Figures of tables against the streaming measures, and intervals against plain loops and textbook numbers."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hierseg.metrics import Evaluation, PhotoCounts, SeedIoU
from hierseg.tree import Hierarchy
from studies.losses.report import Comparison, Difference, Run
from studies.losses.statistics import Interval, drawings, figures, over_seeds, read_table, write_table
from tests.trees import hierarchies, label_maps, node_and_above, nodes_of_label, score_maps

Photo = tuple[np.ndarray, np.ndarray, np.ndarray]  # node scores, decoded labels, true labels


@st.composite
def photos_of(draw: st.DrawFn, tree: Hierarchy, least: int = 1) -> list[Photo]:
    """Draw scores, decoded and true labels of some photos of different sizes.

    Void is in the truth only, whose labels are of leaves: those of the study know all or nothing of a pixel.
    """
    inner = [label for label, children in zip(tree.labels, tree.children, strict=True) if children]

    def photo(shape: tuple[int, int]) -> Photo:
        truth = draw(label_maps(tree, shape))
        truth[np.isin(truth, inner)] = tree.void
        return draw(score_maps(tree, shape)), draw(label_maps(tree, shape, void=False)), truth

    shapes = draw(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=least, max_size=4))
    return [photo(shape) for shape in shapes]


def table_of(tree: Hierarchy, photos: list[Photo]) -> dict[str, np.ndarray]:
    counts = PhotoCounts(tree)
    for scores, labels, truth in photos:
        counts.add(scores, {"path": tree.node_masks(labels)}, truth)
    return counts.arrays()


def plain(found: dict[str, np.ndarray]) -> dict[str, float]:
    assert all(values.shape == (1,) for values in found.values())
    return {key: float(values[0]) for key, values in found.items()}


def same(first: dict[str, float], second: dict[str, float]) -> bool:
    return first == pytest.approx(second, nan_ok=True, rel=1e-9, abs=1e-12)


@given(st.data())
def test_figures_are_those_of_the_streaming_measures(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    photos = data.draw(photos_of(tree))
    found = plain(figures(table_of(tree, photos), tree))
    evaluation, of_path = Evaluation(tree), SeedIoU(tree)
    for scores, labels, truth in photos:
        evaluation.add(scores, labels, truth)
        of_path.add(tree.node_masks(labels), truth)
    summary = evaluation.summary()

    def expect(key: str, value: float | None) -> None:
        assert found[key] == pytest.approx(np.nan if value is None else value, nan_ok=True), key

    expect("violations", summary["violations"]["raw"])
    for name, value in summary["dataset_iou"]["nodes"].items():
        expect(f"path/node_iou/{name}", value)
    expect("path/node_iou/background", summary["dataset_iou"]["background"])
    for level in tree.levels:
        expect(f"path/iou/{level}", summary["dataset_iou"]["levels"][level])
        expect(f"path/iou_with_background/{level}", summary["dataset_iou"]["levels_with_background"][level])
        expect(f"seed/photo_iou/{level}", summary["seed_iou"]["levels"][level])
        expect(f"path/photo_iou/{level}", of_path.levels()[level])
        for size, part in summary["by_person_size"].items():
            expect(f"path/iou/{level}/{size}", part["levels"][level])


def edges_between(tree: Hierarchy, first: int, second: int) -> int:
    """Walk up from two labels until they meet, background being above the roots; return the steps."""
    up, other = (
        [*node_and_above(tree, tree.labels.index(label)), -1] if label in tree.labels else [-1]
        for label in (first, second)
    )
    meeting = next(node for node in up if node in other)
    return up.index(meeting) + other.index(meeting)


@given(st.data())
def test_accuracy_and_distance_are_those_of_walks_along_the_tree(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    photos = data.draw(photos_of(tree))
    found = plain(figures(table_of(tree, photos), tree))
    distances = [
        edges_between(tree, labels[at], truth[at])
        for _, labels, truth in photos
        for at in np.ndindex(truth.shape)
        if truth[at] != tree.void
    ]
    mistakes = [distance for distance in distances if distance]
    accuracy = 1 - len(mistakes) / len(distances) if distances else np.nan
    assert found["path/full_path_accuracy"] == pytest.approx(accuracy, nan_ok=True)
    assert found["path/tree_distance"] == pytest.approx(np.mean(mistakes) if mistakes else np.nan, nan_ok=True)


@given(st.data())
def test_brier_and_broken_edges_are_those_of_loops_over_pixels(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    photos = data.draw(photos_of(tree))
    found = plain(figures(table_of(tree, photos), tree))
    for level, nodes in tree.levels.items():
        errors = [
            (float(scores[(node, *at)]) - (node in nodes_of_label(tree, truth[at]))) ** 2
            for scores, _, truth in photos
            for at in np.ndindex(truth.shape)
            if truth[at] != tree.void
            for node in nodes
        ]
        expected = sum(errors) / len(errors) if errors else np.nan
        assert found[f"brier/{level}"] == pytest.approx(expected, nan_ok=True, rel=1e-4)
    broken = [
        sum(
            parent >= 0 and scores[(node, *at)] > 0.5 >= scores[(parent, *at)]
            for node, parent in enumerate(tree.parents)
        )
        for scores, _, truth in photos
        for at in np.ndindex(truth.shape)
    ]
    assert found["broken_edges"] == pytest.approx(
        sum(broken) / sum(map(bool, broken)) if any(broken) else np.nan, nan_ok=True
    )


@given(st.data())
def test_a_perfect_decoding_has_1_and_no_distance(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    truth = data.draw(label_maps(tree, void=False))
    found = plain(figures(table_of(tree, [(tree.node_masks(truth).astype(np.float32), truth, truth)]), tree))
    for key, value in found.items():
        if "iou" in key or "accuracy" in key:
            assert value == 1 or np.isnan(value), key
        elif key.startswith(("brier", "violations")):
            assert value == 0, key
    assert np.isnan(found["path/tree_distance"]) and np.isnan(found["broken_edges"])


@given(st.data())
def test_a_weight_counts_a_photo_as_often_as_it_says(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    photos = data.draw(photos_of(tree))
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(photos), max_size=len(photos)).filter(any))
    repeated = [photo for photo, count in zip(photos, times, strict=True) for _ in range(count)]
    weighted = figures(table_of(tree, photos), tree, np.array([times], float))
    assert same(plain(weighted), plain(figures(table_of(tree, repeated), tree)))


# Files


@given(data=st.data())
@settings(max_examples=5)
def test_a_table_is_read_as_it_was_written_and_written_with_the_same_bytes(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tree = data.draw(hierarchies())
    table = table_of(tree, data.draw(photos_of(tree)))
    folder = tmp_path_factory.mktemp("tables")
    write_table(folder / "first.npz", table)
    write_table(folder / "second.npz", table)
    found = read_table(folder / "first.npz")
    assert list(found) == list(table)
    for key, values in table.items():
        assert found[key].dtype == values.dtype
        assert np.array_equal(found[key], values)
    assert (folder / "first.npz").read_bytes() == (folder / "second.npz").read_bytes()
    times = {entry.date_time for entry in zipfile.ZipFile(folder / "first.npz").infolist()}
    assert times == {(1980, 1, 1, 0, 0, 0)}  # the first there is, not that of writing


def test_a_table_never_unpickles(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", truth=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_table(tmp_path / "objects.npz")


# Intervals


def test_the_interval_over_seeds_is_students() -> None:
    # Of 2, 4 and 6: mean 4, standard deviation 2, and 4.302653 from every table of Student's t for two degrees.
    found = over_seeds([2.0, 4.0, 6.0])
    assert (found.low, found.estimate, found.high) == pytest.approx(
        (4 - 4.302653 * 2 / 3**0.5, 4, 4 + 4.302653 * 2 / 3**0.5)
    )
    assert over_seeds([1.0, 1.0]) == Interval(1.0, 1.0, 1.0)


def test_one_seed_has_no_interval() -> None:
    found = over_seeds([0.5])
    assert found.estimate == 0.5 and np.isnan([found.low, found.high]).all()


def test_students_interval_holds_the_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    for confidence in (0.5, 0.95):
        intervals = [over_seeds(random.normal(7, 3, 3).tolist(), confidence) for _ in range(2000)]
        assert np.mean([each.low <= 7 <= each.high for each in intervals]) == pytest.approx(confidence, abs=0.03)


def runs_of(tree: Hierarchy, seeds: range, right: float, photos: int = 40) -> list[dict[str, np.ndarray]]:
    """Tables of runs on the same drawn photos; about that share of pixels is right."""
    random = np.random.default_rng(0)
    truths = [random.choice([tree.background, *tree.labels], (6, 6)).astype(np.uint8) for _ in range(photos)]
    tables = []
    for seed in seeds:
        random = np.random.default_rng(seed + 1)
        decoded = [
            np.where(random.random(truth.shape) < right, truth, random.permuted(truth)).astype(np.uint8)
            for truth in truths
        ]
        tables.append(
            table_of(
                tree,
                [
                    (tree.node_masks(labels).astype(np.float32), labels, truth)
                    for labels, truth in zip(decoded, truths, strict=True)
                ],
            )
        )
    return tables


def compared(tree: Hierarchy, *losses: list[dict[str, np.ndarray]], resamples: int) -> Callable[[str], Difference]:
    """Return what a figure of two losses differs by, each of some runs with the same seeds."""
    weights = drawings(len(losses[0][0]["truth"]), resamples)
    rows = {
        row: {seed: Run({}, table, figures(table, tree, weights)) for seed, table in enumerate(tables)}
        for row, tables in zip(("first", "second"), losses, strict=True)
    }

    def difference(key: str) -> Difference:
        found = Comparison(tree, rows).difference("first", "second", key)
        assert found
        return found

    return difference


def test_a_bootstrap_is_that_of_a_loop_over_drawings(tree: Hierarchy) -> None:
    first, second = runs_of(tree, range(2), 0.8), runs_of(tree, range(2, 4), 0.7)
    found = compared(tree, first, second, resamples=50)
    times = np.random.default_rng(0).multinomial(40, [1 / 40] * 40, 50)

    def mean(tables: list[dict[str, np.ndarray]], drawn: list[int], key: str) -> float:
        values = []
        for table in tables:
            redrawn = {name: np.concatenate([values[[photo]] for photo in drawn]) for name, values in table.items()}
            values.append(plain(figures(redrawn, tree))[key])
        return sum(values) / len(values)

    for key in ("path/iou/parts", "seed/photo_iou/body", "path/tree_distance"):
        draws = [np.repeat(range(40), row).tolist() for row in [np.ones(40, int), *times]]
        estimate, *others = (mean(first, drawn, key) - mean(second, drawn, key) for drawn in draws)
        expected = (estimate, *np.quantile(others, [0.025, 0.975]))
        interval = found(key).photos
        assert (interval.estimate, interval.low, interval.high) == pytest.approx(expected)


def test_a_loss_does_not_differ_from_itself_and_a_better_one_does(tree: Hierarchy) -> None:
    runs, better = runs_of(tree, range(3), 0.6), runs_of(tree, range(3), 0.9)
    of_itself = compared(tree, runs, runs, resamples=20)
    for key in figures(runs[0], tree):
        interval = of_itself(key).photos
        assert interval == Interval(0.0, 0.0, 0.0) or np.isnan(interval.estimate), key
    found = compared(tree, better, runs, resamples=200)("path/iou/parts")
    assert 0.1 < found.photos.low < found.photos.estimate < found.photos.high
    assert 0.1 < found.seeds.low < found.seeds.estimate < found.seeds.high


def test_drawing_the_same_photos_for_both_makes_the_interval_of_a_difference_narrow(tree: Hierarchy) -> None:
    # The losses differ on all photos alike, the photos among themselves much more.
    random = np.random.default_rng(0)
    first: list[Photo] = []
    second: list[Photo] = []
    for photo in range(60):
        truth = random.choice([tree.background, tree.labels[-1]], (8, 8)).astype(np.uint8)
        bad = np.where(random.random((8, 8)) < photo / 100, tree.background, truth).astype(np.uint8)
        worse = bad.copy()
        worse[0] = tree.background
        for photos, labels in ((first, bad), (second, worse)):
            photos.append((tree.node_masks(labels).astype(np.float32), labels, truth))
    tables = table_of(tree, first), table_of(tree, second)
    key = "path/iou/body"
    paired = compared(tree, [tables[0]], [tables[1]], resamples=2000)(key).photos
    weights = np.random.default_rng(1).multinomial(60, [1 / 60] * 60, (2, 2000)).astype(float)
    apart = figures(tables[0], tree, weights[0])[key] - figures(tables[1], tree, weights[1])[key]
    low, high = np.quantile(apart, [0.025, 0.975])
    assert paired.high - paired.low < 0.5 * (high - low)
