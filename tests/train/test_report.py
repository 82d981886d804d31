"""Tables come from figures, and the tables in the README and the model card come from the committed figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierseg.metrics import Evaluation
from hierseg.tree import Hierarchy
from tests import REPOSITORY
from train.__main__ import main
from train.report import TABLES, ReportError, fill, tables

MARKS = "".join(f"before {name}\n<!-- report: {name} -->\nold\n<!-- end -->\n" for name in TABLES)


@pytest.fixture
def figures(tree: Hierarchy) -> dict[str, Any]:
    """Figures of two made-up checkpoints."""
    found = {}
    for name in ("first", "second"):
        evaluation, rng = Evaluation(tree, [(0.5, 0.1)] * len(tree)), np.random.default_rng(len(name))
        for _ in range(3):
            truth = rng.choice([tree.background, *tree.labels], (20, 20)).astype(np.uint8)
            predicted = rng.choice([tree.background, *tree.labels], (20, 20)).astype(np.uint8)
            evaluation.add(rng.random((len(tree), 20, 20), np.float32), predicted, truth)
        nobody = {"photos": 7, "somebody": len(name) / 100, "pixels": len(name) / 1000}
        promises = [
            {
                "one_in": one_in,
                "certainty": certainty,
                "wrong": 0.3 - certainty / 4,
                "stops": {"body": 0.25, "parts": 0.75},
            }
            for one_in, certainty in ((1, 0.0), (4, len(name) / 10))
        ]
        risk = {"promises": promises, "held_out": 307}
        found[name] = {**evaluation.summary(), "risk": risk, "nobody": nobody, "empty_photos": {**nobody, "photos": 5}}
    return found


def cells(text: str, table: str) -> dict[str, list[str]]:
    """Return the rows between one table's marks by their first cell, and by the first two."""
    block = text.partition(f"<!-- report: {table} -->\n")[2].partition("<!-- end -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
    assert len({len(row) for row in rows}) == 1
    return {row[0]: row[1:] for row in rows} | {", ".join(row[:2]): row[2:] for row in rows}


def test_every_figure_stands_in_its_row_and_column(figures: dict[str, Any], tree: Hierarchy) -> None:
    text = fill(MARKS, tables(figures))
    iou, levels, nodes, sizes, ece = (cells(text, name) for name in ("iou", "levels", "nodes", "sizes", "calibration"))
    for column, name in enumerate(("first", "second")):
        summary = figures[name]
        assert levels["figure, level"][column] == name
        for number, level in enumerate(tree.level_names):
            of_level = pytest.approx(summary["dataset_iou"]["levels"][level], abs=5e-4)
            assert float(levels[f"data-set IoU, {level}"][column]) == float(iou[name][number]) == of_level
            of_predecessor = summary["predecessor_iou"]["levels"][level]
            assert float(levels[f"predecessor's IoU, {level}"][column]) == pytest.approx(of_predecessor, abs=5e-4)
            error = summary["calibration_error"]["calibrated_person_pixels"][level]
            assert float(ece[f"these, calibrated, {level}"][column]) == pytest.approx(error, abs=5e-4)
        for node in tree.nodes:
            of_node = pytest.approx(summary["dataset_iou"]["nodes"][node], abs=5e-4)
            assert float(nodes[f"data-set IoU, {node}"][column]) == of_node
        large = summary["by_person_size"]["over 10 %"]["levels"]["parts"]
        assert float(sizes["parts, over 10 % (3 photos)"][column]) == pytest.approx(large, abs=5e-4)
        # Two rows of the same name: the second one stays.
        assert cells(text, "nobody")[name] == ["7 squares beside people", f"{len(name)}.000%", f"0.{len(name)}00%"]
        assert f"| {name} | 5 photos of nobody | {len(name)}.000% |" in text
        of_person = summary["violations_of_person"]
        expected = [summary["violations"], of_person["median"], of_person["mean"]]
        assert cells(text, "tree")[name] == [f"{share:.3%}" for share in expected]
        certainty = len(name) / 10
        assert f"| {name} | nothing | 0.00 | 30.0% | 25.0% | 75.0% |" in text
        assert f"| {name} | 1 in 4 | {certainty:.2f} | {0.3 - certainty / 4:.1%} | 25.0% | 75.0% |" in text
        assert f"| {name} | 1 in 5 | cannot be |  |  |  |" in text
    assert sizes["body, under 2 % (0 photos)"] == [""] * 2  # nothing to measure is shown as nothing


def test_only_what_stands_between_marks_changes_and_a_second_time_nothing(figures: dict[str, Any]) -> None:
    text = fill(MARKS, tables(figures))
    assert "old" not in text
    for name in TABLES:
        assert f"before {name}\n<!-- report: {name} -->\n" in text
    assert fill(text, tables(figures)) == text


def test_a_mark_in_a_line_takes_a_figure_and_one_on_its_own_line_a_table() -> None:
    text = "It is <!-- report: a b -->old<!-- end -->.\n<!-- report: c -->\n<!-- end -->\n"
    filled = "It is <!-- report: a b -->1.5<!-- end -->.\n<!-- report: c -->\n| x |\n<!-- end -->\n"
    assert fill(text, {"a b": "1.5", "c": "| x |"}) == fill(filled, {"a b": "1.5", "c": "| x |"}) == filled


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no mark", "There is no mark"),
        ("<!-- report: levels -->\n", "has no <!-- end -->"),
        ("<!-- report: levels -->\n<!-- report: nodes -->\n<!-- end -->", "has no <!-- end -->"),
        ("<!-- report: level -->\n<!-- end -->", "no figure 'level'.*the nearest are 'levels'"),
    ],
)
def test_wrong_marks_are_refused(text: str, said: str) -> None:
    with pytest.raises(ReportError, match=said):
        fill(text, {"levels": "", "nodes": ""})


def test_the_command_changes_all_texts_or_none(
    figures: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad, file = tmp_path / "good.md", tmp_path / "bad.md", tmp_path / "figures.json"
    good.write_text(MARKS, encoding="utf-8")
    bad.write_text("no mark", encoding="utf-8")
    file.write_text(json.dumps(figures), encoding="utf-8")
    assert main(["report", str(good), str(bad), "--figures", str(file)]) == 1
    assert good.read_text(encoding="utf-8") == MARKS and capsys.readouterr().err.startswith("error: There is no mark")
    assert main(["report", str(good), "--figures", str(file)]) == 0
    assert good.read_text(encoding="utf-8") == fill(MARKS, tables(figures))
    file.write_text(json.dumps({"first": {}}), encoding="utf-8")
    assert main(["report", str(good), "--figures", str(file)]) == 1
    assert main(["report", str(good), "--figures", str(tmp_path / "none.json")]) == 1


@pytest.mark.parametrize("name", ["README.md", "checkpoints/README.md"])
def test_committed_tables_are_those_of_the_committed_figures(name: str) -> None:
    figures = json.loads((REPOSITORY / "checkpoints" / "evaluation.json").read_text(encoding="utf-8"))
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    assert fill(text, tables(figures)) == text
