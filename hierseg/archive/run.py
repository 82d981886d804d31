"""The driver: workers on Ray, each kept at work by a thread until no shard is left.

Ray's actors, not Ray Data: a shard has to be the unit of work, of output and of going on, and what kills a worker again
and again has to be found. Ray Data decides itself what it writes together, and tries such a task for ever.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import math
import os
import queue
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from hierseg.archive.places import ArchiveError
from hierseg.archive.plan import Plan, Settings
from hierseg.archive.sources import Source
from hierseg.archive.worker import Worker, unsegmented

_TRIES = 3  # of what kills a worker, and of storage that does not answer
_PAUSE = 20  # seconds before storage is asked again
_PER_GPU = 8  # workers that share a graphics card: one opens photos while another one's are computed
_OBJECTS = 200_000_000  # bytes that Ray keeps for all workers: the checkpoint, and lists of photos
_DEADLY = "The photo ended the program that worked on it, several times over."


def run(
    plan: Plan,
    source: Source,
    settings: Settings,
    checkpoint: dict[str, bytes],
    workers: int | None = None,
    address: str | None = None,
) -> None:
    """Do what is left of a plan.

    Args:
        plan: The plan.
        source: Its photos.
        settings: What its rows are of.
        checkpoint: The checkpoint's file and what belongs to it, by name.
        workers: How many; None for one on each core, or eight on each graphics card.
        address: Of a Ray cluster; None to start Ray for this run, on this machine alone.

    Raises:
        ArchiveError: It cannot go on. What is done stays done.
    """
    shards = plan.todo()
    if not shards:
        return
    with _ray(workers, address) as ray:
        found = ray.cluster_resources()
        gpus = int(found.get("GPU", 0))
        count = workers or int(min(found["CPU"], gpus * _PER_GPU or math.inf))
        gpu = int(10_000 / math.ceil(count / gpus)) / 10_000 if gpus else 0
        actor = ray.remote(Worker).options(num_cpus=1, num_gpus=gpu)
        content = ray.put(checkpoint)

        def hire() -> Any:
            for _ in range(_TRIES):
                worker = actor.remote(settings, source, plan.out)
                with contextlib.suppress(ray.exceptions.RayActorError):
                    ray.get(worker.load.remote(content))
                    return worker
            raise ArchiveError("Workers end while they load the network. Is there enough memory? Try fewer: --workers.")

        crew = _Crew(ray, plan, settings, hire, shards)
        for _ in range(min(count, len(shards))):
            threading.Thread(target=crew.tend, daemon=True).start()
        photos, failed = plan.about["photos"], 0
        done = photos - sum(map(plan.size, shards))
        pause = 1 if sys.stderr.isatty() else 30  # seconds; a log is to stay short
        with tqdm(total=photos, initial=done, unit=" photos", mininterval=pause, maxinterval=pause) as bar:
            for _ in shards:
                shard, failures = crew.result()
                failed += failures
                bar.set_postfix(failed=failed, refresh=False)
                bar.update(plan.size(shard))


class _Crew:
    """What is left to do, and the threads that do it, each with one worker after the other."""

    def __init__(self, ray: Any, plan: Plan, settings: Settings, hire: Callable[[], Any], shards: list[int]) -> None:
        self._ray = ray
        self._plan = plan
        self._settings = settings
        self._hire = hire
        self._todo = collections.deque(shards)
        self._results: queue.SimpleQueue[tuple[int, int] | BaseException] = queue.SimpleQueue()

    def result(self) -> tuple[int, int]:
        """Wait for a shard to be done; return its number and how many of its photos failed.

        Raises:
            ArchiveError: The run cannot go on.
        """
        result = self._results.get()
        if isinstance(result, BaseException):
            cause = str(getattr(result, "cause", result)).rstrip(".")
            raise ArchiveError(f"{cause}. What is done stays done: the same command goes on from there.") from result
        return result

    def tend(self) -> None:
        """Keep one worker at work until no shard is left."""
        try:
            worker = self._hire()
            while True:
                try:
                    shard = self._todo.popleft()
                except IndexError:
                    return
                worker, failures = self._segment(worker, shard, self._plan.photos(shard))
                self._results.put((shard, failures))
        except BaseException as error:
            self._results.put(error)

    def _segment(self, worker: Any, shard: int, photos: pa.Table) -> tuple[Any, int]:
        """Have a shard done; return who did it, and how many photos failed."""
        for tried in range(1, _TRIES + 1):
            try:
                return worker, int(self._ray.get(worker.segment.remote(shard, photos)))
            except self._ray.exceptions.RayActorError:
                worker = self._hire()
            except self._ray.exceptions.RayTaskError:
                if tried == _TRIES:
                    raise
                time.sleep(_PAUSE)
        rows = []
        for at in range(len(photos)):  # one of them kills whoever works on it
            worker, row = self._alone(worker, photos.slice(at, 1))
            rows.append(row)
        return worker, int(self._ray.get(worker.write.remote(shard, rows)))

    def _alone(self, worker: Any, photo: pa.Table) -> tuple[Any, dict[str, Any]]:
        for _ in range(_TRIES):
            try:
                return worker, self._ray.get(worker.rows.remote(photo))[0]
            except self._ray.exceptions.RayActorError:
                worker = self._hire()
        return worker, unsegmented(photo["photo"][0].as_py(), self._settings) | {"error": _DEADLY}


@contextlib.contextmanager
def _ray(workers: int | None, address: str | None) -> Iterator[Any]:
    """Connect to Ray, or start it."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_AUTO_CONNECT": "0"}  # no thread is to start another one
    if address is None:
        # Ray listens on every network of the machine, unless it takes it for a notebook with Windows or macOS. The key
        # would be kept in the home folder, which may not be writable.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    else:
        os.environ["RAY_NUM_REDIS_GET_RETRIES"] = "1"  # or an address where nobody answers takes minutes
    import ray  # now that it knows all this

    where: dict[str, Any] = {"address": address}
    if address is None:
        where = {"address": "local", "num_cpus": workers, "include_dashboard": False, "object_store_memory": _OBJECTS}
    for left in reversed(range(_TRIES)):
        try:
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
            break
        except Exception as error:  # of many types; it also gives a machine half a minute to start, which may be busy
            ray.shutdown()
            if address or not left:
                raise ArchiveError(f"Ray cannot be started or reached: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
