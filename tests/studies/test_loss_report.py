"""The report of the loss comparison says what the results say, whichever way they fall, and nothing else."""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierseg.losses import ACTIVATION_OF
from hierseg.metrics import Calibration, PhotoCounts
from hierseg.tree import Hierarchy
from studies.losses import plots
from studies.losses.__main__ import main
from studies.losses.report import Comparison, Difference, finding, findings, quote, text, write
from studies.losses.rows import ROWS, TITLES
from studies.losses.statistics import Interval, write_table
from studies.losses.sweep import summary
from tests import REPOSITORY
from tests.rounding import assert_figures

FILES = {"losses.md", "losses.json", "losses-differences.svg", "losses-photos.svg", "losses-reliability.svg"}
STUDIES = REPOSITORY / "studies"
REPORT = STUDIES / "losses" / "report"


def write_results(folder: Path, right: Mapping[str, float], seeds: Iterable[int] = range(3)) -> Path:
    """Write what a grid would leave; of a seed, rows with the same share of right pixels have the same ones right."""
    folder.mkdir(parents=True, exist_ok=True)
    for row, share in right.items():
        for seed in seeds:
            table, calibration = run(share, seed)
            activation = ACTIVATION_OF[ROWS[row]["loss"]]
            model = {"architecture": "Unet", "encoder": "tiny", "input_size": 64, "activation": activation}
            shared = {"crop": {"size": 64}, "epochs": 1, "batch_size": 2, "positive_weights": {}, "model": model}
            result = {
                "recipe": {"loss": ROWS[row]["loss"], "seed": seed, **shared},
                "data": {"photos": 20, "val_ids_sha256": "0"},
                "protocol": {"flip": False},
                **summary(table, calibration, Hierarchy.default()),
            }
            write_table(folder / f"{row}-{seed}.npz", table)
            (folder / f"{row}-{seed}.json").write_text(json.dumps(result), encoding="utf-8")
    return folder


@functools.cache
def run(share: float, seed: int) -> tuple[dict[str, Any], Calibration]:
    """Return counts and calibration of a run of which about that share of pixels is right, on drawn photos."""
    tree = Hierarchy.default()
    counts, calibration = PhotoCounts(tree), Calibration(tree)
    for photo in range(20):
        truth = np.random.default_rng(photo).choice([tree.background, *tree.labels], (8, 8)).astype(np.uint8)
        random = np.random.default_rng([photo, seed])
        labels = np.where(random.random((8, 8)) < share, truth, random.permuted(truth)).astype(np.uint8)
        masks = tree.node_masks(labels)
        scores = (0.2 * random.random(masks.shape) + 0.6 * masks + 0.1).astype(np.float32)
        scores[0][random.random((8, 8)) > share] = 0  # breaks the tree where somebody is
        counts.add(scores, {"nodes": masks, "path": masks, "flat": masks}, truth)
        calibration.add(scores, labels, truth)
    return counts.arrays(), calibration


def read(folder: Path) -> Comparison:
    return Comparison.read(folder, Hierarchy.default(), resamples=200)


def swapped(folder: Path, out: Path, first: str, second: str) -> Path:
    """Copy results with those of two rows exchanged."""
    out.mkdir()
    other = {first: second, second: first}
    for path in folder.iterdir():
        row, _, rest = path.name.rpartition("-")
        (out / f"{other.get(row, row)}-{rest}").write_bytes(path.read_bytes())
    return out


