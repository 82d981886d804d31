"""The report of the loss comparison has the figures of the results, and no sentence that they do not bear out."""

from __future__ import annotations

import functools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from hierseg.tree import Hierarchy
from studies.losses.__main__ import main
from studies.losses.report import PAIRS, Comparison, figures_of, tables, write
from studies.losses.rows import ROWS, TITLES
from tests import REPOSITORY
from tests.rounding import assert_figures
from train.report import ReportError

LOSSES = ("bce", "focal", "tree_min", "focal_tree_min")
STUDIES = REPOSITORY / "studies"
RESULTS = STUDIES / "losses" / "results"
PROTOCOL = STUDIES / "predecessor" / "protocol.json"
TEXT = "Tree-Min is behind by <!-- report: tree_min-bce parts lower -->old<!-- end --> points.\n"


@functools.cache
def committed() -> Comparison:
    return Comparison.read(RESULTS, Hierarchy.default(), resamples=10)


def result_of(row: str, seed: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{row}-{seed}.json").read_text(encoding="utf-8"))
    return found


def written(folder: Path, text: str = TEXT) -> Path:
    """Write a text to set figures into and return its folder."""
    folder.mkdir()
    (folder / "losses.md").write_text(text, encoding="utf-8")
    return folder


def copied(out: Path, *rows: str, seed: str = "?", **renamed: str) -> Path:
    """Copy results of some rows, some under the name of another row."""
    out.mkdir()
    for row in rows:
        for path in RESULTS.glob(f"{row}-{seed}.*"):
            shutil.copy(path, out / path.name.replace(row, renamed.get(row, row)))
    return out


def cells(table: str) -> dict[str, list[str]]:
    """Return the rows of a table by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {row[0]: row[1:] for row in rows}


# Sentences


def test_a_sentence_has_its_figure_while_it_holds_and_is_refused_when_results_turn(tmp_path: Path) -> None:
    folder = written(tmp_path / "report")
    results = copied(tmp_path / "results", *ROWS)
    write(results, folder, PROTOCOL, resamples=10)
    text = (folder / "losses.md").read_text(encoding="utf-8")
    assert re.fullmatch(r"Tree-Min is behind by <!-- .*? -->-\d+\.\d\d \[-.*, -.*\]<!-- end --> points.\n", text)
    turned = copied(tmp_path / "turned", *ROWS, bce="tree_min", tree_min="bce")
    with pytest.raises(ReportError, match=r"no figure 'tree_min-bce parts lower'.*'tree_min-bce parts higher'"):
        write(turned, folder, PROTOCOL, resamples=10)
    assert (folder / "losses.md").read_text(encoding="utf-8") == text


def test_what_is_claimed_is_either_higher_or_lower_or_open() -> None:
    names = [name.rsplit(" ", 1) for name in figures_of(committed()) if name.endswith((" higher", " lower", " open"))]
    assert len(names) == len({name for name, _ in names}) == 13 * (8 + 3 + 3)


def test_without_a_row_there_are_no_figures_of_it(tmp_path: Path) -> None:
    comparison = Comparison.read(copied(tmp_path / "out", "bce", "tree_min"), Hierarchy.default(), resamples=10)
    names = " ".join(figures_of(comparison))
    assert "tree_min-bce parts" in names and "focal" not in names and "tree parts" not in names
    assert list(cells(tables(comparison)["losses"])) == ["loss", "---", "BCE", "Tree-Min"]


# Intervals


def test_effects_and_pairs_are_those_of_a_two_way_table_in_their_families() -> None:
    points = [[100 * result_of(row, seed)["figures"]["path/iou/parts"] for seed in range(3)] for row in ROWS]
    table = np.array(points)
    noise = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    error = np.sqrt((noise**2).sum() / 14 / 3)  # of the mean of a row
    bce, focal, tree, both = table.mean(1)[[list(ROWS).index(row) for row in LOSSES]]
    student = scipy.stats.t.ppf(1 - 0.05 / 2 / 9, 14) * error
    for name, estimate, reach in (
        ("tree", (tree + both - bce - focal) / 2, student),
        ("focus", (focal + both - bce - tree) / 2, student),
        ("interaction", both - focal - (tree - bce), 2 * student),
        ("tree_min-bce", tree - bce, scipy.stats.studentized_range.ppf(1 - 0.05 / 3, 8, 14) * error),
    ):
        found = committed().interval(name, "parts")
        bounds = [100 * each for each in (found.estimate, found.low, found.high)]
        assert bounds == pytest.approx([estimate, estimate - reach, estimate + reach], abs=1e-3), name


# Tables


def test_every_mean_stands_in_its_row_and_column() -> None:
    table = cells(tables(committed())["losses"])
    columns = {
        "IoU, body": "path/iou/body",
        "IoU, parts": "path/iou/parts",
        "Brier, parts": "brier/parts",
        "boundary IoU, parts": "path/boundary_iou/parts",
    }
    assert list(table)[2:] == [TITLES[row] for row in ROWS]
    for row in ROWS:
        runs = [result_of(row, seed) for seed in range(3)]
        of_row = dict(zip(table["loss"], table[TITLES[row]], strict=True))
        for title, key in columns.items():
            assert float(of_row[title]) == pytest.approx(np.mean([run["figures"][key] for run in runs]), abs=6e-4)
        errors = [run["calibration_error"]["all_pixels"]["parts"] for run in runs]
        assert float(of_row["ECE, parts"]) == pytest.approx(np.mean(errors), abs=6e-5)


def test_what_excludes_zero_is_bold() -> None:
    found = list(cells(tables(committed())["pairs"]).values())[2:]
    for (first, second), row in zip(PAIRS, found, strict=True):
        for level, cell in zip(committed().tree.levels, row, strict=True):
            verdict = committed().interval(f"{first}-{second}", level).verdict
            assert cell.startswith("**") == (verdict != "open")


# Files


def test_the_same_results_give_the_same_bytes_and_a_plot_that_names_every_loss(tmp_path: Path) -> None:
    folders = [written(tmp_path / name) for name in ("first", "second")]
    for folder in folders:
        write(RESULTS, folder, PROTOCOL, resamples=10)
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert first == second and set(first) == {"losses.md", "losses.svg"}
    svg = first["losses.svg"].decode()
    assert "<dc:date>" not in svg
    assert re.search(r'<g id="patch_1">\s*<path [^>]*style="fill: #ffffff"', svg)  # its own ground
    words = " ".join(re.findall(r">([^<>]+)</t", svg))
    assert all(TITLES[row] in words for row in ROWS)


def test_results_that_cannot_be_compared_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, report = tmp_path / "results", written(tmp_path / "report")
    command = ["report", "--results", str(results), "--folder", str(report)]
    assert main(command) == 1
    assert "has no results" in capsys.readouterr().err
    path = copied(results, "bce", "focal", seed="0") / "focal-0.json"
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
    ours = STUDIES / "losses" / "report"
    folder = Path(shutil.copytree(ours, tmp_path / "report"))
    write(RESULTS, folder, PROTOCOL)
    text = (ours / "losses.md").read_text(encoding="utf-8")
    assert_figures((folder / "losses.md").read_text(encoding="utf-8"), text)
    # Another processor may round a coordinate, and with it an id, another way.
    (words, numbers), (others, expected) = (drawing((each / "losses.svg").read_text()) for each in (folder, ours))
    assert words == others
    np.testing.assert_allclose(numbers, expected, atol=0.01)
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for name in ("tree_min-bce parts lower", "leaf_cross_entropy-bce parts higher", "violations bce"):
        (figure,) = set(re.findall(rf"<!-- report: {name} -->(.*?)<!-- end -->", text))
        assert figure in readme, name
    # Markdown would take a line that begins with a mark for HTML and leave it as it is.
    assert not re.search(r"^\s*<!--(?! report: [\w-]+ -->$| end -->$)", text, re.MULTILINE)


def drawing(svg: str) -> tuple[list[str], list[float]]:
    """Return what an SVG file draws, without ids: words, and numbers."""
    plain = re.sub(r'(id="|#)[mp][0-9a-f]{10}', r"\1", svg)
    number = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
    return re.split(number, plain), [float(value) for value in re.findall(number, plain)]
