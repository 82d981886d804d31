"""The report of the loss comparison has the figures of the results, and no sentence that they do not bear out."""

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
import scipy.stats

from hierseg.losses import ACTIVATION_OF
from hierseg.metrics import Calibration, PhotoCounts
from hierseg.tree import Hierarchy
from studies.losses.__main__ import main
from studies.losses.report import PAIRS, Comparison, figures_of, tables, write
from studies.losses.rows import ROWS, TITLES
from studies.losses.statistics import write_table
from studies.losses.sweep import summary
from tests import REPOSITORY
from tests.rounding import assert_figures
from train.report import ReportError

STUDIES = REPOSITORY / "studies"
RESULTS = STUDIES / "losses" / "results"
PROTOCOL = STUDIES / "predecessor" / "protocol.json"
TEXT = "Tree-Min is ahead by <!-- report: tree_min-bce parts higher -->old<!-- end --> points.\n"


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
    return Comparison.read(folder, Hierarchy.default(), resamples=10)


def written(folder: Path, text: str = TEXT) -> Path:
    """Write a text to set figures into and return its folder."""
    folder.mkdir()
    (folder / "losses.md").write_text(text, encoding="utf-8")
    return folder


def swapped(folder: Path, out: Path, first: str, second: str) -> Path:
    """Copy results with those of two rows exchanged."""
    out.mkdir()
    other = {first: second, second: first}
    for path in folder.iterdir():
        row, _, rest = path.name.rpartition("-")
        (out / f"{other.get(row, row)}-{rest}").write_bytes(path.read_bytes())
    return out


def cells(table: str) -> dict[str, list[str]]:
    """Return the rows of a table by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {row[0]: row[1:] for row in rows}


def table_of(rows: Iterable[str]) -> np.ndarray:
    """Return points of IoU at parts of committed runs, shape (rows, seeds)."""
    paths = [[RESULTS / f"{row}-{seed}.json" for seed in range(3)] for row in rows]
    found = [[json.loads(path.read_text(encoding="utf-8")) for path in row] for row in paths]
    return np.array([[100 * result["figures"]["path/iou/parts"] for result in row] for row in found])


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All rows; Tree-Min is far better than BCE, the softmax over leaves best of all."""
    right = dict.fromkeys(ROWS, 0.7) | {"tree_min": 0.8, "leaf_cross_entropy": 0.9}
    return write_results(tmp_path_factory.mktemp("grid"), right)


# Sentences


def test_a_sentence_has_its_figure_while_it_holds_and_is_refused_when_results_turn(grid: Path, tmp_path: Path) -> None:
    folder = written(tmp_path / "report")
    write(grid, folder, PROTOCOL, resamples=10)
    text = (folder / "losses.md").read_text(encoding="utf-8")
    assert re.fullmatch(r"Tree-Min is ahead by <!-- .*? -->\+\d+\.\d\d \[\+.*, \+.*\]<!-- end --> points.\n", text)
    with pytest.raises(ReportError, match=r"no figure 'tree_min-bce parts higher'.*'tree_min-bce parts lower'"):
        write(swapped(grid, tmp_path / "swapped", "bce", "tree_min"), folder, PROTOCOL, resamples=10)
    assert (folder / "losses.md").read_text(encoding="utf-8") == text


def test_what_is_claimed_is_either_higher_or_lower_or_open(grid: Path) -> None:
    names = [name.rsplit(" ", 1) for name in figures_of(read(grid)) if name.endswith((" higher", " lower", " open"))]
    assert len(names) == len({name for name, _ in names}) == 13 * (8 + 3 + 3)


def test_without_a_row_there_are_no_figures_of_it(tmp_path: Path) -> None:
    comparison = read(write_results(tmp_path, {"bce": 0.7, "tree_min": 0.8}))
    names = " ".join(figures_of(comparison))
    assert "tree_min-bce parts higher" in names and "focal" not in names and "tree parts" not in names
    assert list(cells(tables(comparison)["losses"])) == ["loss", "---", "BCE", "Tree-Min"]


# Intervals


def test_effects_and_pairs_are_those_of_a_two_way_table_in_their_families() -> None:
    comparison = Comparison.read(RESULTS, Hierarchy.default(), resamples=10)
    table = table_of(ROWS)
    noise = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    error = np.sqrt((noise**2).sum() / 14 / 3)  # of the mean of a row
    bce, focal, tree, both = table_of(("bce", "focal", "tree_min", "focal_tree_min")).mean(1)
    student = scipy.stats.t.ppf(1 - 0.05 / 2 / 9, 14) * error
    for name, estimate, reach in (
        ("tree", (tree + both - bce - focal) / 2, student),
        ("focus", (focal + both - bce - tree) / 2, student),
        ("interaction", both - focal - (tree - bce), 2 * student),
        ("tree_min-bce", tree - bce, scipy.stats.studentized_range.ppf(1 - 0.05 / 3, 8, 14) * error),
    ):
        found = comparison.interval(name, "parts")
        bounds = [100 * each for each in (found.estimate, found.low, found.high)]
        assert bounds == pytest.approx([estimate, estimate - reach, estimate + reach], abs=1e-3), name


