"""Keeps the server's memory flat.

Python alone lets a quarter of what it has loaded pile up as garbage before it looks at all of it, and glibc gives each
thread a heap of its own to leave holes in.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc

_ARENA_MAX = -8  # of mallopt(3)


def share_one_heap() -> None:
    """Let threads that start from now on share one heap. They seldom wait for it: Python runs one at a time."""
    _call_libc("mallopt", _ARENA_MAX, 1)


def settle() -> None:
    """Exempt the objects that exist now from garbage collection, so that a collection takes next to no time."""
    return_free()
    gc.freeze()


def return_free() -> None:
    """Hand free memory back to the system; glibc, on its own, keeps what lies below anything still in use."""
    gc.collect()
    _call_libc("malloc_trim", 0)


def _call_libc(function: str, *arguments: int) -> None:
    """Call a function of the C library, if it has it."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        getattr(ctypes.CDLL(None), function)(*arguments)
