"""The command line, in process and as a real process."""

from __future__ import annotations

import dataclasses
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
from hierseg.risk import Promise, RiskControl
from hierseg.tree import Hierarchy
from tests import REPOSITORY
from tests.heic import QUADRANTS, heic

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


def test_a_risk_is_kept_where_it_can_be_promised_and_refused_elsewhere(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo, path = EXAMPLES / "camera.jpg", tmp_path / "sure.safetensors"
    shutil.copy(tiny_checkpoint, path)
    arguments = [str(photo), "--checkpoint", str(path), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--risk", "0.2"]) == 2
    assert "none was measured" in capsys.readouterr().err
    tiny = checkpoint.read_card(path)
    promises = (Promise(1, 0.0, 0.3, {}), Promise(5, 0.5, 0.2, {}))
    risk = RiskControl(promises, tiny.inference, 200, "a", 307, "b")
    checkpoint.write_card(path, dataclasses.replace(tiny, risk=risk))
    for refused in (["--risk", "0.1"], ["--risk", "0.2", "--threshold", "0.3"]):
        assert main([*arguments, *refused]) == 2
        assert "error: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main([*arguments, "--risk", "0.2"]) == 0
    with Image.open(tmp_path / "out" / "camera-mask.png") as mask:
        np.testing.assert_array_equal(np.array(mask), Predictor(path).predict(photo).at_level("parts", certainty=0.5))
    told = json.loads((tmp_path / "out" / "camera.json").read_text())
    assert (told["risk"], told["certainty"]) == (0.2, 0.5)


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
    (folder / "notes.txt").write_text("not a photo")
    missing = tmp_path / "missing.jpg"
    out = tmp_path / "out"
    status = main([str(folder), str(missing), "--checkpoint", str(tiny_checkpoint), "--out", str(out)])
    assert status == 1
    complaints = capsys.readouterr().err
    assert "bad.jpg" in complaints and "missing.jpg" in complaints and "good" not in complaints.split("failed:", 1)[1]
    assert "1 file was skipped, not photos by file name: " in complaints and "notes.txt" in complaints
    assert (out / "deeper" / "good-mask.png").is_file()


def segment(checkpoint: Path, *arguments: str | Path) -> int:
    return main([*map(str, arguments), "--checkpoint", str(checkpoint), "--level", "body"])


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


RESULTS = {"x-overlay.jpg", "x-mask.png", "x.json"}


def one_photo(folder: Path, name: str = "x.jpg") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 48), "teal").save(folder / name, "JPEG")
    return folder


