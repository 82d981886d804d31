"""The page's own way to the network: a photo comes in one request, and what the viewer shows of it goes back.

An answer is a stream of messages, see `payload.message`: how many are ahead in the queue, and at last a scene, a
sentence, or that the queue is full. Nothing is written to a disk.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

import anyio.to_thread
import gradio as gr
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from hierseg.errors import UserError
from hierseg.page.actions import Actions
from hierseg.page.blocks import FAILED
from hierseg.page.gpu import work_for
from hierseg.page.payload import message
from hierseg.page.queue import BusyError, PhotoQueue

_log = logging.getLogger(__name__)


def routes(actions: Actions, queue: PhotoQueue, examples: Sequence[Path]) -> list[Route]:
    """Return what answers beside Gradio: photos, frames, ground truths and examples.

    Of a frame, only one look is taken, by the checkpoints that the query names: `/frame?checkpoint=bce&checkpoint=ftm`.
    An example's scene is kept from the first time on that somebody asks for it.
    """
    scenes: dict[int, bytes] = {}

    def scene_of(number: int) -> bytes:
        if number not in scenes:
            scenes[number] = actions.show(examples[number].read_bytes())
        return scenes[number]

    async def example(request: Request) -> Response:
        number = request.path_params["number"]
        return Response(scenes[number]) if number in scenes else _answer(request, queue, partial(scene_of, number))

    async def frame(request: Request) -> Response:
        names = tuple(request.query_params.getlist("checkpoint"))
        return _answer(request, queue, partial(actions.show, await request.body(), names, thorough=False))

    def post(path: str, work: Callable[..., bytes]) -> Route:
        async def answer(request: Request) -> Response:
            return _answer(request, queue, partial(work, await request.body(), **request.path_params))

        return Route(path, answer, methods=["POST"])

    return [
        post("/photo", actions.show),
        Route("/frame", frame, methods=["POST"]),
        post("/truth/{height:int}/{width:int}", actions.fit_truth),
        Route("/example/{number:int}", example),
    ]


def _answer(request: Request, queue: PhotoQueue, work: Callable[[], bytes]) -> Response:
    work_for(request)
    return StreamingResponse(_messages(queue, work), media_type="application/octet-stream")


async def _messages(queue: PhotoQueue, work: Callable[[], bytes]) -> AsyncIterator[bytes]:
    try:
        async with contextlib.aclosing(queue.places()) as places:
            async for ahead in places:
                yield message({"ahead": ahead, "waiting": len(queue) - 1})
                if not ahead:
                    answer = await anyio.to_thread.run_sync(work)
    except BusyError:
        answer = message({"busy": True})
    except UserError as error:
        answer = message({"message": str(error)})
    except gr.Error as error:  # the package spaces has no card for this visitor
        answer = message({"message": str(error.message)})
    except Exception:
        _log.exception("a photo could not be segmented")
        answer = message({"message": FAILED})
    yield answer  # after the turn: a client may take its time
