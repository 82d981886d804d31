"""An archive with a driver and workers that are killed again and again, and a photo that kills its worker."""

from __future__ import annotations

import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

import hierseg.archive.run
from hierseg.archive.places import Place
from hierseg.archive.worker import Worker
from hierseg.cli import main
from hierseg.photo import PhotoError
from tests.archive.conftest import DAMAGED
from tests.archive.test_archive import COLUMNS, segment_here, started, wait_for, workers_of

pytest_plugins = ("tests.archive.conftest",)  # its fixtures
KILLS = 10
DEADLY = "ä b/7.jpg"


class Mortal(Worker):
    """A worker that dies of one photo, as if a decoder crashed."""

    def _row(self, name: str, content: bytes | PhotoError) -> dict[str, Any]:
        if name == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._row(name, content)


@pytest.mark.usefixtures("one_thread")
def test_a_driver_killed_ten_times_and_its_workers_with_it_end_with_the_same_rows(
    photos: Path, exported: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many"
    for copy in range(8):  # so that there are more shards than kills
        shutil.copytree(photos, many / str(copy))
    twin = segment_here(many, exported, Place.of(str(tmp_path / "twin"))).rows().to_table(COLUMNS)
    chance, out, hit = random.Random(3), tmp_path / "out", 0
    for _ in range(KILLS):
        driver = started(many, exported, out)
        for pid in wait_for(driver, lambda driver=driver: workers_of(driver.pid)):  # type: ignore[misc]
            if chance.random() < 0.3:
                os.kill(pid, signal.SIGKILL)
        more = len(list(out.glob("photos-*"))) + chance.randint(0, 1)
        wait_for(driver, lambda more=more: list(out.glob("photos-*"))[more:])  # type: ignore[misc]
        hit += driver.poll() is None
        driver.kill()
        driver.communicate()
    assert hit > KILLS / 2
    driver = started(many, exported, out)
    told = driver.communicate()[1]
    assert driver.returncode == 1, told
    assert ds.dataset(out).to_table(COLUMNS).equals(twin)


@pytest.mark.usefixtures("one_thread")
def test_a_photo_that_kills_its_worker_is_a_row_too(
    photos: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(hierseg.archive.run, "Worker", Mortal)
    twin = segment_here(photos, exported, Place.of(str(tmp_path / "twin"))).rows().to_table(COLUMNS)
    assert main(["archive", str(photos), "--out", str(tmp_path / "out"), "--checkpoint", str(exported)]) == 1
    rows = {row["path"]: row for row in ds.dataset(tmp_path / "out").to_table(COLUMNS).to_pylist()}
    assert {name for name, row in rows.items() if row["error"]} == {*DAMAGED, DEADLY}
    assert rows.pop(DEADLY)["error"].startswith("The photo crashed the program")
    assert list(rows.values()) == [row for row in twin.to_pylist() if row["path"] != DEADLY]