def cells(report: str, heading: str) -> dict[str, list[str]]:
    """Return the rows of the first table under a heading, or a line, by their first cell, the header's under ""."""
    lines = re.split(f"^(?:## )?{re.escape(heading)}", report, maxsplit=1, flags=re.MULTILINE)[1].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    ends = next((number for number, row in enumerate(table[2:], 2) if row[1].startswith("---")), len(table) + 1)
    header, _, *rows = table[: ends - 1]
    return {"": header[1:], **{row[0]: row[1:] for row in rows}}


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All rows; Tree-Min is far better than BCE, Focal-Tree-Min like Focal, the softmax over leaves best of all."""
    right = dict.fromkeys(ROWS, 0.7) | {"tree_min": 0.8, "leaf_cross_entropy": 0.9}
    return write_results(tmp_path_factory.mktemp("grid"), right)


@pytest.fixture(scope="module")
def report(grid: Path) -> str:
    return text(read(grid), {})


# What counts as shown


@pytest.mark.parametrize(
    ("photos", "seeds", "sign", "verdict"),
    [
        ((1, 2), (0.5, 3), 1, "shown"),
        ((-2, -1), (-3, -0.5), -1, "shown"),
        ((1, 2), (-1, 3), 0, "not shown: the interval over seeds includes zero"),
        ((-1, 2), (0.5, 3), 0, "not shown: the interval over photos includes zero"),
        ((-1, 2), (-1, 3), 0, "not shown"),
        ((0, 0), (0, 0), 0, "not shown"),
        ((-2, -1), (0.5, 3), 0, "not shown"),
    ],
)
def test_a_difference_is_shown_where_both_intervals_are_on_one_side_of_zero(
    photos: tuple[float, float], seeds: tuple[float, float], sign: int, verdict: str
) -> None:
    difference = Difference(Interval(sum(photos) / 2, *photos), Interval(sum(seeds) / 2, *seeds), runs=3)
    assert difference.sign == sign
    assert difference.verdict == verdict


def test_one_seed_shows_nothing(tmp_path: Path) -> None:
    comparison = read(write_results(tmp_path, dict.fromkeys(ROWS, 0.5) | {"tree_min": 0.95}, range(1)))
    difference = comparison.difference("tree_min", "bce", "path/iou/parts")
    assert difference is not None
    assert difference.photos.low > 0.1 and np.isnan(difference.seeds.low)
    assert difference.sign == 0 and difference.verdict == "not shown by one seed"
    report = text(comparison, {})
    assert " ± .0" not in report and "over seeds +" not in report and re.search(r"\] \[", report) is None
    assert {each.verdict for each in findings(comparison)} == {"Not shown."}
    assert finding(comparison).startswith("One seed cannot show")


def test_two_seeds_have_an_interval(tmp_path: Path) -> None:
    report = text(read(write_results(tmp_path, {"bce": 0.7, "tree_min": 0.8}, range(2))), {})
    assert " ± " in cells(report, "The losses")["BCE"][1]
    assert "over 2 seeds" in report


# Whichever way the results fall


def test_the_findings_follow_the_figures(grid: Path) -> None:
    comparison = read(grid)
    tree, focus, broken, exact, leaves, triplet = findings(comparison)
    assert tree.verdict == "Shown better in 3 and worse in 0 of 6 comparisons."
    assert focus.verdict == "Shown better in 0 and worse in 3 of 6 comparisons."  # Focal-Tree-Min against Tree-Min
    assert broken.verdict == "Shown better in 1 and worse in 0 of 2 comparisons."
    assert leaves.verdict == "Shown better in 15 and worse in 0 of 15 comparisons."
    assert exact.verdict == triplet.verdict == "Not shown."
    assert "is shown to help IoU in 3 of 6 comparisons at equal focus" in finding(comparison)


def test_the_answer_turns_when_the_results_are_exchanged(grid: Path, tmp_path: Path) -> None:
    before, after = read(grid), read(swapped(grid, tmp_path / "out", "bce", "tree_min"))
    key = "path/iou/parts"
    first, second = before.difference("tree_min", "bce", key), after.difference("tree_min", "bce", key)
    assert first is not None and second is not None
    assert first.sign == -second.sign == 1
    assert (first.photos.estimate, first.seeds.low) == pytest.approx((-second.photos.estimate, -second.seeds.high))
    assert findings(after)[0].verdict == "Shown better in 0 and worse in 3 of 6 comparisons."
    assert "is shown to harm IoU in 3 of 6 comparisons at equal focus" in finding(after)
    moot = "decoding makes it moot"
    assert not any(moot in reason for each in (before, after) for reason in findings(each)[2].reasons)


def test_losses_that_do_the_same_are_not_shown_to_differ_anywhere(tmp_path: Path) -> None:
    comparison = read(write_results(tmp_path, dict.fromkeys(ROWS, 0.7)))
    assert {each.verdict for each in findings(comparison)} == {"Not shown."}
    assert "is not shown to change IoU in any of 6 comparisons" in finding(comparison)
    report = text(comparison, {})
    assert re.findall(r"\*\*[+.\d-]+\*\*", report) == []
    assert not any("**" in cell for row in cells(report, "The losses").values() for cell in row)


def test_fewer_broken_trees_are_moot_where_masks_are_no_better(tmp_path: Path) -> None:
    folder = write_results(tmp_path, dict.fromkeys(ROWS, 0.7))
    for path in folder.glob("tree_min-*.npz"):
        with np.load(path) as content:
            table = dict(content)
        table["broken"] //= 4
        write_table(path, table)
    broken = findings(read(folder))[2]
    assert broken.verdict == "Shown better in 1 and worse in 0 of 2 comparisons."
    assert "no higher IoU is shown: for masks, decoding makes it moot" in broken.reasons[0]
    assert "moot" not in broken.reasons[1]


def test_what_focus_does_to_probabilities_is_told_of_the_right_losses(grid: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(grid, tmp_path / "grid"))
    for path in folder.glob("focal-*.npz"):
        with np.load(path) as content:
            table = dict(content)
        table["squared_error"] *= 2
        write_table(path, table)
    comparison = read(folder)
    key = "brier/parts"
    more = np.mean([run.values[key][0] / 2 for run in comparison.runs["focal"].values()])
    *_, first, second = findings(comparison)[1].reasons
    assert first.startswith("Focal against BCE") and f"Brier +{more:.4f}".replace("0.", ".") in first
    assert ": shown." in first and second.startswith("Focal-Tree-Min against Tree-Min")
    errors = (f"{comparison.over_seeds(row, 'ece/parts').estimate:.4f}".removeprefix("0") for row in ("focal", "bce"))
    assert f"ECE is {' instead of '.join(errors)}." in first


# The tables


def test_every_figure_stands_in_its_row_and_column(grid: Path, report: str) -> None:
    table = cells(report, "The losses")
    columns = {
        "IoU, body": "path/iou/body",
        "IoU, parts": "path/iou/parts",
        "predecessor's IoU, parts": "seed/photo_iou/parts",
        "distance of mistakes": "path/tree_distance",
        "Brier, parts": "brier/parts",
        "boundary IoU, parts": "path/boundary_iou/parts",
    }
    assert list(table)[1:] == [TITLES[row] for row in ROWS]
    for row in ROWS:
        runs = [json.loads(path.read_text(encoding="utf-8")) for path in grid.glob(f"{row}-?.json")]
        assert len(runs) == 3 and table[TITLES[row]][0] == "3"
        for title, key in columns.items():
            cell = table[TITLES[row]][table[""].index(title)].strip("*").split(" ± ")[0]
            assert float(cell) == pytest.approx(np.mean([run["figures"][key] for run in runs]), abs=6e-3)
        cell = table[TITLES[row]][table[""].index("ECE, parts")]
        errors = [run["calibration_error"]["all_pixels"]["parts"] for run in runs]
        assert float(cell) == pytest.approx(np.mean(errors), abs=6e-5)


def test_every_level_has_its_measures(grid: Path, report: str) -> None:
    comparison = read(grid)
    table = cells(report, "Measures on the levels body / upper-lower / parts; ")
    keys = {"predecessor's IoU": "seed/photo_iou", "boundary IoU": "path/boundary_iou", "ECE": "ece", "Brier": "brier"}
    for row in ROWS:
        *measures, edges = table[TITLES[row]]
        for title, cell in zip(table[""], measures, strict=False):
            found = [float(value) for value in cell.split(" / ")]
            means = [comparison.over_seeds(row, f"{keys[title]}/{level}").estimate for level in comparison.tree.levels]
            assert found == pytest.approx(means, abs=6e-4)
        runs = [json.loads(path.read_text(encoding="utf-8")) for path in grid.glob(f"{row}-?.json")]
        assert float(edges) == pytest.approx(np.mean([run["figures"]["broken_edges"] for run in runs]), abs=6e-3)


def test_only_what_beats_every_other_row_is_bold(report: str) -> None:
    table = cells(report, "The losses")
    bold = {(row, title) for row in table for title, cell in zip(table[""], table[row], strict=True) if "**" in cell}
    assert {row for row, _ in bold} == {"Softmax over leaves"}
    assert {"IoU, body", "IoU, parts", "Brier, parts"} <= {title for _, title in bold}
    assert "ECE, parts" not in {title for _, title in bold}


def test_what_is_missing_is_left_out_and_named(tmp_path: Path) -> None:
    folder = write_results(tmp_path, {"bce": 0.7, "tree_min": 0.8})
    (folder / "tree_min-2.npz").unlink()  # half a result is none
    comparison = read(folder)
    report = text(comparison, {})
    assert list(cells(report, "The losses")) == ["", "BCE", "Tree-Min"]
    assert f"5 of {3 * len(ROWS)} runs are there." in report
    assert "Not yet: Focal (seed 0, 1, 2); Tree-Min (seed 2); " in report
    tree, _, broken, exact, leaves = findings(comparison)
    assert tree.reasons[1] == "Focal-Tree-Min against Focal: no run of Focal-Tree-Min and Focal yet."
    assert "over 2 seeds" in tree.reasons[0] and tree.verdict.endswith("of 3 comparisons.")
    assert broken.reasons[1] == tree.reasons[1]
    assert exact.verdict == leaves.verdict == "Not run yet."


def test_the_quote_says_which_way_it_falls_and_how_sure(tmp_path: Path) -> None:
    better, worse = (
        quote(read(write_results(tmp_path / name, {"focal_tree_min": ours, "bce": theirs})))
        for name, ours, theirs in (("better", 0.8, 0.7), ("worse", 0.7, 0.8))
    )
    for quoted, side in ((better, "above"), (worse, "below")):
        assert re.search(
            rf"3 seeds each, Focal-Tree-Min's IoU at \w+ is \d+\.\d points {side} BCE's \(shown; 95 % over seeds",
            quoted,
        )
    assert ", and its raw scores break the tree in " in better
    single = quote(read(write_results(tmp_path / "single", {"focal_tree_min": 0.8, "bce": 0.7}, range(1))))
    assert "one seed each" in single and "(not shown by one seed; 95 % over photos" in single
    alone = read(write_results(tmp_path / "alone", {"bce": 0.7}))
    assert quote(alone) == finding(alone)


@pytest.mark.parametrize("row", ["bce", "focal"])
def test_a_single_run_has_a_report(row: str, tmp_path: Path) -> None:
    write(write_results(tmp_path / "grid", {row: 0.7}, range(1)), tmp_path / "out", resamples=10)
    report = (tmp_path / "out" / "losses.md").read_text(encoding="utf-8")
    assert "**Not known yet: there are no two runs that are equal but for the tree.**" in report
    assert "nan" not in report


def test_the_predecessors_own_protocol_has_its_table_where_it_was_measured(report: str, grid: Path) -> None:
    assert "own protocol" not in report
    of_predecessor = {"bce": {"photos": 507, "levels": {"body": 0.7, "upper-lower": 0.6, "parts": 0.5}}}
    table = cells(text(read(grid), of_predecessor), "By the predecessor's own protocol")
    assert table["bce, 507 photos"] == [".700", ".600", ".500"]
    assert table["the predecessor, BCE, 707 photos"] == [".651", ".546", ".407"]


# Files


def test_the_same_results_give_the_same_bytes(grid: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        assert main(["report", "--results", str(grid), "--out", str(tmp_path / name)]) == 0
    contents = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("first", "second")]
    assert contents[0] == contents[1]
    assert set(contents[0]) == FILES
    joined = b"".join(contents[0].values())
    assert str(tmp_path).encode() not in joined and str(grid).encode() not in joined
    assert b"<dc:date>" not in joined
    comparison = Comparison.read(grid, Hierarchy.default())
    assert json.loads(contents[0]["losses.json"]) == {"quote": quote(comparison), "runs": 24, "of": 24}
    assert f"\n**{finding(comparison)}**\n".encode() in contents[0]["losses.md"]


def test_the_report_shows_every_plot(report: str) -> None:
    assert set(re.findall(r"!\[[^]]+\]\((\S+)\)", report)) == {name for name in FILES if name.endswith(".svg")}


def test_results_that_cannot_be_compared_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["report", "--results", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(command) == 1
    assert "has no results" in capsys.readouterr().err
    folder = write_results(tmp_path, {"bce": 0.7, "focal": 0.7}, range(1))
    path = folder / "focal-0.json"
    original: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for change in ({"data": {"photos": 3}}, {"recipe": {**original["recipe"], "epochs": 7}}):
        path.write_text(json.dumps({**original, **change}), encoding="utf-8")
        assert main(command) == 1
        assert "focal-0.json is of another recipe, protocol or photos" in capsys.readouterr().err
    for content in ("", "{}", "[]"):
        path.write_text(content, encoding="utf-8")
        assert main(command) == 1
        assert "focal-0.json or its .npz is damaged" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_committed_report_is_that_of_the_committed_results(tmp_path: Path) -> None:
    write(STUDIES / "losses" / "results", tmp_path, STUDIES / "predecessor" / "protocol.json")
    for name in FILES:
        made, committed = ((folder / name).read_text(encoding="utf-8") for folder in (tmp_path, REPORT))
        if name.endswith(".svg"):
            # Another processor may round a coordinate, and with it an id, another way.
            (words, numbers), (others, expected) = map(drawing, (made, committed))
            assert words == others
            np.testing.assert_allclose(numbers, expected, atol=0.01)
        else:
            assert_figures(made, committed)


def drawing(svg: str) -> tuple[list[str], list[float]]:
    """Return what an SVG file draws, without ids: words, and numbers."""
    plain = re.sub(r'(id="|#)[mp][0-9a-f]{10}', r"\1", svg)
    number = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
    return re.split(number, plain), [float(value) for value in re.findall(number, plain)]


# Plots


def test_joined_bins_are_those_of_all_pixels_together() -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 3, (4, 15))  # some bins are empty
    sums = random.random((4, 15, 2)) * pixels[..., None]
    runs = [
        [[int(count), *(total / count)] if count else [0, None, None] for count, total in zip(*of_run, strict=True)]
        for of_run in zip(pixels, sums, strict=True)
    ]
    found = plots.joined(runs)
    expected = [[count, *total / count] for count, total in zip(pixels.sum(0), sums.sum(0), strict=True) if count]
    np.testing.assert_allclose(found, expected)


def test_plots_name_every_loss_and_stand_on_their_own_ground(grid: Path, tmp_path: Path) -> None:
    write(grid, tmp_path, resamples=10)
    for name, titles in {
        "losses-differences.svg": [TITLES[row] for row in ROWS if row != "bce"],
        "losses-photos.svg": ["BCE", "Focal-Tree-Min"],
        "losses-reliability.svg": [TITLES[row] for row in ROWS],
    }.items():
        svg = (tmp_path / name).read_text(encoding="utf-8")
        drawn = " ".join(re.findall(r"<!-- (.*?) -->", svg))  # text is drawn as outlines, each with what it says
        for title in titles:
            assert title in drawn, (name, title)
        assert re.search(r'<g id="patch_1">\s*<path [^>]*style="fill: #ffffff"', svg)
