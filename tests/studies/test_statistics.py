"""Figures of tables against those of an evaluation, and intervals against plain loops and textbook numbers."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from hierseg.metrics import Evaluation, stack
from hierseg.tree import Hierarchy
from studies.losses.statistics import Interval, TwoWay, drawings, figures, read_table, write_table
from studies.losses.sweep import counts_of
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
    return stack([counts_of(scores, labels, truth, tree) for scores, labels, truth in photos])


def plain(found: dict[str, np.ndarray]) -> dict[str, float]:
    assert all(values.shape == (1,) for values in found.values())
    return {key: float(values[0]) for key, values in found.items()}


def same(first: dict[str, float], second: dict[str, float]) -> bool:
    return first == pytest.approx(second, nan_ok=True, rel=1e-9, abs=1e-12)


@given(st.data())
def test_figures_are_those_of_an_evaluation(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    photos = data.draw(photos_of(tree))
    found = plain(figures(table_of(tree, photos), tree))
    evaluation = Evaluation(tree)
    for scores, labels, truth in photos:
        evaluation.add(scores, labels, truth)
    summary = evaluation.summary()

    def expect(key: str, value: float | None) -> None:
        assert found[key] == pytest.approx(np.nan if value is None else value, nan_ok=True), key

    expect("violations", summary["violations"])
    for kind in ("median", "mean"):
        expect(f"violations_of_person/{kind}", summary["violations_of_person"][kind])
    for name, value in summary["dataset_iou"]["nodes"].items():
        expect(f"path/node_iou/{name}", value)
    expect("path/node_iou/background", summary["dataset_iou"]["background"])
    for level in tree.levels:
        expect(f"path/iou/{level}", summary["dataset_iou"]["levels"][level])
        expect(f"path/iou_with_background/{level}", summary["dataset_iou"]["levels_with_background"][level])
        expect(f"path/boundary_iou/{level}", summary["boundary_iou"][level])
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
def test_the_mean_cost_is_that_of_walks_along_the_tree(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    photos = data.draw(photos_of(tree))
    found = plain(figures(table_of(tree, photos), tree))
    distances = [
        edges_between(tree, labels[at], truth[at])
        for _, labels, truth in photos
        for at in np.ndindex(truth.shape)
        if truth[at] != tree.void
    ]
    assert found["path/tree_cost"] == pytest.approx(np.mean(distances) if distances else np.nan, nan_ok=True)


@given(st.data())
def test_brier_scores_are_those_of_loops_over_pixels(data: st.DataObject) -> None:
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


@given(st.data())
def test_a_weight_counts_a_photo_as_often_as_it_says(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    photos = data.draw(photos_of(tree))
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(photos), max_size=len(photos)).filter(any))
    repeated = [photo for photo, count in zip(photos, times, strict=True) for _ in range(count)]
    weighted = figures(table_of(tree, photos), tree, np.array([times], float))
    assert same(plain(weighted), plain(figures(table_of(tree, repeated), tree)))


@given(st.data())
def test_figures_of_answers_are_means_over_the_photos_that_have_them(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    photos = data.draw(photos_of(tree))
    table = table_of(tree, photos)
    random = np.random.default_rng(0)
    wrong, stops = random.random(len(photos)), random.random((len(photos), len(tree.levels)))
    stops[random.random(len(photos)) < 0.3] = np.nan  # photos in which nobody was found
    found = plain(figures({**table, "hedged/wrong": wrong, "hedged/stops": stops}, tree))
    assert found["hedged/risk"] == pytest.approx(wrong.mean())
    for number, level in enumerate(tree.levels):
        known = [share for share in stops[:, number] if share == share]
        assert found[f"hedged/{level}"] == pytest.approx(np.mean(known) if known else np.nan, nan_ok=True)


def test_photos_of_another_kind_have_figures_of_what_their_labels_name(tree: Hierarchy) -> None:
    body, upper, head = (tree.labels[tree.index(name)] for name in ("body", "upper", "head"))
    truth = np.array([[0, 0, 0, body, body, upper, head, tree.void]], np.uint8)
    called = np.array([[0, head, 0, head, 0, upper, head, head]], np.uint8)
    own = table_of(tree, [(np.zeros((len(tree), 1, 8), np.float32), called, truth)])
    other = {f"street:{key}": values for key, values in own.items()}
    found = plain(figures({**own, **other}, tree))
    # Of two of the four body pixels found and one too many; of the head, one of one, and one too many on background.
    assert found["street/iou/body"] == pytest.approx(3 / 5)
    assert found["street/iou/upper-lower"] == pytest.approx(2 / 3)  # of upper alone, as none is labelled lower
    assert found["street/iou/parts"] == pytest.approx(1 / 2)
    assert found["street/person"] == pytest.approx(1 / 3)
    assert found["path/iou/body"] == pytest.approx(3 / 5)


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

RUNS = [(row, seed) for row in ("first", "second", "third") for seed in range(4)]
DIFFERENCE = {"first": 1.0, "second": -1.0}


def drawn(runs: list[tuple[str, int]]) -> np.ndarray:
    """Figures of runs, to which rows, seeds and chance contribute."""
    random = np.random.default_rng(0)
    return np.array([[len(row) + seed + random.normal()] for row, seed in runs])


def bounds(interval: Interval) -> tuple[float, float, float]:
    return interval.estimate, interval.low, interval.high


def test_two_rows_have_the_interval_of_a_paired_t_test() -> None:
    runs, values = RUNS[:8], drawn(RUNS[:8])
    expected = scipy.stats.ttest_rel(values[:4, 0], values[4:, 0]).confidence_interval()
    model = TwoWay(runs, values)
    mean = (values[:4] - values[4:]).mean()
    for interval in (model.planned(DIFFERENCE, 1), model.pairwise(DIFFERENCE, 1), model.unpooled(DIFFERENCE)):
        assert bounds(interval) == pytest.approx((mean, *expected))


@pytest.mark.parametrize("sizes", [(4, 4, 4), (2, 5, 3)])
def test_without_seeds_pairs_have_the_intervals_of_scipys_tukey_test(sizes: tuple[int, ...]) -> None:
    rows = [np.random.default_rng(size).normal(0, 1, size) for size in sizes]
    runs = [(name, 0) for name, size in zip(("first", "second", "third"), sizes, strict=True) for _ in range(size)]
    found = TwoWay(runs, np.concatenate(rows)[:, None]).pairwise(DIFFERENCE, 1)
    expected = scipy.stats.tukey_hsd(*rows).confidence_interval()
    assert (found.low, found.high) == pytest.approx((expected.low[0, 1], expected.high[0, 1]), rel=1e-4)


def test_a_row_that_lacks_a_seed_is_compared_in_those_it_has() -> None:
    runs = [run for run in RUNS if run != ("first", 3)]
    values = np.array([[10.0 * len(row) + 100 * seed] for row, seed in runs])  # no chance at all
    model = TwoWay(runs, values)
    assert bounds(model.pairwise(DIFFERENCE, 1)) == pytest.approx((-10, -10, -10), abs=1e-6)
    assert model.unpooled(DIFFERENCE).estimate == pytest.approx(-10)


UNEVEN = [
    (row, seed) for row, seeds in (("first", 5), ("second", 3), ("third", 5), ("fourth", 2)) for seed in range(seeds)
]


@pytest.mark.parametrize(
    "contrast", [DIFFERENCE, {"second": 1.0, "fourth": -1.0}, {"first": 1, "third": 1, "second": -2}]
)
def test_with_rows_of_differing_seeds_intervals_are_those_of_a_regression_on_dummies(
    contrast: dict[str, float],
) -> None:
    """Another parametrisation, solved otherwise: an intercept, and a dummy for each row and seed but the first."""
    values = drawn(UNEVEN)
    rows, seeds = ["first", "second", "third", "fourth"], range(5)
    dummies = [[1, *(row == r for r in rows[1:]), *(seed == s for s in seeds[1:])] for row, seed in UNEVEN]
    design = np.array(dummies, float)
    coefficients, (left,), rank, _ = np.linalg.lstsq(design, values[:, 0])
    degrees = len(UNEVEN) - rank
    weights = np.array([0, *(contrast.get(row, 0) for row in rows[1:]), 0, 0, 0, 0])
    estimate = weights @ coefficients
    error = np.sqrt(left / degrees * weights @ np.linalg.inv(design.T @ design) @ weights)
    model = TwoWay(UNEVEN, values)
    assert (model.degrees, model.variance) == (7, pytest.approx(left / degrees))
    student = scipy.stats.t.ppf(1 - 0.05 / 2 / 9, degrees) * error
    tukey = scipy.stats.studentized_range.ppf(1 - 0.05 / 3, 4, degrees) / np.sqrt(2) * error
    assert bounds(model.planned(contrast, 9)) == pytest.approx((estimate, estimate - student, estimate + student))
    assert bounds(model.pairwise(contrast, 3)) == pytest.approx((estimate, estimate - tukey, estimate + tukey))
    for number, row in enumerate(rows):
        effect = coefficients[number] if number else 0
        assert model.mean(row) == pytest.approx(coefficients[0] + effect + coefficients[4:].sum() / 5)


def test_a_mean_that_no_common_seed_ties_to_the_others_is_that_of_its_own_runs() -> None:
    runs = [("first", 0), ("first", 1), ("second", 2)]
    model = TwoWay(runs, np.array([[1.0], [3.0], [7.0]]))
    assert [model.mean("first"), model.mean("second")] == [2.0, 7.0]
    assert np.isnan(model.pairwise({"first": 1, "second": -1}, 1).estimate)


def test_rows_that_share_no_seed_are_not_compared() -> None:
    runs = [("first", 0), ("first", 1), ("second", 2), ("second", 3), ("third", 2), ("third", 3)]
    model = TwoWay(runs, np.repeat(np.arange(6.0)[:, None], 3, 1))
    for interval in (model.planned(DIFFERENCE, 1), model.pairwise(DIFFERENCE, 1), model.photos(DIFFERENCE)):
        assert np.isnan(bounds(interval)).all() and interval.verdict == "open"
    assert model.planned({"second": 1, "third": -1}, 1).estimate == pytest.approx(-2)


def test_one_seed_shows_nothing() -> None:
    model = TwoWay([("first", 0), ("second", 0)], np.array([[1.0], [0.0]]))
    for interval in (model.planned(DIFFERENCE, 1), model.pairwise(DIFFERENCE, 1), model.unpooled(DIFFERENCE)):
        assert interval.estimate == pytest.approx(1) and interval.verdict == "open"


def test_a_verdict_is_where_the_interval_lies() -> None:
    verdicts = [Interval(low + 1, low, low + 2).verdict for low in (-3, -2, -1, 0, 1)]
    assert verdicts == ["lower", "open", "open", "open", "higher"]


def test_the_interval_over_photos_is_that_of_a_loop_over_drawings(tree: Hierarchy) -> None:
    random = np.random.default_rng(0)
    truths = [random.choice([tree.background, *tree.labels], (6, 6)).astype(np.uint8) for _ in range(40)]

    def table(right: float) -> dict[str, np.ndarray]:
        decoded = [np.where(random.random((6, 6)) < right, each, random.permuted(each)) for each in truths]
        photos = zip(decoded, truths, strict=True)
        return table_of(tree, [(tree.node_masks(each).astype(np.float32), each, truth) for each, truth in photos])

    runs = {("first", 0): table(0.8), ("first", 1): table(0.8), ("second", 0): table(0.7), ("second", 1): table(0.7)}
    times = np.random.default_rng(0).multinomial(40, [1 / 40] * 40, 50)
    draws = [list(range(40)), *(np.repeat(range(40), each).tolist() for each in times)]

    def mean(row: str, draw: list[int], key: str) -> float:
        redrawn = [{name: values[draw] for name, values in runs[row, seed].items()} for seed in (0, 1)]
        return sum(plain(figures(each, tree))[key] for each in redrawn) / 2

    for key in ("path/iou/parts", "path/tree_cost"):
        values = [figures(each, tree, drawings(40, 50))[key] for each in runs.values()]
        estimate, *others = (mean("first", each, key) - mean("second", each, key) for each in draws)
        found = TwoWay(list(runs), np.stack(values)).photos(DIFFERENCE)
        assert bounds(found) == pytest.approx((estimate, *np.quantile(others, [0.025, 0.975])))