@pytest.mark.parametrize("out", ["hierseg-out", "a/b", "."])
def test_a_rerun_over_a_folder_with_its_own_results_gives_the_same_files(
    out: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(one_photo(tmp_path))
    runs = []
    for _ in range(3):
        assert segment(tiny_checkpoint, ".", "--out", out) == 0
        runs.append(files_in(tmp_path))
    assert runs[0] == runs[1] == runs[2]
    assert set(runs[0]) == {"x.jpg"} | {Path(out, name).as_posix() for name in RESULTS}


def test_results_of_a_run_elsewhere_are_no_photos_either(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(one_photo(tmp_path))
    for out in ("first", "second"):
        assert segment(tiny_checkpoint, ".", "--out", out) == 0
    assert {path.name for path in (tmp_path / "second").rglob("*")} == RESULTS
    assert "skipped" not in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_a_file_of_somebody_else_is_overwritten_only_if_that_is_said(
    name: str, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_photo(tmp_path)
    Image.new("RGB", (5, 5)).save(tmp_path / name) if name != "x.json" else (tmp_path / name).write_text("[1]")
    before = files_in(tmp_path)
    assert segment(tiny_checkpoint, tmp_path / "x.jpg", "--out", tmp_path) == 1
    complaint = capsys.readouterr().err
    assert name in complaint and "--overwrite" in complaint and "Errno" not in complaint
    assert files_in(tmp_path) == before
    assert segment(tiny_checkpoint, tmp_path / "x.jpg", "--out", tmp_path, "--overwrite") == 0
    assert files_in(tmp_path)[name] != before[name]


def test_a_mask_that_was_edited_by_hand_is_kept(tiny_checkpoint: Path, tmp_path: Path) -> None:
    one_photo(tmp_path)
    assert segment(tiny_checkpoint, tmp_path / "x.jpg", "--out", tmp_path) == 0
    with Image.open(tmp_path / "x-mask.png") as mask:
        mask.point(lambda label: label ^ 1).save(tmp_path / "x-mask.png")
    edited = (tmp_path / "x-mask.png").read_bytes()
    assert segment(tiny_checkpoint, tmp_path / "x.jpg", "--out", tmp_path) == 1
    assert (tmp_path / "x-mask.png").read_bytes() == edited


def test_results_say_which_photo_they_are_of_and_another_photos_are_kept(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in "ab":
        one_photo(tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    named = {"out/x.json": "a/x.jpg", "out/x-2.json": "b/x.jpg"}
    for folders in (["a", "b"], ["b"], ["b", "a"]):
        assert segment(tiny_checkpoint, *folders, "--out", "out") == 0
        assert {file: json.loads((tmp_path / file).read_text())["photo"] for file in named} == named
        assert len(files_in(tmp_path / "out")) == 6


def test_endings_of_photos_are_taken_and_what_is_skipped_is_named(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    jpegs = ["a.JPG", "b.jpe", "c.JFIF", "d.mpo"]
    for name in jpegs:
        one_photo(folder, name)
    for name in ("e.HEIC", "f.heif"):
        (folder / name).write_bytes(heic(QUADRANTS))
    for number in range(12):
        (folder / f"notes {number:02}.txt").touch()
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    assert segment(tiny_checkpoint, folder, "--out", tmp_path / "out") == 0
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.json")) == list("abcdef")
    told = capsys.readouterr().err
    assert "13 files were skipped" in told and "gone.jpg" in told
    assert "notes 00.txt" in told and "notes 11.txt" not in told and "and 3 more" in told


def test_linked_folders_are_looked_into_once_and_hidden_ones_never(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder, out = one_photo(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    one_photo(tmp_path / "elsewhere", "b.jpg")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    for name in (".thumbnails", "@eaDir", "__MACOSX"):
        one_photo(folder / name, "thumb.jpg")
    (folder / "._a.jpg").write_bytes(b"\0\5\x16\7")
    assert segment(tiny_checkpoint, folder, "--out", out) == 0
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.json")} == {"a.json", "linked/b.json"}


def test_photos_of_any_names_have_results_of_their_own_that_every_system_can_hold(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    for name in ("a:b.jpg", "CON.jpg", "x .jpg", f"{'y' * 250}.jpg", "li\nne.jpg", "name.jpg", "Name.jpg"):
        one_photo(tmp_path / "photos", name)
    assert segment(tiny_checkpoint, tmp_path / "photos", "--out", tmp_path / "out") == 0
    names = {path.stem for path in (tmp_path / "out").glob("*.json")}
    assert names == {"a_b", "CON_", "x", "y" * 200, "li_ne", "Name", "name-2"}


def test_a_damaged_checkpoint_is_left_out_where_none_is_named(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    monkeypatch.setattr(checkpoint, "default_folder", lambda: folder)
    (folder / "bad.safetensors").write_bytes(b"no checkpoint")
    arguments = [str(EXAMPLES / "camera.jpg"), "--out", str(tmp_path)]
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert "left out: " in told and "bad.safetensors" in told and "There is no checkpoint in" in told
    shutil.copy(tiny_checkpoint, folder / "tiny.safetensors")
    assert main(arguments) == 0
    assert "bad.safetensors" in capsys.readouterr().err


def test_threshold_one_leaves_only_background(tiny_checkpoint: Path, tmp_path: Path) -> None:
    arguments = [str(EXAMPLES / "camera.jpg"), "--checkpoint", str(tiny_checkpoint), "--out", str(tmp_path)]
    assert main([*arguments, "--threshold", "1"]) == 0
    with Image.open(tmp_path / "camera-mask.png") as mask:
        assert not np.array(mask).any()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{camera}", "--checkpoint", "nothing"], "There is no checkpoint 'nothing'"),
        (["{camera}", "--level", "toes", "--checkpoint", "{tiny}"], "There is no level 'toes'"),
        (["{empty}"], "no photos found"),
    ],
)
def test_wrong_choices_end_with_a_sentence(
    arguments: list[str], sentence: str, tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"camera": EXAMPLES / "camera.jpg", "tiny": tiny_checkpoint, "empty": tmp_path}
    assert main([*(argument.format(**files) for argument in arguments), "--out", str(tmp_path / "out")]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1.5", "-0.1", "nan", "much"])
def test_shares_outside_0_to_1_are_refused(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["photo.jpg", "--opacity", value])
    assert stop.value.code == 2
    assert "--opacity" in capsys.readouterr().err


@pytest.mark.slow
def test_runs_as_a_module_in_a_process_of_its_own(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "hierseg", "examples/astronaut.jpg", "--checkpoint", "bce", "--out", tmp_path]
    done = subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 photos" in done.stdout
    with Image.open(tmp_path / "astronaut-mask.png") as mask:
        assert np.array(mask).any()
