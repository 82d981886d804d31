"""The command line, in process and as a real process."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hierseg.cli import main
from hierseg.network import checkpoint
from hierseg.network.checkpoint import Card
from hierseg.network.model import ModelSpec
from hierseg.predictor import Predictor, best_first
from hierseg.tree import Hierarchy
from tests.server import REPOSITORY

EXAMPLES = REPOSITORY / "examples"


def test_writes_overlay_mask_and_json_of_each_photo(tiny_checkpoint: Path, tmp_path: Path) -> None:
    photo = EXAMPLES / "camera.jpg"
    status = main([str(photo), "--checkpoint", str(tiny_checkpoint), "--level", "body", "--out", str(tmp_path)])
    assert status == 0
    prediction = Predictor(tiny_checkpoint).predict(photo)
    with Image.open(tmp_path / "camera-mask.png") as mask:
        np.testing.assert_array_equal(np.array(mask), prediction.at_level("body"))
    with Image.open(tmp_path / "camera-overlay.jpg") as picture:
        assert picture.size == (512, 512)
    told = json.loads((tmp_path / "camera.json").read_text())
    assert told["checkpoint"] == "tiny" and told["level"] == "body"
    assert told["areas"] == json.loads(json.dumps(prediction.summary()["areas"]))


def card(spec: ModelSpec, tree: Hierarchy, *figures: Any) -> Card:
    levels = dict(zip(tree.level_names, figures, strict=False))
    return Card(spec, tree, "Tiny", record={"figures": {"dataset_iou": {"levels": levels}}} if figures else {})


def test_the_best_on_validation_comes_first_and_equals_by_name(tiny_spec: ModelSpec, tree: Hierarchy) -> None:
    figures = {"c": (0.8, 0.7, 0.6), "a": (), "e": (0.9, 0.9, 0.4), "b": (), "d": (0.6, 0.7, 0.8)}
    cards = {name: card(tiny_spec, tree, *values) for name, values in figures.items()}
    assert best_first(cards) == ["e", "c", "d", "a", "b"]
    assert best_first({name: cards[name] for name in "ba"}) == ["a", "b"]


@pytest.mark.parametrize("record", [{}, {"figures": None}, {"figures": {"dataset_iou": {"levels": {}}}}])
@pytest.mark.parametrize("figures", [(math.nan, 1.0, 1.0), (None, 1.0, 1.0), ("1", "1", "1")])
def test_figures_that_are_none_rank_last(
    tiny_spec: ModelSpec, tree: Hierarchy, record: dict[str, Any], figures: tuple[Any, ...]
) -> None:
    cards = {"a": Card(tiny_spec, tree, "Tiny", record=record), "b": card(tiny_spec, tree, *figures)}
    assert best_first(cards | {"c": card(tiny_spec, tree, 0.0, 0.0, 0.0)}) == ["c", "a", "b"]


def test_without_a_name_the_best_on_validation_is_taken(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "checkpoints"
    monkeypatch.setattr(checkpoint, "default_folder", lambda: folder)
    assert main([str(EXAMPLES / "camera.jpg"), "--out", str(tmp_path)]) == 2
    assert "There is no checkpoint in" in capsys.readouterr().err
    model, tiny = checkpoint.load(tiny_checkpoint)
    for name, figures in {"one": (0.5, 0.5, 0.5), "two": (0.6, 0.6, 0.6), "aaa": ()}.items():
        made = card(tiny.spec, tiny.hierarchy, *figures)
        checkpoint.save(folder / f"{name}.safetensors", model, made)
    assert main([str(EXAMPLES / "camera.jpg"), "--out", str(tmp_path)]) == 0
    assert json.loads((tmp_path / "camera.json").read_text())["checkpoint"] == "two"


def test_finishes_the_rest_and_names_what_failed(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    shutil.copy(EXAMPLES / "astronaut.jpg", folder / "deeper" / "good.JPG")
    (folder / "bad.jpg").write_text("these are words")
    (folder / "notes.txt").write_text("not looked at")
    missing = tmp_path / "missing.jpg"
    out = tmp_path / "out"
    status = main([str(folder), str(missing), "--checkpoint", str(tiny_checkpoint), "--out", str(out)])
    assert status == 1
    complaints = capsys.readouterr().err
    assert "bad.jpg" in complaints and "missing.jpg" in complaints and "good" not in complaints.split("failed:", 1)[1]
    assert "notes.txt" not in complaints
    assert (out / "deeper" / "good-mask.png").is_file()


def test_photos_of_one_name_do_not_overwrite_each_other(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for folder, example in (("a", "astronaut.jpg"), ("b", "camera.jpg")):
        (tmp_path / folder).mkdir()
        shutil.copy(EXAMPLES / example, tmp_path / folder / "photo.jpg")
    named = [str(tmp_path / folder / "photo.jpg") for folder in "ab"]
    assert main([*named, "--checkpoint", str(tiny_checkpoint), "--out", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").glob("*.json")} == {"photo.json", "photo-2.json"}


def test_threshold_one_leaves_only_background(tiny_checkpoint: Path, tmp_path: Path) -> None:
    arguments = [str(EXAMPLES / "camera.jpg"), "--checkpoint", str(tiny_checkpoint), "--out", str(tmp_path)]
    assert main([*arguments, "--threshold", "1"]) == 0
    with Image.open(tmp_path / "camera-mask.png") as mask:
        assert not np.array(mask).any()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--checkpoint", "nothing"], "There is no checkpoint 'nothing'"),
        (["--level", "toes", "--checkpoint", "{tiny}"], "There is no level 'toes'"),
    ],
)
def test_wrong_choices_end_with_a_sentence(
    arguments: list[str], sentence: str, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [argument.format(tiny=tiny_checkpoint) for argument in arguments]
    assert main([str(EXAMPLES / "camera.jpg"), "--out", str(tmp_path), *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_empty_folder_ends_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "no photos found" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1.5", "-0.1", "much"])
def test_shares_outside_0_to_1_are_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["photo.jpg", "--opacity", value])
    assert stop.value.code == 2
    assert "--opacity" in capsys.readouterr().err


def test_runs_as_a_module_in_a_process_of_its_own(tmp_path: Path) -> None:
    arguments = [
        sys.executable,
        "-m",
        "hierseg",
        "examples/astronaut.jpg",
        "--checkpoint",
        "bce",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 photos" in done.stdout
    with Image.open(tmp_path / "astronaut-mask.png") as mask:
        assert np.array(mask).any()
