"""The command line, in process and as a real process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hierseg.cli import main
from hierseg.predictor import Predictor
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
