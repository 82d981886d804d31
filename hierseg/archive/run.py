"""Run workers on Ray; for each, a thread hands out shards until none is left.

This uses Ray's actors, not Ray Data: a shard must be the unit of work, output and resuming, and a photo that kills its
worker every time must be found. Ray Data chooses what to write together, and retries such a task for ever.
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

_TRIES = 3  # when a worker dies, or storage does not answer
_PAUSE = 20  # seconds before storage is asked again
_PER_GPU = 8  # workers that share a graphics card: some open photos while others compute
_OBJECTS = 200_000_000  # bytes that Ray keeps for all workers: the checkpoint, and lists of photos
_DEADLY = "The photo crashed the program that worked on it, several times."


def run(
    plan: Plan,
    source: Source,
    settings: Settings,
    checkpoint: dict[str, bytes],
    workers: int | None = None,
    address: str | None = None,
) -> None:
    """Segment the shards of a plan that are not done yet.

    Args:
        plan: The plan.
        source: Its photos.
        settings: What determines the rows.
        checkpoint: The content of the checkpoint's files, by name.
        workers: Number of workers; None for one per core, at most eight per graphics card.
        address: Address of a Ray cluster; None to start Ray on this machine for this run.

    Raises:
        ArchiveError: The run cannot continue. Finished shards are kept.
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
            raise ArchiveError("Workers die while they load the network. Is memory too small? Try fewer --workers.")

        crew = _Crew(ray, plan, settings, hire, shards)
        for _ in range(min(count, len(shards))):
            threading.Thread(target=crew.tend, daemon=True).start()
        photos, failed = plan.about["photos"], 0
        done = photos - sum(map(plan.size, shards))
        pause = 1 if sys.stderr.isatty() else 30  # seconds; keeps a log short
        with tqdm(total=photos, initial=done, unit=" photos", mininterval=pause, maxinterval=pause) as bar:
            for _ in shards:
                shard, failures = crew.result()
                failed += failures
                bar.set_postfix(failed=failed, refresh=False)
                bar.update(plan.size(shard))


class _Crew:
    """The shards left to do, and threads that each keep one worker busy with them."""

    def __init__(self, ray: Any, plan: Plan, settings: Settings, hire: Callable[[], Any], shards: list[int]) -> None:
        self._ray = ray
        self._plan = plan
        self._settings = settings
        self._hire = hire
        self._todo = collections.deque(shards)
        self._results: queue.SimpleQueue[tuple[int, int] | BaseException] = queue.SimpleQueue()

    def result(self) -> tuple[int, int]:
        """Wait for the next finished shard; return its number and how many of its photos failed.

        Raises:
            ArchiveError: The run cannot continue.
        """
        result = self._results.get()
        if isinstance(result, BaseException):
            cause = str(getattr(result, "cause", result)).rstrip(".")
            raise ArchiveError(f"{cause}. Finished photos are kept: run the same command to resume.") from result
        return result

    def tend(self) -> None:
        """Give shards to one worker until none is left."""
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
        """Let a worker segment a shard; return the worker now in use, and how many photos failed."""
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
        for at in range(len(photos)):  # one of them kills its worker
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
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_AUTO_CONNECT": "0"}  # no thread may start a second Ray
    if address is None:
        # Ray listens on all networks of the machine, except on Windows and macOS with this setting; hence the token.
        # Ray would keep its own token in the home folder, which may not be writable.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    else:
        os.environ["RAY_NUM_REDIS_GET_RETRIES"] = "1"  # otherwise an address that does not answer takes minutes
    import ray  # after its environment is set

    where: dict[str, Any] = {"address": address}
    if address is None:
        where = {"address": "local", "num_cpus": workers, "include_dashboard": False, "object_store_memory": _OBJECTS}
    for left in reversed(range(_TRIES)):
        try:
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
            break
        except Exception as error:  # of many types; also when a busy machine needs over half a minute to start Ray
            ray.shutdown()
            if address or not left:
                raise ArchiveError(f"Ray cannot be started or reached: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
