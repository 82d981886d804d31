"""Stands between the network and Gradio: what the page is made of is served, nothing else, at a bounded cost.

Gradio answers at more addresses than a page needs: it fetches other addresses, cuts clips and stores links to a
visitor's results. None of that can be switched off, nor the length of a request, so this ASGI middleware does it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

LARGEST_PHOTO = 15 * 1024 * 1024  # bytes of a file; viewer/server.js refuses it before it is sent
_LARGEST_BODY = 21_000_000  # bytes of a photo as a data URL, with what surrounds it
_LARGEST_CALL = 64_000  # bytes of everything else
_LARGEST_QUERY = 2_000  # characters after the question mark; Gradio keeps some of them
_ALL_BODIES = 200_000_000  # bytes that all running requests may have brought together
_SECONDS = 300  # for a body to arrive, at 50 kB a second
_PAGE = (
    r"losses|preview\.jpg|config|theme\.css|favicon\.ico|manifest\.json|robots\.txt|pwa_icon(/\d+)?|(static|assets|svelte|viewer)/.+"
    r"|gradio_api/(info|openapi\.json|app_id|startup-events|theme\.css|upload_progress|queue/(data|status)"
    r"|heartbeat/[^/]+|call/(v2/)?[^/]+/[^/]+|file=(?!https?:).+)"
)
# Which methods, which addresses, and how many bytes a request may bring there.
_SERVED = (
    ({"GET", "HEAD"}, re.compile(rf"/({_PAGE})?/?"), _LARGEST_CALL),
    ({"POST"}, re.compile(r"/gradio_api/(queue/join|call/(v2/)?[^/]+|cancel|reset)/?"), _LARGEST_CALL),
    ({"GET"}, re.compile(r"/example/\d{1,2}"), _LARGEST_CALL),
    ({"POST"}, re.compile(r"/(photo|frame|truth/[1-9]\d{0,5}/[1-9]\d{0,5})"), LARGEST_PHOTO),
    ({"POST"}, re.compile(r"/gradio_api/upload/?"), _LARGEST_BODY),
    ({"GET", "POST", "DELETE"}, re.compile(r"/gradio_api/mcp(/.*)?"), _LARGEST_BODY),
)
# Gradio's page needs its own inline scripts and styles. What the policy is for: no script can send a photo elsewhere.
_OWN = "'self' 'unsafe-inline' 'unsafe-eval' data: blob:"
_HUB = "https://huggingface.co https://*.huggingface.co"  # frames Spaces, and Gradio asks it who has liked this one
_POLICY = (
    f"default-src {_OWN}{f' {_HUB}' if 'SPACE_ID' in os.environ else ''}; object-src 'none'; base-uri 'self'; "
    f"form-action 'self'; frame-ancestors 'self' {_HUB}"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
_NOT_KEPT = (b"cache-control", b"private, no-store")
_log = logging.getLogger(__name__)


class _RefusalError(Exception):
    """A request gets a status and a sentence instead of what it asked for."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Guard:
    """The middleware. One is made for a server."""

    def __init__(self, app: App) -> None:
        """Guard an ASGI application."""
        self._app = app
        self._bytes = 0  # that running requests have brought

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it with a sentence."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        # Starlette takes this off the path where a proxy has left it there; Gradio knows where the page is without it.
        scope["root_path"] = urlsplit(scope.get("root_path", "")).path.rstrip("/")
        body = _Body(self, receive)
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            if body.refusal:  # what is said of half a body is not for the visitor
                return
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
                if _own_path(scope).startswith("/gradio_api/file="):
                    message["headers"].append(_NOT_KEPT)
            await send(message)

        try:
            body.largest = _largest_body(scope)
            await self._app(scope, body.receive, answer)
        except _RefusalError as refusal:
            body.refusal = refusal
        except Exception:
            if not body.refusal and not body.left:
                _log.exception("%s %r failed", scope["method"], scope["path"][:200])
                if started:  # too late for a sentence: end it
                    with contextlib.suppress(Exception):
                        await send({"type": "http.response.body"})
                    return None
                body.refusal = _RefusalError(500, "This failed on the server. Check what you sent and try again.")
        finally:
            self._bytes -= body.bytes
        # A client that is still sending would not listen, so the rest of the body comes first.
        if body.refusal and not started and await body.ended():
            await _refuse(send, body.refusal)
        return None

    def _take(self, body: _Body, count: int) -> None:
        body.bytes += count
        self._bytes += count
        if body.bytes > body.largest:
            raise _RefusalError(413, f"This is larger than the maximum allowed size, {body.largest:,} bytes.")
        if self._bytes > _ALL_BODIES:
            raise _RefusalError(503, "Too many photos are arriving at once. Try again in a moment.")


class _Body:
    """What a request brings, as far as it has arrived."""

    def __init__(self, guard: Guard, receive: Receive) -> None:
        self.bytes = 0
        self.largest = 0
        self.refusal: _RefusalError | None = None
        self._guard = guard
        self._receive = receive
        self._complete = self.left = False
        self._deadline = asyncio.get_running_loop().time() + _SECONDS

    async def receive(self) -> Message:
        """Hand a part of the body over; the application takes a refusal for a client that has left."""
        if self.refusal is None:
            try:
                message = await self._next()
                self._guard._take(self, len(message.get("body", b"")))
                return message
            except TimeoutError:
                self.refusal = _RefusalError(408, "The request took too long to arrive.")
            except _RefusalError as refusal:
                self.refusal = refusal
        return {"type": "http.disconnect"}

    async def ended(self) -> bool:
        """Let the rest of the body go by; tell whether somebody is still there to hear the answer."""
        with contextlib.suppress(TimeoutError):
            while not self._complete:
                await self._next()
        return not self.left

    async def _next(self) -> Message:
        """Return the next message, in time where it is of the body; afterwards it can only be that the client left."""
        if self._complete:
            return await self._receive()
        async with asyncio.timeout_at(self._deadline):
            message = await self._receive()
        self.left = message["type"] == "http.disconnect"
        self._complete = self.left or not message.get("more_body", False)
        return message


def _largest_body(scope: Message) -> int:
    """Return how many bytes a request may bring.

    Raises:
        _RefusalError: It must not be served at all.
    """
    method, path = scope["method"], _own_path(scope)
    if len(scope["query_string"]) > _LARGEST_QUERY:
        raise _RefusalError(414, "This address is too long.")
    largest = next((most for methods, at, most in _SERVED if method in methods and at.fullmatch(path)), None)
    if largest is None:
        raise _RefusalError(404, "There is nothing here. The page is at /.")
    return largest


def _own_path(scope: Message) -> str:
    """Return the path that is asked for, without the prefix under which a proxy has the page."""
    path, prefix = str(scope["path"]), scope.get("root_path", "")
    return path[len(prefix) :] or "/" if f"{path}/".startswith(f"{prefix}/") else path


async def _refuse(send: Send, refusal: _RefusalError) -> None:
    body = json.dumps({"detail": str(refusal)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *_HEADERS]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
