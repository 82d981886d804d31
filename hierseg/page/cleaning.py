"""Keeps what visitors send in a folder of the server's own, and forgets it on a schedule."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from hierseg.page import memory

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


@contextlib.asynccontextmanager
async def cleaning(
    app: App, folder: Path, kept: float = KEPT_SECONDS, every: float = SWEPT_SECONDS
) -> AsyncIterator[None]:
    """Forget whatever visitors sent and got, for as long as a Gradio app runs.

    Gradio's own `delete_cache` forgets only files that arrived whole in a field of the right name, stops at its first
    error, and leaves the answers in memory.

    Args:
        app: The server.
        folder: Where Gradio writes. Everything in it is deleted.
        kept: For how many seconds a file is kept.
        every: How many seconds are between two sweeps. An answer that nobody fetches is kept from one to the next.
    """
    task = asyncio.create_task(_clean(app, folder, kept, every))
    try:
        yield
    finally:
        task.cancel()
        sweep(folder, float("inf"))


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
    idle: set[str] = set()
    while True:
        await asyncio.sleep(every)
        sweep(folder, time.time() - kept)
        idle = _forget_sessions(app, idle)
        memory.return_free()


def _forget_sessions(app: App, idle: set[str]) -> set[str]:
    """Drop answers that nobody has fetched since the last sweep, and Gradio's lists of files, which are deleted here.

    Args:
        app: The server.
        idle: What the last call returned.

    Returns:
        Sessions that have nothing in the queue and were not yet idle at the last call.
    """
    blocks = app.get_blocks()
    for paths in blocks.temp_file_sets:
        paths.clear()
    queue = blocks._queue
    now_idle = set(queue.pending_messages_per_session) - {
        event.session_hash for event in queue.event_ids_to_events.values()
    }
    for session in now_idle & idle:  # a visitor who is still there gets a new one with the next photo
        for held in (
            queue.pending_messages_per_session,
            queue.pending_event_ids_session,
            app.state_holder.session_data,
            app.state_holder.time_last_used,
        ):
            held.pop(session, None)
    return now_idle - idle
