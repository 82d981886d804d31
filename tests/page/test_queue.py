"""One photo at a time: who is next, what those who wait are told, and that nobody can hold the others up."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierseg.errors import UserError
from hierseg.page import payload, routes
from hierseg.page.blocks import FAILED
from hierseg.page.queue import BusyError, PhotoQueue
from tests.server import finished, messages


async def _last(answers: AsyncIterator[bytes]) -> list[dict[str, Any]]:
    return [message async for answer in answers for message in messages(answer)]


def _photo(work: Callable[[], object] = lambda: None) -> Callable[[], bytes]:
    def show() -> bytes:
        work()
        return payload.message({"note": "done"}, b"photo")

    return show


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_one_works_at_a_time_in_the_order_in_which_they_came(of_programs: list[bool]) -> None:
    queue, done, lock = PhotoQueue(), list[int](), threading.Lock()

    def work(number: int) -> None:
        assert lock.acquire(blocking=False)
        done.append(number)
        lock.release()

    async def ask(number: int, of_program: bool) -> None:
        if of_program:
            await queue.queued(work)(number)
        else:
            await _last(routes._messages(queue, _photo(lambda: work(number))))

    async def all_at_once() -> None:
        await asyncio.gather(*(ask(number, kind) for number, kind in enumerate(of_programs)))

    finished(all_at_once())
    assert done == list(range(len(of_programs)))
    assert len(queue) == 0


def test_who_waits_is_told_how_many_are_ahead_and_who_comes_too_late_to_come_again() -> None:
    async def ask(count: int) -> tuple[list[list[dict[str, Any]]], str]:
        queue = PhotoQueue()
        photos = [asyncio.create_task(_last(routes._messages(queue, _photo()))) for _ in range(count)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError) as refused:
            await queue.queued(lambda: None)()
        return await asyncio.gather(*photos), str(refused.value)

    answers, told_a_program = finished(ask(35))
    for number, told in enumerate(answers[:33]):
        assert [each["ahead"] for each in told[:-1]] == list(range(number, -1, -1))
        assert told[-1] == {"note": "done", "parts": [b"photo"]}
    assert all(each["ahead"] <= each["waiting"] <= 32 for told in answers[:33] for each in told[:-1])
    assert answers[33:] == [[{"busy": True, "parts": []}]] * 2
    assert "Try again" in told_a_program


def test_who_leaves_or_does_not_listen_holds_nobody_up() -> None:
    async def ask() -> None:
        queue = PhotoQueue()
        deaf = routes._messages(queue, _photo())
        for _ in range(2):  # its place and the answer, and then it takes no more
            await anext(deaf)
        assert len(queue) == 0
        at_work, may_end = threading.Event(), threading.Event()
        first = asyncio.create_task(_last(routes._messages(queue, _photo(lambda: (at_work.set(), may_end.wait())))))
        while not at_work.is_set():
            await asyncio.sleep(0)
        leaving = asyncio.create_task(queue.queued(lambda: pytest.fail("it has left"))())
        last = asyncio.create_task(_last(routes._messages(queue, _photo())))
        await asyncio.sleep(0)
        leaving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await leaving
        may_end.set()
        assert [each.get("ahead") for each in await last] == [2, 1, 0, None]
        await first
        assert len(queue) == 0

    finished(ask())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("This is not a photo."), "This is not a photo."),
        (gr.Error("You have exceeded your quota."), "You have exceeded your quota."),  # of a ZeroGPU Space
        (ValueError("a secret of the machine"), FAILED),
    ],
    ids=repr,
)
def test_what_fails_is_told_in_a_sentence_and_the_next_photo_is_served(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error

    async def ask() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        queue = PhotoQueue()
        failed = await _last(routes._messages(queue, _photo(fail)))
        return failed, await _last(routes._messages(queue, _photo()))

    failed, served = finished(ask())
    assert failed[1:] == [{"message": said, "parts": []}]
    assert served[1]["note"] == "done"
    assert ("a secret" in caplog.text) == (said == FAILED)
