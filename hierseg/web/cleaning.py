"""Keeps what visitors send in a folder of the server's own, and forgets it on a schedule."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradio.routes import App

KEPT_SECONDS = 600.0
SWEPT_SECONDS = 60.0  # between two sweeps


def private_folder() -> str:
    """Make a folder that nobody else on this machine may read, and that goes when this process ends.

    Returns:
        Its path, inside `GRADIO_TEMP_DIR` if that is set.
    """
    parent = os.environ.get("GRADIO_TEMP_DIR")
    if parent:
        os.makedirs(parent, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="hierseg-", dir=parent)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def cleaning(
    folder: Path, kept: float = KEPT_SECONDS, every: float = SWEPT_SECONDS
) -> Callable[[App], contextlib.AbstractAsyncContextManager[None]]:
    """Return a lifespan for a Gradio app in which whatever visitors sent and got is forgotten.

    Gradio's own `delete_cache` forgets only files that arrived whole in a field of the right name, ends for ever at its
    first error, and leaves the answers in memory.

    Args:
        folder: Where Gradio writes. Everything in it is deleted.
        kept: For how many seconds a file or an unfetched answer is kept.
        every: How many seconds are between two sweeps.

    Returns:
        What FastAPI takes as `lifespan`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        task = asyncio.create_task(_clean(app, folder, kept, every))
        try:
            yield
        finally:
            task.cancel()
            sweep(folder, float("inf"))

    return lifespan


def sweep(folder: Path, before: float) -> None:
    """Delete what was last changed before a time, in seconds since 1970; a folder goes once it is empty.

    It never waits, so that on the server's event loop no upload is moved into a folder that is just being deleted.
    """
    for parent, folders, files in os.walk(folder, topdown=False):
        for names, delete in ((files, os.unlink), (folders, os.rmdir)):
            for name in names:
                path = os.path.join(parent, name)
                with contextlib.suppress(OSError):  # another has deleted it, or a folder is not empty
                    # Not the time of the content: a copy has that of its original.
                    if os.lstat(path).st_ctime < before:
                        delete(path)


async def _clean(app: App, folder: Path, kept: float, every: float) -> None:
    idle: dict[str, float] = {}  # sessions with nothing in the queue, and since when
    while True:
        await asyncio.sleep(every)
        now = time.time()
        sweep(folder, now - kept)
        idle = _forget_sessions(app, idle, now, kept)


def _forget_sessions(app: App, idle: dict[str, float], now: float, kept: float) -> dict[str, float]:
    """Drop answers that nobody has fetched for a time, and lists of files that are deleted here instead.

    Args:
        app: The server.
        idle: What the last call returned.
        now: The time in seconds since 1970.
        kept: For how many seconds a session is kept after its last photo.

    Returns:
        Sessions with nothing in the queue, and since when.
    """
    blocks = app.get_blocks()
    for paths in blocks.temp_file_sets:
        paths.clear()
    queue = blocks._queue
    at_work = {event.session_hash for event in queue.event_ids_to_events.values()}
    idle = {session: idle.get(session, now) for session in queue.pending_messages_per_session if session not in at_work}
    for session in [session for session, since in idle.items() if now - since >= kept]:
        queue.pending_messages_per_session.pop(session, None)
        queue.pending_event_ids_session.pop(session, None)
        app.state_holder.session_data.pop(session, None)
        app.state_holder.time_last_used.pop(session, None)
        del idle[session]
    return idle