# Tables


def test_every_mean_stands_in_its_row_and_column(grid: Path) -> None:
    table = cells(tables(read(grid))["losses"])
    columns = {
        "IoU, body": "path/iou/body",
        "IoU, parts": "path/iou/parts",
        "tree distance": "path/tree_cost",
        "Brier, parts": "brier/parts",
        "boundary IoU, parts": "path/boundary_iou/parts",
    }
    assert list(table)[2:] == [TITLES[row] for row in ROWS]
    for row in ROWS:
        runs = [json.loads(path.read_text(encoding="utf-8")) for path in grid.glob(f"{row}-?.json")]
        for title, key in columns.items():
            cell = table[TITLES[row]][table["loss"].index(title)]
            assert float(cell) == pytest.approx(np.mean([run["figures"][key] for run in runs]), abs=6e-4)
        errors = [run["calibration_error"]["all_pixels"]["parts"] for run in runs]
        assert float(table[TITLES[row]][table["loss"].index("ECE, parts")]) == pytest.approx(np.mean(errors), abs=6e-5)


def test_what_excludes_zero_is_bold(grid: Path) -> None:
    comparison = read(grid)
    found = list(cells(tables(comparison)["pairs"]).values())[2:]
    for (first, second), row in zip(PAIRS, found, strict=True):
        for level, cell in zip(comparison.tree.levels, row, strict=True):
            verdict = comparison.interval(f"{first}-{second}", level).verdict
            assert cell.startswith("**") == (verdict != "open")
    assert {cell[:2] for row in found for cell in row} > {"**"}


# Files


def test_the_same_results_give_the_same_bytes(grid: Path, tmp_path: Path) -> None:
    folders = [written(tmp_path / name) for name in ("first", "second")]
    for folder in folders:
        assert main(["report", "--results", str(grid), "--folder", str(folder)]) == 0
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert first == second and set(first) == {"losses.md", "losses.svg"}
    assert str(tmp_path).encode() not in first["losses.svg"] and b"<dc:date>" not in first["losses.svg"]


def test_the_plot_names_every_loss_and_stands_on_its_own_ground(grid: Path, tmp_path: Path) -> None:
    folder = written(tmp_path / "report")
    write(grid, folder, PROTOCOL, resamples=10)
    svg = (folder / "losses.svg").read_text(encoding="utf-8")
    words = " ".join(re.findall(r">([^<>]+)</t", svg))
    for row in ROWS:
        assert TITLES[row] in words, row
    assert re.search(r'<g id="patch_1">\s*<path [^>]*style="fill: #ffffff"', svg)


def test_results_that_cannot_be_compared_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, report = tmp_path / "results", written(tmp_path / "report")
    command = ["report", "--results", str(results), "--folder", str(report)]
    assert main(command) == 1
    assert "has no results" in capsys.readouterr().err
    folder = write_results(results, {"bce": 0.7, "focal": 0.7}, range(1))
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
    path.with_suffix(".npz").unlink()  # half a result is none
    (report / "losses.md").unlink()
    assert main(command) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_the_committed_report_is_borne_out_by_the_committed_results(tmp_path: Path) -> None:
    committed = STUDIES / "losses" / "report"
    folder = Path(shutil.copytree(committed, tmp_path / "report"))
    write(RESULTS, folder, PROTOCOL)
    text = (committed / "losses.md").read_text(encoding="utf-8")
    assert_figures((folder / "losses.md").read_text(encoding="utf-8"), text)
    # Another processor may round a coordinate, and with it an id, another way.
    (words, numbers), (others, expected) = (drawing((each / "losses.svg").read_text()) for each in (folder, committed))
    assert words == others
    np.testing.assert_allclose(numbers, expected, atol=0.01)
    # Markdown would take a line that begins with a mark for HTML and leave it as it is.
    assert not re.search(r"^\s*<!--(?! report: [\w-]+ -->$| end -->$)", text, re.MULTILINE)


def drawing(svg: str) -> tuple[list[str], list[float]]:
    """Return what an SVG file draws, without ids: words, and numbers."""
    plain = re.sub(r'(id="|#)[mp][0-9a-f]{10}', r"\1", svg)
    number = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
    return re.split(number, plain), [float(value) for value in re.findall(number, plain)]
