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

from studies.losses.__main__ import main
from studies.losses.report import PAIRS, Comparison, figures_of, tables, write
from studies.losses.rows import FIRST, ROWS, TITLES, plan
from studies.losses.statistics import read_table, write_table
from studies.losses.steps import STEPS
from tests import REPOSITORY
from tests.rounding import assert_figures
from train.recipe import Recipe
from train.report import ReportError

LOSSES = ("bce", "focal", "tree_min", "focal_tree_min")
STUDIES = REPOSITORY / "studies"
RESULTS = STUDIES / "losses" / "results"
GRID = STUDIES / "losses" / "grid.yaml"
SHARED = Recipe.from_yaml(GRID)
SEEDS = (0, 1, 2)
PROTOCOL = STUDIES / "predecessor" / "protocol.json"
TEXT = "Tree-Min is behind by <!-- report: tree_min-bce parts lower -->old<!-- end --> points.\n"


@functools.cache
def committed() -> Comparison:
    """Compare the committed runs of the first eight rows with the first three seeds."""
    runs = Comparison.read(RESULTS, SHARED, resamples=10)
    return Comparison(runs.tree, {run: runs.runs[run] for run in runs.runs if run[0] in FIRST and run[1] in SEEDS})


def result_of(row: str, seed: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{row}-{seed}.json").read_text(encoding="utf-8"))
    return found


def written(folder: Path, text: str = TEXT) -> Path:
    """Write a text to set figures into and return its folder."""
    folder.mkdir()
    (folder / "losses.md").write_text(text, encoding="utf-8")
    return folder


def copied(out: Path, *rows: str, **renamed: str) -> Path:
    """Copy results of some rows with the first three seeds, some as those of another row."""
    out.mkdir(exist_ok=True)
    for row in rows:
        for seed in SEEDS:
            passed_off(out, row, seed, renamed.get(row, row), seed)
    return out


def passed_off(out: Path, row: str, seed: int, as_row: str, as_seed: int) -> Path:
    """Copy one result as if it were another's; returns its JSON file."""
    shutil.copy(RESULTS / f"{row}-{seed}.npz", out / f"{as_row}-{as_seed}.npz")
    result = {**result_of(row, seed), "recipe": plan(SHARED, as_row, as_seed).to_dict()}
    path = out / f"{as_row}-{as_seed}.json"
    path.write_text(json.dumps(result), encoding="utf-8")
    return path


def cells(table: str) -> dict[str, list[str]]:
    """Return the rows of a table by their first cell."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {row[0]: row[1:] for row in rows}


# Sentences


def test_a_sentence_has_its_figure_while_it_holds_and_is_refused_when_results_turn(tmp_path: Path) -> None:
    folder = written(tmp_path / "report")
    results = copied(tmp_path / "results", *FIRST)
    write(results, folder, PROTOCOL, GRID, resamples=10)
    text = (folder / "losses.md").read_text(encoding="utf-8")
    assert re.fullmatch(r"Tree-Min is behind by <!-- .*? -->-\d+\.\d\d \[-.*, -.*\]<!-- end --> points.\n", text)
    turned = copied(tmp_path / "turned", *FIRST, bce="tree_min", tree_min="bce")
    with pytest.raises(ReportError, match=r"no figure 'tree_min-bce parts lower'.*'tree_min-bce parts higher'"):
        write(turned, folder, PROTOCOL, GRID, resamples=10)
    assert (folder / "losses.md").read_text(encoding="utf-8") == text


def test_what_is_claimed_is_either_higher_or_lower_or_open() -> None:
    names = [name.rsplit(" ", 1) for name in figures_of(committed()) if name.endswith((" higher", " lower", " open"))]
    assert len(names) == len({name for name, _ in names}) == 13 * (8 + 3 + 3)


def test_of_a_row_that_was_not_run_there_is_no_claim(tmp_path: Path) -> None:
    comparison = Comparison.read(copied(tmp_path / "out", "bce", "tree_min"), SHARED, resamples=10)
    found = figures_of(comparison)
    claims = " ".join(name for name in found if name.endswith((" higher", " lower", " open")))
    assert "tree_min-bce parts" in claims and "focal" not in claims and "tree parts" not in claims
    assert {found[name] for name in ("parts focal", "risk focal", "risk bce")} == {"not measured yet (36 minutes)"}
    assert list(cells(tables(comparison)["losses"])) == ["loss", "---", "BCE", "Tree-Min"]


def test_what_is_not_run_says_so_until_it_is_and_rows_may_have_differing_seeds(tmp_path: Path) -> None:
    text = (
        "With five seeds <!-- report: tree_min-bce parts -->x<!-- end -->, longer "
        "<!-- report: tree_min_long-bce_long parts -->x<!-- end -->, of <!-- report: count runs -->x<!-- end -->.\n\n"
        "<!-- report: steps -->\n<!-- end -->\n"
    )
    folder, results = written(tmp_path / "report", text), copied(tmp_path / "results", *FIRST)
    seen = []
    for number in range(3):
        if number == 1:  # some of what was left
            for row, seed in (("bce", 3), ("tree_min", 3), ("bce", 4), ("tree_min", 4)):
                passed_off(results, row, seed - 3, row, seed)
            for row in ("bce", "tree_min"):
                passed_off(results, row, 0, f"{row}_long", 0)
        if number == 2:  # the rest of one step
            for seed in (3, 4):
                passed_off(results, "leaf_cross_entropy", seed - 3, "leaf_cross_entropy", seed)
        write(results, folder, PROTOCOL, GRID, resamples=10)
        filled = (folder / "losses.md").read_text(encoding="utf-8")
        steps = [line.split("|")[3].strip() for line in filled.splitlines() if line.startswith("| whether")]
        seen.append((re.findall(r"<!-- report: .*? -->(.*?)<!-- end -->", filled.splitlines()[0]), steps))
    (first, before), (second, partly), (_, after) = seen
    assert first[1:] == ["not run yet (216 minutes)", "24"] and second[2] == "30"
    assert second[0] != first[0] and re.fullmatch(r"[+-]\d+\.\d\d \[.*\]", second[1])
    assert before[:2] == ["not run yet (72 minutes)", "not run yet (216 minutes)"]
    # Two of the runs take as long as four.
    assert partly[:2] == ["not run yet (24 minutes)", "not run yet (168 minutes)"]
    comparison = Comparison.read(results, SHARED, resamples=10)
    assert after[0].strip("*") == figures_of(comparison)["tree_min-bce parts"] and after[1] == partly[1]
    assert {step.tells for step in STEPS if step.pairs} <= set(cells(tables(comparison)["steps"]))
    assert comparison.models["parts"].degrees == 32 - 10 - 5 + 1


def test_newer_measures_are_of_the_runs_that_have_them(tmp_path: Path) -> None:
    results = copied(tmp_path / "results", "bce", "tree_min")
    assert "Not measured yet (72 minutes)" in tables(Comparison.read(results, SHARED, resamples=3))["people"]
    for seed, stops in ((0, [0.1, 0.2, 0.7]), (2, [0.1, 0.4, 0.5])):
        table = read_table(results / f"bce-{seed}.npz")
        photos = len(table["pixels"])
        table |= {"person": np.maximum(table["broken"][:, 0], 1) * 4, "hedged/wrong": np.full(photos, 0.2)}
        table |= {"hedged/stops": np.tile(stops, (photos, 1)), "nobody:truth": np.eye(10, dtype=int)[[9]] * 50}
        table |= {"nobody:path/false_negatives": np.eye(10, dtype=int)[[9]] * 5}
        table |= {"nobody:path/false_positives": np.eye(10, dtype=int)[[0]] * 5}
        write_table(results / f"bce-{seed}.npz", table)
    comparison = Comparison.read(results, SHARED, resamples=3)
    people, domains = (cells(tables(comparison)[name]) for name in ("people", "domains"))
    assert list(people)[2:] == ["BCE"] == list(domains)[2:]
    assert people["BCE"][2:] == [".200", ".600", ".300", ".100"]
    assert float(people["BCE"][0].rstrip("%")) <= 25 and domains["BCE"] == ["10.000%"]
    found = figures_of(comparison)
    assert found["named_parts bce"] == ".600" and found["risk tree_min"] == "not measured yet (36 minutes)"
    assert comparison.older == {("bce", 1), *(("tree_min", seed) for seed in SEEDS)}


# Intervals


def test_effects_and_pairs_are_those_of_a_two_way_table_in_their_families() -> None:
    points = [[100 * result_of(row, seed)["figures"]["path/iou/parts"] for seed in range(3)] for row in FIRST]
    table = np.array(points)
    noise = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    error = np.sqrt((noise**2).sum() / 14 / 3)  # of the mean of a row
    bce, focal, tree, both = table.mean(1)[[list(FIRST).index(row) for row in LOSSES]]
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
    assert list(table)[2:] == [TITLES[row] for row in FIRST]
    assert {path.stem.rpartition("-")[0] for path in RESULTS.glob("*.json")} <= set(ROWS)  # others would not be read
    for row in FIRST:
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
        write(RESULTS, folder, PROTOCOL, GRID, resamples=10)
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert first == second and set(first) == {"losses.md", "losses.svg"}
    svg = first["losses.svg"].decode()
    assert "<dc:date>" not in svg
    assert re.search(r'<g id="patch_1">\s*<path [^>]*style="fill: #ffffff"', svg)  # its own ground
    words = " ".join(re.findall(r">([^<>]+)</t", svg))
    assert all(TITLES[row] in words for row in FIRST)


def test_results_that_cannot_be_compared_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, report = tmp_path / "results", written(tmp_path / "report")
    command = ["report", "--results", str(results), "--folder", str(report)]
    assert main(command) == 1
    assert "has no results" in capsys.readouterr().err
    results.mkdir()
    passed_off(results, "bce", 0, "bce", 0)
    path = passed_off(results, "focal", 0, "focal", 0)
    original: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for change, said in (
        ({"data": {"photos": 3}}, "focal-0.json has another protocol or other photos than"),
        ({"recipe": {**original["recipe"], "epochs": 7}}, "focal-0.json does not have the recipe of its row"),
        ({"recipe": {**original["recipe"], "seed": 1}}, "focal-0.json does not have the recipe of its row"),
    ):
        path.write_text(json.dumps({**original, **change}), encoding="utf-8")
        assert main(command) == 1
        assert said in capsys.readouterr().err
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
    write(RESULTS, folder, PROTOCOL, GRID)
    text = (ours / "losses.md").read_text(encoding="utf-8")
    assert_figures((folder / "losses.md").read_text(encoding="utf-8"), text)
    # Another processor may round a coordinate, and with it an id, another way.
    (words, numbers), (others, expected) = (drawing((each / "losses.svg").read_text()) for each in (folder, ours))
    assert words == others
    np.testing.assert_allclose(numbers, expected, atol=0.01)
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for name in (
        *("tree_min-bce parts lower", "leaf_cross_entropy-bce parts higher"),
        *("violations bce", "violations tree_min", "tree_min-bce violations alone lower"),
    ):
        (figure,) = set(re.findall(rf"<!-- report: {name} -->(.*?)<!-- end -->", text))
        assert figure in readme, name
    # Markdown would take a line that begins with a mark for HTML and leave it as it is.
    assert not re.search(r"^\s*<!--(?! report: [\w-]+ -->$| end -->$)", text, re.MULTILINE)


def drawing(svg: str) -> tuple[list[str], list[float]]:
    """Return what an SVG file draws, without ids: words, and numbers."""
    plain = re.sub(r'(id="|#)[mp][0-9a-f]{10}', r"\1", svg)
    number = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
    return re.split(number, plain), [float(value) for value in re.findall(number, plain)]
