"""The driver: workers on Ray, each kept at work by a thread until no shard is left.

Ray's actors, not Ray Data: a shard has to be the unit of work, of output and of going on, and what kills a worker again
and again has to be found. Ray Data decides itself what it writes together, and tries such a task for ever.
"""

from __future__ import annotations

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
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for shard in shards:
        todo.put(shard)
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

        results: queue.SimpleQueue[tuple[int, int] | BaseException] = queue.SimpleQueue()
        for _ in range(min(count, len(shards))):
            _Foreman(ray, hire, plan, settings, todo, results).start()
        _report(plan, shards, results)


class _Foreman(threading.Thread):
    """Keeps one worker at work, and hires another one where it dies."""

    def __init__(
        self,
        ray: Any,
        hire: Callable[[], Any],
        plan: Plan,
        settings: Settings,
        todo: queue.SimpleQueue[int],
        results: queue.SimpleQueue[tuple[int, int] | BaseException],
    ) -> None:
        """Get ready.

        Args:
            ray: The package.
            hire: Returns an actor that has loaded its network.
            plan: What there is to do.
            settings: What its rows are of.
            todo: The shards to be done.
            results: Gets each shard's number with how many of its photos failed, or the error that ends the run.
        """
        super().__init__(daemon=True)
        self._ray = ray
        self._hire = hire
        self._plan = plan
        self._settings = settings
        self._todo = todo
        self._results = results

    def run(self) -> None:
        """Work until no shard is left."""
        try:
            self._worker = self._hire()
            while True:
                shard = self._todo.get_nowait()
                self._results.put((shard, self._segment(shard, self._plan.photos(shard))))
        except queue.Empty:
            self._worker = None  # its core is for whoever waits for one
        except BaseException as error:
            self._results.put(error)

    def _segment(self, shard: int, photos: pa.Table) -> int:
        for tried in range(1, _TRIES + 1):
            try:
                return int(self._ray.get(self._worker.segment.remote(shard, photos)))
            except self._ray.exceptions.RayActorError:
                self._worker = self._hire()
            except self._ray.exceptions.RayTaskError:
                if tried == _TRIES:
                    raise
                time.sleep(_PAUSE)
        rows = [row for at in range(len(photos)) for row in self._alone(photos.slice(at, 1))]
        return int(self._ray.get(self._worker.write.remote(shard, rows)))

    def _alone(self, photo: pa.Table) -> list[dict[str, Any]]:
        """Segment one photo of a shard that killed its workers: some photo in it does."""
        for _ in range(_TRIES):
            try:
                return list(self._ray.get(self._worker.rows.remote(photo)))
            except self._ray.exceptions.RayActorError:
                self._worker = self._hire()
        return [unsegmented(photo["photo"][0].as_py(), self._settings) | {"error": _DEADLY}]


def _report(plan: Plan, shards: list[int], results: queue.SimpleQueue[tuple[int, int] | BaseException]) -> None:
    """Show how far a run is until all its shards are done."""
    photos, failed = plan.about["photos"], 0
    pause = 1 if sys.stderr.isatty() else 30  # seconds; a log is to stay short
    done = photos - sum(map(plan.size, shards))
    with tqdm(total=photos, initial=done, unit=" photos", mininterval=pause, maxinterval=pause) as bar:
        bar.set_postfix(failed=failed)
        for _ in shards:
            result = results.get()
            if isinstance(result, BaseException):
                cause = getattr(result, "cause", result)
                raise ArchiveError(f"{str(cause).rstrip('.')}. What is done stays done: the same command goes on from there.") from result
            failed += result[1]
            bar.set_postfix(failed=failed, refresh=False)
            bar.update(plan.size(result[0]))


@contextlib.contextmanager
def _ray(workers: int | None, address: str | None) -> Iterator[Any]:
    """Connect to Ray, or start it."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_AUTO_CONNECT": "0"}  # no thread starts it anew at the end
    if address is None:
        # Ray listens on every network of the machine, unless it takes it for a notebook with Windows or macOS. The key
        # would be kept in the home folder, which may be another user's or not be writable.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
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
