"""The queue before the network: one photo is worked on at a time, in the order in which they came."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import anyio.to_thread

from hierseg.errors import UserError

_MOST_WAITING = 32
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class BusyError(UserError):
    """The queue is full."""


class PhotoQueue:
    """A queue whose members hold no thread while they wait, and leave it when they are cancelled."""

    def __init__(self) -> None:
        """Start empty."""
        self._members: list[object] = []  # the first is at work
        self._moved = asyncio.Event()

    def __len__(self) -> int:
        """Return how many there are, the one at work among them."""
        return len(self._members)

    async def places(self) -> AsyncGenerator[int, None]:
        """Join, and yield how many are ahead whenever that changes. After 0 it is one's turn, until the next step.

        Raises:
            BusyError: The queue is full.
        """
        if len(self) > _MOST_WAITING:
            raise BusyError("Too many photos are waiting. Try again in a moment.")
        own = object()
        self._members.append(own)
        try:
            while ahead := self._members.index(own):
                yield ahead
                await self._moved.wait()
            yield 0
        finally:
            self._members.remove(own)
            self._moved.set()
            self._moved = asyncio.Event()

    def queued(self, function: Callable[Arguments, Result]) -> Callable[Arguments, Coroutine[Any, Any, Result]]:
        """Return a function that waits for its turn before it runs, in a thread; it raises `BusyError` too."""

        @functools.wraps(function)
        async def run(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
            async with contextlib.aclosing(self.places()) as places:
                async for ahead in places:
                    if not ahead:
                        break
                return await anyio.to_thread.run_sync(functools.partial(function, *arguments, **options))

        return run
