"""The rows of an archive after any interruption, and their exports."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from hierseg.archive.places import Place
from hierseg.archive.plan import Plan, Settings
from hierseg.archive.sources import Source
from hierseg.archive.worker import Worker
from hierseg.cli import main
from hierseg.predictor import Predictor
from hierseg.tree import Hierarchy
from tests import HANGS, REPOSITORY
from tests.archive.conftest import DAMAGED

COLUMNS = ["path", "width", "height", "areas", "mask", "error"]  # what does not depend on how a run was started


def segment_here(photos: Path, exported: Path, out: Place) -> Plan:
    """Do what a run does without Ray: with one worker in this process."""
    source = Source(str(photos))
    settings = Settings(str(photos), "tiny", "", 0.55, 0.0, True, "1")
    plan, skipped = Plan.begin(out, source, settings, Predictor(exported).card.hierarchy.to_dict())
    assert {Path(name).name for name in skipped} == {"words.doc"}
    worker = Worker(settings, source, out)
    worker.load({path.name: path.read_bytes() for path in (exported, exported.with_suffix(".onnx"))})
    for shard in plan.todo():
        worker.segment(shard, plan.photos(shard))
    return plan


@pytest.mark.parametrize("where", ["local", "s3"])
def test_rows_say_what_the_predictor_says_and_a_damaged_photo_its_sentence(
    where: str, photos: Path, exported: Path, tmp_path: Path, one_thread: None, request: pytest.FixtureRequest
) -> None:
    out = Place.of(str(tmp_path) if where == "local" else "s3://bucket/rows" + request.getfixturevalue("store"))
    plan = segment_here(photos, exported, out)
    assert plan.todo() == [] and plan.check() == len(DAMAGED)
    rows = plan.rows().to_table().to_pylist()
    assert {row["path"]: row["error"] for row in rows if row["error"]} == DAMAGED
    predictor = Predictor(exported)
    for row in rows:
        assert row["checkpoint"] == "tiny" and (row["mask"] is None) == (row["path"] in DAMAGED)
        if not row["error"]:
            prediction = predictor.predict(photos / row["path"])
            with Image.open(io.BytesIO(row["mask"])) as mask:
                np.testing.assert_array_equal(np.array(mask), prediction.labels)
            with Image.open(io.BytesIO(row["overlay"])) as picture:
                assert picture.size == (row["width"], row["height"]) == prediction.size[::-1]
            for name, area in prediction.areas().items():
                assert row["areas"][name]["share_of_photo"] == pytest.approx(area.share_of_photo)
                assert row["areas"][name]["confidence"] == pytest.approx(area.confidence, abs=1e-5)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")
def test_exports_hold_every_row(
    photos: Path, exported: Path, tree: Hierarchy, tmp_path: Path, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = segment_here(photos, exported, Place.of(str(tmp_path / "archive")))
    rows = {row["path"]: row for row in plan.rows().to_table().to_pylist()}
    for kind in ("csv", "coco", "png"):
        assert main(["archive", str(tmp_path / "archive"), "--export", kind, "--out", str(tmp_path / kind)]) == 0
    with (tmp_path / "csv").open(newline="") as file:
        lines = {line["path"]: line for line in csv.DictReader(file)}
    assert lines.keys() == rows.keys()
    assert {name: line["error"] for name, line in lines.items() if line["error"]} == DAMAGED
    coco = json.loads((tmp_path / "coco").read_text())
    images = {image["id"]: image["file_name"] for image in coco["images"]}
    assert sorted(images.values()) == sorted(rows.keys() - DAMAGED)
    found = {(images[each["image_id"]], each["category_id"] - 1): each for each in coco["annotations"]}
    for name in images.values():
        target = tmp_path / "png" / Path(name.replace("?", "_")).with_suffix("")
        assert target.with_name(f"{target.name}-overlay.jpg").read_bytes() == rows[name]["overlay"]
        with Image.open(target.with_name(f"{target.name}-mask.png")) as mask:
            nodes = tree.node_masks(np.array(mask))
        for node, members in enumerate(nodes):
            if (name, node) in found:
                np.testing.assert_array_equal(coco_mask.decode(found[name, node]["segmentation"]), members)
            else:
                assert not members.any()
            assert float(lines[name][f"{tree.nodes[node]}_share_of_photo"]) == pytest.approx(members.mean())


@pytest.mark.parametrize(
    ("source", "out", "more", "told"),
    [
        ("empty", "new", [], "There are no photos in"),
        ("nowhere", "new", [], "does not exist"),
        ("photos", "file/new", [], "cannot be written"),
        ("photos", "new", ["--checkpoint", "nothing"], "There is no checkpoint 'nothing'"),
        ("photos", "begun", [], "was started with another"),
        ("photos", "busy", [], "Another run is using"),
        ("abc://photos", "new", [], "cannot be opened"),
        ("empty", "new", ["--export", "csv"], "There is no archive in"),
    ],
)
def test_what_cannot_begin_is_refused_in_a_sentence(
    source: str, out: str, more: list[str], told: str, photos: Path, exported: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "busy").mkdir()
    card = Predictor(exported).card
    other = Settings(str(photos), "tiny", "another", card.inference.threshold, 0.0, False, "0.1.0")
    Plan.begin(Place.of(str(tmp_path / "begun")), Source(str(photos)), other, card.hierarchy.to_dict())
    named = {"photos": str(photos), "abc://photos": source}.get(source, str(tmp_path / source))
    with (tmp_path / "busy" / "_lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["archive", named, "--out", str(tmp_path / out), "--checkpoint", str(exported), *more]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.glob("new/photos-*"))


def started(photos: Path, exported: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hierseg", "archive", photos, "--out", out, "--checkpoint", exported]
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, "--workers", "2"], cwd=REPOSITORY, stdout=pipe, stderr=pipe, text=True)


def workers_of(driver: int) -> list[int]:
    """Return the processes that Ray started for a driver and that work on photos."""
    parents, workers = {}, []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
            if b"ray::Worker" in (status.parent / "cmdline").read_bytes():
                workers.append(int(status.parent.name))
        except OSError:  # it has ended
            continue
    return [pid for pid in workers if parents.get(parents.get(pid, 0)) == driver]


def wait_for(driver: subprocess.Popen[str], found: Callable[[], list[Any]]) -> list[Any]:
    """Wait until something is there, or the driver has ended."""
    deadline = time.monotonic() + HANGS
    while not (there := found()) and time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(0.01)
            break
    return there or found()


@pytest.mark.slow
def test_a_driver_and_a_worker_that_are_killed_cost_no_row_and_make_none_twice(
    photos: Path, exported: Path, tmp_path: Path, one_thread: None
) -> None:
    twin = segment_here(photos, exported, Place.of(str(tmp_path / "twin"))).rows().to_table(COLUMNS)
    out = tmp_path / "out"
    driver = started(photos, exported, out)
    assert wait_for(driver, lambda: list(out.glob("photos-*"))), driver.communicate()[1]
    driver.kill()
    driver.communicate()
    driver = started(photos, exported, out)
    workers = wait_for(driver, lambda: workers_of(driver.pid))
    assert workers, driver.communicate()[1]
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    said, told = driver.communicate(timeout=HANGS)
    assert driver.returncode == 1, told  # damaged photos are among them
    assert f"{len(twin) - len(DAMAGED)} of {len(twin)} photos segmented" in said
    assert ds.dataset(out).to_table(COLUMNS).equals(twin)
