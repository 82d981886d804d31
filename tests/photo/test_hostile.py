"""Every file gives the right picture or a plain error message, within limits, and nothing is left behind."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hierseg.photo import open_frugally
from hierseg.photo.reading import FrugalReader
from tests import REPOSITORY, fuzz, hostile

pytestmark = pytest.mark.timeout(3600)  # half a minute of computing, which a slow or busy machine makes long


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of a run over the corpus: working folder `here`, files in `files`, temporary files in `temporary`."""
    place = tmp_path_factory.mktemp("hostile")
    for name in ("here", "files", "temporary"):
        (place / name).mkdir()
    with (place / "found.jsonl").open("wb") as found:
        subprocess.run(
            [sys.executable, "-m", "tests.hostile", place / "files"],
            cwd=place / "here",
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(place / "temporary")},
            stdout=found,
            check=True,
        )
    return place


def found(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place / "found.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_every_file_gives_the_right_picture_or_a_plain_sentence_in_bounds(place: Path) -> None:
    wrong = {one["kind"]: one["wrong"] for one in found(place) if one["wrong"]}
    assert wrong == {}
    assert {one["kind"] for one in found(place)} == {case.kind for case in hostile.corpus()}
    assert len(found(place)) == len({one["kind"] for one in found(place)})


@pytest.mark.slow
def test_no_file_is_left_behind_and_no_pickle_is_run(place: Path) -> None:
    for name in ("here", "files", "temporary"):
        assert list((place / name).iterdir()) == []


@pytest.mark.parametrize("kind", ["png plain", "mask indexed png"])
def test_the_examination_tells_a_wrong_picture_and_a_wrong_verdict(kind: str, tmp_path: Path) -> None:
    (case,) = (case for case in hostile.corpus() if case.kind == kind)
    assert case.picture is not None

    def wrong(**changes: Any) -> str:
        return hostile.examine(dataclasses.replace(case, **changes), tmp_path / case.name)

    assert wrong() == ""
    assert "off by 1" in wrong(picture=case.picture ^ 1)
    assert "not (32, 24" in wrong(picture=case.picture[:, :24])
    assert wrong(verdict="refused") == "it was shown"
    assert wrong(data=b"nothing") == "it was refused"


@pytest.mark.parametrize("sentence", ["Errno 5.", "No end", "See /tmp/x.", "It is float64.", "A. B. C.", "<b>No</b>."])
def test_the_examination_tells_a_refusal_that_is_not_plain(sentence: str) -> None:
    assert sentence in hostile.complaint(sentence)


@pytest.mark.slow
@pytest.mark.parametrize("excess", ["memory", "computing"])
def test_the_bounds_end_a_process_that_takes_more(excess: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: Any) -> str:
        return str(np.ones(hostile.MEMORY // 8).sum()) if excess == "memory" else greedy_for_time()

    def greedy_for_time() -> str:
        while True:
            pass

    monkeypatch.setattr(hostile, "examine", greedy)
    monkeypatch.setattr(hostile, "COMPUTING", 1)
    case = hostile.corpus()[0]
    assert "its process ended" in hostile._measured(case, tmp_path / case.name)["wrong"]


def test_a_file_is_read_some_times_over_and_then_no_more() -> None:
    reader = FrugalReader(bytes(100_000))
    for _ in range(8):
        assert reader.seek(0) == 0
        assert len(reader.read()) == 100_000
    with pytest.raises(OSError):
        for _ in range(2):
            reader.seek(0)
            reader.read()


def test_a_file_is_read_so_many_times_and_then_no_more() -> None:
    reader = FrugalReader(b"photo", reads=2)
    assert (reader.read(1), reader.read(2), reader.reads) == (b"p", b"ho", 0)
    with pytest.raises(OSError):
        reader.read(0)


def test_pixels_may_take_more_reads_than_what_stands_before_them() -> None:
    (bomb,) = (case.data for case in hostile.corpus() if case.kind == "png with thousands of empty pixel chunks")
    with open_frugally(bomb, ["PNG"], reads=20_000) as image:
        image.load()
    with open_frugally(bomb, ["PNG"], reads=9000) as image, pytest.raises(OSError):
        image.load()


@pytest.mark.slow
def test_a_bounded_fuzz_of_both_loaders_finds_no_failure(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--executions", "500", "--failures", tmp_path / "failures"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("500 executions") and " 0 failures" in done.stdout
    assert list((tmp_path / "failures").iterdir()) == []


def test_the_fuzz_saves_what_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(path: Path) -> None:
        raise KeyError("width")

    monkeypatch.setattr(fuzz, "open_photo", broken)
    fuzzer = fuzz.Fuzzer(tmp_path, random.Random(0))
    fuzzer.run("photo-a.png", b"data")
    assert (fuzzer.executions, fuzzer.failed) == (1, 1)
    (kept,) = tmp_path.iterdir()
    assert kept.read_bytes() == b"data"
    assert "KeyError came through" in capsys.readouterr().out


def test_the_fuzz_keeps_what_takes_a_new_way_and_nothing_else(tmp_path: Path) -> None:
    fuzzer = fuzz.Fuzzer(tmp_path, random.Random(0))
    png, gif = (case.data for case in hostile.corpus() if case.kind in ("png plain", "gif plain"))
    for data in (png, png, gif, png):
        fuzzer.run("photo-a", data)
    assert fuzzer.entries == [("photo-a", png), ("photo-a", gif)]
