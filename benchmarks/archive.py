"""Photos per second of `hierseg archive`, compared with processes that only loop over the predictor."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from benchmarks.timing import Row
from tests import REPOSITORY

_PHOTOS = 40  # per round
_TICKS = os.sysconf("SC_CLK_TCK")
# Computes the content of rows without Ray; prints the seconds it took and the seconds of processor time.
_LOOP = """
import sys, time, cv2
from hierseg.predictor import Predictor
from hierseg.visualize import indexed_png
cv2.setNumThreads(1)
predictor = Predictor("bce")
predictor.predict(sys.argv[1])
start, worked = time.perf_counter(), time.process_time()
for path in sys.argv[1:]:
    prediction = predictor.predict(path)
    prediction.areas()
    indexed_png(prediction.labels, prediction.hierarchy)
print(time.perf_counter() - start, time.process_time() - worked)
"""


@dataclass(frozen=True)
class _Speed:
    """Photos per second by the clock and by processor time; memory of the largest worker early and late, in bytes."""

    rate: float
    rate_of_work: float
    early: float = 0.0
    late: float = 0.0


def rows(rounds: int, folder: Path) -> list[Row]:
    """Measure; needs Linux.

    Args:
        rounds: Number of photos, in units of 40.
        folder: A folder for them.
    """
    photos = _write_photos(folder / "photos", _PHOTOS * rounds)
    found: list[Row] = []
    for workers in (1, 2):
        bare, archive = _loop(photos, workers), _archive(photos, workers, folder / f"out-{workers}")
        found += [
            Row(
                f"archive, workers: {workers}",
                f"{archive.rate:.1f} photos per second; {archive.rate_of_work:.1f} per second of processor time",
            ),
            Row.at_least("relative to as many loops", 100 * archive.rate / bare.rate, 90, "{:.0f}%"),
            Row("the same by processor time", f"{100 * archive.rate_of_work / bare.rate_of_work:.0f}%"),
            Row.at_most("a worker's memory at the end, relative to after a quarter", archive.late / archive.early, 1.1),
        ]
    return found


def _write_photos(folder: Path, count: int) -> list[Path]:
    """Write photos of half a megapixel, in many shapes."""
    folder.mkdir()
    examples = [Image.open(path).convert("RGB") for path in sorted((REPOSITORY / "examples").glob("*.jpg"))]
    for number in range(count):
        width = 600 + number * 37 % 400
        photo = examples[number % len(examples)].resize((width, 500_000 // width))
        photo.save(folder / f"{number:05d}.jpg", quality=90)
    return sorted(folder.iterdir())


def _loop(photos: list[Path], processes: int) -> _Speed:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    shares = [photos[first::processes] for first in range(processes)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _LOOP, *map(str, share)], cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE
        )
        for share in shares
    ]
    told = [tuple(map(float, each.communicate()[0].split())) for each in started]
    rate = sum(len(share) / seconds for share, (seconds, _) in zip(shares, told, strict=True))
    return _Speed(rate, len(photos) / sum(worked for _, worked in told))


def _archive(photos: list[Path], workers: int, out: Path) -> _Speed:
    """Measure a run from the time when each worker has written its first shard."""
    given = (photos[0].parent, "--out", out, "--checkpoint", "bce", "--workers", workers)
    command = [sys.executable, "-m", "hierseg", "archive", *map(str, given)]
    driver = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    samples = []  # time, shards, processor time, memory
    worked: dict[int, float] = {}
    while driver.poll() is None:
        seconds, memory = _processes(driver.pid)
        worked |= seconds  # ended processes stay counted
        samples.append((time.perf_counter(), len(list(out.glob("photos-*"))), sum(worked.values()), memory))
        time.sleep(0.2)
    if driver.returncode:
        raise RuntimeError("The archive could not be made.")
    last = max(shards for _, shards, _, _ in samples)
    begun, done = (next(each for each in samples if each[1] >= shards) for shards in (workers, last))
    size = len(photos) / -(-len(photos) // 16)  # photos per shard, except in the last
    made = (last - workers) * size
    memories = [each[3] for each in samples if begun[0] <= each[0] <= done[0]]
    quarter = len(memories) // 4
    return _Speed(
        made / (done[0] - begun[0]),
        made / (done[2] - begun[2]),
        statistics.median(memories[quarter : 2 * quarter]),
        statistics.median(memories[3 * quarter :]),
    )


def _processes(driver: int) -> tuple[dict[int, float], int]:
    """Return the processor time of a driver and each process below it, in seconds, and the largest worker's memory."""
    seconds, parents, memory = {}, {}, 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            pid, parents[int(folder.name)] = int(folder.name), int(status[1])
            seconds[pid] = (int(status[11]) + int(status[12])) / _TICKS
            if b"ray::Worker" in (folder / "cmdline").read_bytes():
                memory = max(memory, int(status[21]) * os.sysconf("SC_PAGE_SIZE"))
        except OSError:  # the process has ended
            continue
    family = {driver}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return {pid: seconds[pid] for pid in family & seconds.keys()}, memory
