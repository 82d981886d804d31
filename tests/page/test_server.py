"""The server among adversaries: each promise of SECURITY.md on the real page, whose networks are tiny."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import io
import json
import os
import posixpath
import re
import resource
import shutil
import signal
import socket
import stat
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import Popen, run
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hierseg.page import app, cleaning, environment, guard, modules
from hierseg.page.examples import Example
from hierseg.page.guard import HEADERS, Guard
from hierseg.predictor import Predictor
from tests import REPOSITORY
from tests.server import Visitor, file, finished, has_mark, marked_photo, running_server, small_page

CHOICES = ("ftm", "parts", 0.0)  # an overlay of no opacity is the photo itself


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, folder: Path, tiny_checkpoint: Path
) -> Iterator[tuple[str, Popen[str]]]:
    site = small_page(tmp_path_factory.mktemp("site"), tiny_checkpoint)
    with running_server(folder, site) as served:
        yield served


@pytest.fixture
def visitor(server: tuple[str, Popen[str]]) -> Iterator[Visitor]:
    with Visitor(server[0]) as one:
        yield one


@pytest.fixture(scope="module")
def listener() -> Iterator[tuple[int, list[bytes]]]:
    """A web server on this machine, which nobody should ask: its port, and what was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as own:

        def listen() -> None:
            while True:
                connection, _ = own.accept()
                with connection:
                    asked.append(connection.recv(1000))
                if asked[-1] == b"end":
                    return

        thread = threading.Thread(target=listen)
        thread.start()
        port: int = own.getsockname()[1]
        yield port, asked
        with socket.create_connection(("127.0.0.1", port)) as last:
            last.sendall(b"end")
        thread.join()


async def _small_blocks(checkpoint: Path) -> Any:
    """Build the page in this process; outside of an event loop, Gradio would make one and never close it."""
    return app.build_page({"tiny": Predictor(checkpoint)}, [])


def _is_a_sentence(words: Any) -> bool:
    """Tell whether this can be shown to anybody: words that end, and nothing of this machine or of the code."""
    secret = re.search(
        rf"Traceback|{re.escape(str(REPOSITORY))}|{re.escape(sys.prefix)}|\bline \d+|<class|\w+Error", words
    )
    return isinstance(words, str) and re.search(r"\w{2}.*[.!?\]]$", words) is not None and secret is None


# Files and addresses

PATHS = (
    "/etc/passwd",
    str(REPOSITORY / "examples" / "camera.jpg"),
    "app.py",
    "examples/camera.jpg",
    "../../../../etc/passwd",
    "",
    "/proc/self/environ",
    "file:///etc/passwd",
    "data:image/png;base64,AAAA",
    "http://127.0.0.1:{port}/a.jpg",
    "http://localhost:{port}/a.jpg",
    "http://[::ffff:127.0.0.1]:{port}/a.jpg",
    "http://192.168.0.1/a.jpg",
    "https://huggingface.co/a.jpg",
    7,
    ["a"],
)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("meta", [True, False], ids=["named as a file", "not named as a file"])
def test_nothing_is_opened_but_what_was_uploaded(
    visitor: Visitor, listener: tuple[int, list[bytes]], path: Any, meta: bool
) -> None:
    if isinstance(path, str):
        path = path.format(port=listener[0])
    own = visitor.upload(marked_photo(0))
    foreign = file(path) if meta else {"path": path}
    for name, data in {"segment": (foreign, *CHOICES), "compare": (file(own), "parts", foreign)}.items():
        kind, answer = visitor.call(name, *data)
        assert (kind, "Only files uploaded" in answer["error"]) == ("error", True), answer


def test_a_link_out_of_the_folder_is_not_followed(visitor: Visitor) -> None:
    own = Path(visitor.upload(marked_photo(0)))
    link = own.with_name("link.jpg")
    link.symlink_to(REPOSITORY / "examples" / "camera.jpg")
    assert "Only files uploaded" in visitor.call("segment", file(str(link)), *CHOICES)[1]["error"]


def test_no_request_leaves_the_server(visitor: Visitor, listener: tuple[int, list[bytes]]) -> None:
    address = f"http://127.0.0.1:{listener[0]}/a.jpg"
    own = visitor.upload(marked_photo(0))
    for photo in (file(address), file(own, url=address), {"url": address}, {"path": own, "url": address}):
        visitor.call("segment", photo, *CHOICES)
        visitor.call("compare", file(own), "parts", photo)
    visitor.call("segment", file(own), file(address), "parts", 0.5)
    for way in ("photo", "truth/9/9"):
        visitor.show(address.encode(), way)
    for asked in ("file=", "file/", "proxy="):
        assert visitor.http.get(f"/gradio_api/{asked}{address}").status_code == 404
    assert listener[1] == []


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "app.py",
        "..%2f..%2fetc%2fpasswd",
        str(REPOSITORY / "app.py"),
        "{own}%2f..%2f..%2f..%2fapp.py",
        "{folder}",
        "//etc/passwd",
        "%00",
        "a" * 5000,
    ],
)
def test_no_file_is_handed_out_but_uploads_and_results(visitor: Visitor, folder: Path, path: str) -> None:
    own = visitor.upload(marked_photo(0))
    answer = visitor.http.get("/gradio_api/file=" + path.format(own=own, folder=folder))
    assert answer.status_code == 403
    assert visitor.http.get(f"/gradio_api/file={own}").content == marked_photo(0)


@pytest.mark.parametrize(
    "name",
    ["../../x.jpg", "/etc/x.jpg", "..", ".", " ", "a" * 3000 + ".jpg", "\u202egpj.exe", "a\0b.jpg", "a\\..\\b.jpg"],
)
def test_an_upload_of_any_name_stays_in_its_folder(visitor: Visitor, folder: Path, name: str) -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="' + name.encode() + b'"\r\n\r\n'
        b"\x00content\r\n--b--\r\n"
    )
    answer = visitor.http.post(
        "/gradio_api/upload", content=body, headers={"content-type": "multipart/form-data; boundary=b"}
    )
    if answer.status_code == 200:
        (path,) = answer.json()
        assert Path(path).resolve().is_relative_to(folder)
        assert Path(path).read_bytes() == b"\x00content"
    else:
        assert answer.status_code == 400


def test_a_web_page_that_was_uploaded_is_not_shown_as_one(visitor: Visitor) -> None:
    for name in ("x.html", "x.svg", "x.xhtml"):
        path = visitor.upload(b"<script>alert(1)</script>", name)
        headers = visitor.http.get(f"/gradio_api/file={path}").headers
        assert headers["content-disposition"].startswith("attachment")
        assert headers["content-type"] == "application/octet-stream"


def test_the_folder_of_uploads_is_closed_to_others_on_the_machine(visitor: Visitor, folder: Path) -> None:
    own = Path(visitor.upload(marked_photo(0)))
    assert folder in own.parents
    assert stat.S_IMODE((folder / own.relative_to(folder).parts[0]).stat().st_mode) == 0o700


# What is served, and how

EVERYTHING_SERVED = {
    "/", "/assets/{path:path}", "/config", "/favicon.ico", "/manifest.json", "/pwa_icon", "/pwa_icon/{size}",
    "/robots.txt", "/static/{path:path}", "/svelte/{path:path}", "/theme.css",
    "/gradio_api/app_id", "/gradio_api/call/v2/{api_name}", "/gradio_api/call/v2/{api_name}/{event_id}",
    "/gradio_api/call/{api_name}", "/gradio_api/call/{api_name}/{event_id}", "/gradio_api/cancel",
    "/gradio_api/file={path_or_url:path}", "/gradio_api/heartbeat/{session_hash}",
    "/gradio_api/info", "/gradio_api/openapi.json", "/gradio_api/queue/data", "/gradio_api/queue/join",
    "/gradio_api/queue/status", "/gradio_api/reset", "/gradio_api/startup-events", "/gradio_api/theme.css",
    "/gradio_api/upload", "/gradio_api/upload_progress",
}  # fmt: skip


def test_of_what_gradio_answers_only_the_listed_is_served(tiny_checkpoint: Path) -> None:
    blocks = finished(_small_blocks(tiny_checkpoint))

    def served(method: str, path: str) -> bool:
        filled = re.sub(r"{\w+(:path)?}", "9", path)
        try:
            guard._largest_body({"method": method, "path": filled, "query_string": b"", "headers": []})
        except guard._RefusalError:
            return False
        return True

    methods: dict[str, set[str]] = {}
    for each in blocks.app.routes:
        inner = getattr(each, "effective_route_contexts", None)
        for route in inner() if inner else [each]:
            methods.setdefault(route.path.rstrip("/") or "/", set()).update(route.methods or ())
    assert len(methods) > len(EVERYTHING_SERVED) + 10
    assert {path for path, kinds in methods.items() if any(served(kind, path) for kind in kinds)} == EVERYTHING_SERVED


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/monitoring"),
        ("GET", "/gradio_api/deep_link?session_hash=a"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/run/segment"),
        ("POST", "/gradio_api/api/segment"),
        ("POST", "/gradio_api/vibe-edit"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/truth/0/9"),
        ("POST", "/truth/9/1000000"),
        ("GET", "/example/9999"),
        ("GET", "/gradio_api/dev/reload"),
        ("GET", "/openapi.json"),
        ("DELETE", "/"),
        ("PUT", "/gradio_api/upload"),
        ("GET", "/?" + "a" * 3000),
    ],
)
def test_what_the_page_does_not_need_is_refused_with_a_sentence(visitor: Visitor, method: str, path: str) -> None:
    answer = visitor.http.request(method, path)
    assert answer.status_code in (404, 414)
    assert _is_a_sentence(answer.json()["detail"])


def test_every_answer_has_the_security_headers(visitor: Visitor) -> None:
    own = visitor.upload(marked_photo(0))
    for path in ("/", "/config", "/theme.css", f"/gradio_api/file={own}", "/gradio_api/file=/etc/passwd", "/nothing"):
        headers = visitor.http.get(path).headers
        assert {name: headers.get(name) for name in HEADERS} == HEADERS, path
    assert visitor.http.get(f"/gradio_api/file={own}").headers["cache-control"] == "private, no-store"
    policy = dict(part.strip().split(" ", 1) for part in HEADERS["content-security-policy"].split(";"))
    assert "http" not in policy["default-src"]  # here, on no Space, a script can reach this server alone
    assert "https://huggingface.co" in policy["frame-ancestors"]  # where Spaces are framed
    assert "x-frame-options" not in headers


def test_the_viewers_modules_are_served_to_be_kept_for_ever_at_addresses_of_this_version(visitor: Visitor) -> None:
    names, seen = ["viewer.js"], set[str]()
    while names:
        name = names.pop()
        seen.add(name)
        answer = visitor.http.get(modules.address(name))
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/javascript; charset=utf-8"), name
        assert "immutable" in answer.headers["cache-control"]
        imported = re.findall(r'from "(.+)";', answer.text)
        names += {posixpath.normpath(posixpath.join(posixpath.dirname(name), each)) for each in imported} - seen
    folder = REPOSITORY / "hierseg" / "page" / "viewer"
    assert seen == {path.relative_to(folder).as_posix() for path in folder.rglob("*.js")}
    for path in (modules.address("nothing.js"), modules.address("../app.py"), "viewer/0/viewer.js", "viewer/"):
        answer = visitor.http.get(path)
        assert answer.status_code == 404 and "cache-control" not in answer.headers, path


def test_the_page_says_nothing_of_the_machine(visitor: Visitor) -> None:
    for path in ("/", "/config", "/gradio_api/info", "/gradio_api/openapi.json"):
        said = visitor.http.get(path).text
        assert str(REPOSITORY) not in said and sys.prefix not in said and str(Path.home()) + "/" not in said, path


def test_a_page_elsewhere_cannot_use_a_server_on_this_machine(visitor: Visitor) -> None:
    for origin in ("https://evil.example", "null"):
        assert "access-control-allow-origin" not in visitor.http.get("/config", headers={"origin": origin}).headers


# Requests of every wrong kind

JSON = {"content-type": "application/json"}
CALLS = ("/gradio_api/queue/join", "/gradio_api/call/segment")


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"data": {}}',
        b'{"data": [], "session_hash": 7, "fn_index": 0}',
        b'{"data": [], "session_hash": "a", "fn_index": "a"}',
        b'{"data": [], "session_hash": "a", "fn_index": 1e999}',
        b'{"data": [], "session_hash": "a", "fn_index": 99}',
        b'{"data": [], "session_hash": "a", "fn_index": -1}',
        b'{"data": ' + b"[" * 20_000 + b"]" * 20_000 + b', "session_hash": "a", "fn_index": 0}',
        b'{"data": [], "session_hash": "' + b"a" * 70_000 + b'", "fn_index": 0}',
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_body_of_the_wrong_kind_gets_a_sentence(visitor: Visitor, path: str, body: bytes) -> None:
    answer = visitor.http.post(path, content=body, headers=JSON)
    if answer.status_code == 200:  # it is in the queue, and the answer comes there
        assert path == CALLS[1]
        return
    assert answer.status_code >= 400
    detail = answer.json()["detail"]
    assert _is_a_sentence(detail) or detail == "There was an error parsing the body"


@pytest.mark.parametrize(
    "data",
    [
        (),
        (1,),
        (None,) * 4,
        ("a", *CHOICES),
        ([], *CHOICES),
        ({}, *CHOICES),
        (True, *CHOICES),
        ({"path": None}, *CHOICES),
        (None, "nothing", "parts", 0.5),
        (None, "ftm", {}, 0.5),
        (None, [], "parts", 0.5),
        (None, "ftm", "parts", "a"),
        (None, "ftm", "parts", -1),
        (None, "ftm", "parts", {"path": None}),
    ],
    ids=repr,
)
def test_a_call_with_wrong_values_gets_a_sentence(visitor: Visitor, data: tuple[Any, ...]) -> None:
    kind, answer = visitor.call("segment", *data)
    assert kind == "error"
    assert _is_a_sentence(answer["error"]), answer


@pytest.mark.parametrize("way", ["photo", "frame", "truth/9/9"])
@pytest.mark.parametrize("content", [b"", b"words", b"\0" * 99, marked_photo(0)[:300]], ids=lambda each: repr(each[:9]))
def test_what_is_no_photo_gets_a_sentence(visitor: Visitor, way: str, content: bytes) -> None:
    assert _is_a_sentence(visitor.show(content, way)["message"])


@pytest.mark.parametrize("told", [True, False], ids=["told before", "in chunks"])
@pytest.mark.parametrize("path", ["/gradio_api/upload", "/photo", "/gradio_api/queue/join"])
def test_a_body_that_is_too_large_is_refused(visitor: Visitor, folder: Path, path: str, told: bool) -> None:
    start = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    parts = [start, *[b"a" * 1_000_000] * 15, b"\r\n"] if "upload" in path else [b'"', *[b"a" * 1_000_000] * 15]
    kind = {"content-type": "multipart/form-data; boundary=b" if "upload" in path else "application/json"}
    body = parts * 2
    answer = visitor.http.post(path, content=b"".join(body) if told else iter(body), headers=kind)
    assert answer.status_code == 413
    assert "maximum allowed size" in answer.json()["detail"]
    own = visitor.upload(marked_photo(0))
    assert visitor.http.get(f"/gradio_api/file={own}").status_code == 200


# Visitors among each other


def test_visitors_at_once_get_their_own_photo_and_nothing_else(server: tuple[str, Popen[str]]) -> None:
    def visit(mark: int) -> list[bytes]:
        with Visitor(server[0]) as one:
            seen = [one.show(marked_photo(mark), way)["parts"][0] for way in ("photo", "frame")]
            kind, answer = one.call("segment", file(one.upload(marked_photo(mark))), *CHOICES)
            assert kind == "complete"
            return [*seen, one.result(answer)]

    with ThreadPoolExecutor(12) as pool:
        for mark, seen in enumerate(pool.map(visit, range(24))):
            assert [has_mark(each, mark) for each in seen] == [True] * 3


def test_where_a_photo_lies_cannot_be_told_from_its_content(visitor: Visitor) -> None:
    content = marked_photo(1)
    hidden = Path(visitor.upload(content)).parent.name
    assert re.fullmatch(r"[0-9a-f]{64}", hidden)
    assert hidden != hashlib.sha256(content).hexdigest()


def test_of_another_session_nothing_is_heard(server: tuple[str, Popen[str]], visitor: Visitor) -> None:
    with Visitor(server[0]) as other:
        visitor.join("segment", file(visitor.upload(marked_photo(2))), *CHOICES)
        assert other.hear()["session_not_found"]
        assert has_mark(visitor.result(visitor.hear()["output"]["data"]), 2)


def test_one_visitor_cannot_end_what_another_asked_for(server: tuple[str, Popen[str]], visitor: Visitor) -> None:
    event = visitor.join("segment", file(visitor.upload(marked_photo(3))), *CHOICES)
    with Visitor(server[0]) as other:
        for number in range(10):
            other.http.post(
                "/gradio_api/cancel",
                json={"session_hash": other.session, "fn_index": number, "event_id": "0" * len(event)},
            )
    assert has_mark(visitor.result(visitor.hear()["output"]["data"]), 3)


def test_who_closes_the_page_leaves_nobody_waiting(server: tuple[str, Popen[str]], visitor: Visitor) -> None:
    for number in range(6):
        with Visitor(server[0]) as hasty, hasty.http.stream("POST", "/photo", content=marked_photo(number)):
            pass  # and gone
    assert has_mark(visitor.show(marked_photo(9))["parts"][0], 9)


# Memory and time


class _Client:
    """The other side of an ASGI application: what it sends, and what it hears."""

    def __init__(self, *messages: dict[str, Any], path: str = "/gradio_api/upload", method: str = "POST") -> None:
        self.scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": []}
        self._messages = list(messages)
        self.heard: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        if not self._messages:
            await asyncio.Event().wait()  # a client that says nothing more
        return self._messages.pop(0)

    async def send(self, message: Any) -> None:
        self.heard.append(message)

    def ask(self, own: Guard) -> tuple[int, str] | None:
        """Return the status and the sentence that come back."""
        finished(own(self.scope, self.receive, self.send))
        if not self.heard:
            return None
        return self.heard[0]["status"], json.loads(self.heard[1]["body"])["detail"]


def _body(content: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": content, "more_body": more}


async def _reads_all(_: Any, receive: Any, send: Any) -> None:
    content, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RuntimeError("the client has left")
        content += message["body"]
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps({"detail": str(len(content))}).encode()})


@given(st.lists(st.integers(0, 9_000_000), min_size=1, max_size=5))
def test_what_arrives_whole_is_handed_on_and_what_is_too_large_is_not(sizes: list[int]) -> None:
    own = Guard(_reads_all)
    parts = [_body(bytes(size), number < len(sizes) - 1) for number, size in enumerate(sizes)]
    answer = _Client(*parts).ask(own)
    assert answer is not None
    if sum(sizes) <= guard._LARGEST_BODY:
        assert answer == (200, str(sum(sizes)))
    else:
        assert answer[0] == 413
    assert own._bytes == 0


def test_all_bodies_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Guard(_reads_all)
    first = _Client(_body(bytes(600), True))
    second = _Client(_body(bytes(600)))
    monkeypatch.setattr(guard, "_ALL_BODIES", 1000)

    async def both() -> None:
        waiting = asyncio.create_task(own(first.scope, first.receive, first.send))
        while own._bytes == 0:
            await asyncio.sleep(0)
        await own(second.scope, second.receive, second.send)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    finished(both())
    assert second.heard[0]["status"] == 503
    assert own._bytes == 0
    assert _Client(_body(bytes(600))).ask(own) == (200, "600")


def test_a_body_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_SECONDS", 0)
    answer = _Client(_body(b"a", True)).ask(Guard(_reads_all))
    assert answer is not None and answer[0] == 408 and _is_a_sentence(answer[1])


def test_an_answer_that_takes_long_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_SECONDS", 0)

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == b"a"
        left = asyncio.create_task(receive())  # how an application hears that the client has left
        for _ in range(100):
            await asyncio.sleep(0)
        assert not left.done()
        left.cancel()
        await _reads_all(scope, _Client(_body(b"")).receive, send)

    assert _Client(_body(b"a")).ask(Guard(slow)) == (200, "0")


def test_an_error_in_the_server_becomes_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    async def failing(*_: Any) -> None:
        raise RuntimeError("a secret")

    answer = _Client(_body(b"")).ask(Guard(failing))
    assert answer is not None and answer[0] == 500
    assert _is_a_sentence(answer[1]) and "secret" not in answer[1]
    assert "a secret" in caplog.text  # whoever runs the server is told


def test_an_error_amid_an_answer_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    async def failing(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    client = _Client(_body(b""))
    finished(Guard(failing)(client.scope, client.receive, client.send))
    assert [message["type"] for message in client.heard] == ["http.response.start", "http.response.body"]
    assert not client.heard[-1].get("more_body")


def test_a_client_that_has_left_is_told_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert _Client(_body(b"a", True), {"type": "http.disconnect"}).ask(Guard(_reads_all)) is None
    assert caplog.text == ""


# Forgetting


def _touch(path: Path, content: bytes = b"photo") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_sweep_deletes_what_is_old_and_only_that(tmp_path: Path) -> None:
    old = [_touch(tmp_path / "a" / "photo.jpg"), _touch(tmp_path / "tmpx"), _touch(tmp_path / "b" / "c" / "d")]
    new = _touch(tmp_path / "e" / "photo.jpg")
    before = new.stat().st_ctime
    while max(path.stat().st_ctime for path in old) >= before:  # a clock's tick may be shared
        new.write_bytes(b"again")
        before = new.stat().st_ctime
    os.utime(new, (0, 0))  # a copy of an old file is not old
    cleaning.sweep(tmp_path, before)
    assert [path.exists() for path in (*old, new)] == [False, False, False, True]
    cleaning.sweep(tmp_path, float("inf"))
    cleaning.sweep(tmp_path, float("inf"))
    assert list(tmp_path.iterdir()) == []


def test_the_schedule_is_the_one_that_the_page_names() -> None:
    assert "within eleven minutes" in app.PRIVACY
    assert (cleaning.KEPT_SECONDS + cleaning.SWEPT_SECONDS) / 60 == 11
    defaults = inspect.unwrap(cleaning.cleaning).__defaults__
    assert defaults == (cleaning.KEPT_SECONDS, cleaning.SWEPT_SECONDS)


def _fail(*_: Any) -> None:
    raise OSError


async def _cycles(app: Any, folder: Path, kept: float) -> AsyncIterator[None]:
    """Run the schedule without waiting between its sweeps."""
    async with cleaning.cleaning(app, folder, kept=kept, every=0):
        while True:
            await asyncio.sleep(0)
            yield


def test_the_schedule_deletes_files_and_answers_and_goes_on_after_an_error(
    tmp_path: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        blocks = await _small_blocks(tiny_checkpoint)
        app, queue = blocks.app, blocks._queue
        left = tmp_path / "hash" / "photo.jpg"
        _touch(left)
        blocks.upload_file_set.add(str(left))
        app.state_holder["gone"]
        queue.pending_messages_per_session["gone"] = asyncio.Queue()
        cycles = _cycles(app, tmp_path, kept=0)
        async for _ in cycles:
            if not left.exists() and not blocks.upload_file_set and "gone" not in queue.pending_messages_per_session:
                break
        assert "gone" not in app.state_holder
        monkeypatch.setattr(os, "unlink", _fail)
        _touch(left)
        for _ in range(10):
            await anext(cycles)
        monkeypatch.undo()
        async for _ in cycles:
            if not left.exists():
                break
        await cycles.aclose()

    finished(run())


def test_files_and_sessions_of_a_running_request_are_kept(tmp_path: Path, tiny_checkpoint: Path) -> None:
    async def run() -> None:
        blocks = await _small_blocks(tiny_checkpoint)
        app, queue = blocks.app, blocks._queue
        young = _touch(tmp_path / "hash" / "photo.jpg")
        queue.event_ids_to_events["1"] = type("Event", (), {"session_hash": "busy"})
        for session in ("busy", "idle"):
            queue.pending_messages_per_session[session] = asyncio.Queue()
        cycles = _cycles(app, tmp_path, kept=3600)
        async for _ in cycles:
            if "idle" not in queue.pending_messages_per_session:
                break
        await anext(cycles)
        assert young.exists()
        assert list(queue.pending_messages_per_session) == ["busy"]
        await cycles.aclose()

    finished(run())


def test_no_session_keeps_a_photo(tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    path = _touch(tmp_path / "a.jpg", marked_photo(5))

    async def run() -> None:
        blocks = await _small_blocks(tiny_checkpoint)
        segment = next(each for each in blocks.fns.values() if each.api_name == "segment")
        state = blocks.app.state_holder["one"]
        for _ in range(2):  # the second time without the state of the first
            answer = await blocks.process_api(
                block_fn=segment, inputs=[file(str(path)), "tiny", *CHOICES[1:]], state=state
            )
            assert has_mark(Path(answer["data"][0]["path"]).read_bytes(), 5)
            assert not state.config_values

    finished(run())


# Faults


@pytest.fixture
def full_disk(server: tuple[str, Popen[str]]) -> Iterator[None]:
    """The server can write no file any more."""
    if not hasattr(resource, "prlimit"):
        pytest.skip("limits of another process are set as Linux does")
    limits = resource.prlimit(server[1].pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server[1].pid, resource.RLIMIT_FSIZE, (0, limits[1]))
    yield
    resource.prlimit(server[1].pid, resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def uploaded(visitor: Visitor) -> str:
    return visitor.upload(marked_photo(6))


def test_a_full_disk_is_told_in_a_sentence(visitor: Visitor, uploaded: str, full_disk: None) -> None:
    answer = visitor.http.post("/gradio_api/upload", files={"files": ("a.jpg", marked_photo(7))})
    assert answer.status_code == 500 and _is_a_sentence(answer.json()["detail"])
    kind, said = visitor.call("segment", file(uploaded), *CHOICES)
    assert kind == "error" and _is_a_sentence(said["error"])


def _large_photo() -> bytes:
    large = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (2000, 3000, 3), np.uint8)).save(large, "JPEG")
    return large.getvalue()


def test_no_photo_of_a_visitor_is_written_to_a_disk(visitor: Visitor, full_disk: None) -> None:
    labels = io.BytesIO()
    np.save(labels, np.zeros((2000, 3000), np.uint8))
    for way in ("photo", "frame"):
        assert visitor.show(_large_photo(), way)["original"] == [3000, 2000]
    assert visitor.show(labels.getvalue(), "truth/2000/3000")["parts"]
    assert _is_a_sentence(visitor.show(b"words")["message"])


def test_a_signal_amid_a_request_ends_the_server_and_leaves_no_file(tmp_path: Path, tiny_checkpoint: Path) -> None:
    uploads = tmp_path / "uploads"
    with running_server(uploads, small_page(tmp_path / "site", tiny_checkpoint)) as (url, process), Visitor(url) as one:
        one.upload(marked_photo(0))
        with (
            one.http.stream("GET", f"/gradio_api/heartbeat/{one.session}") as heartbeat,  # as an open page holds it
            Visitor(url) as other,
            other.http.stream("POST", "/photo", content=_large_photo()),
        ):
            next(heartbeat.iter_raw())
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0
    assert list(uploads.iterdir()) == []


ABSENT = ("mcp", "spaces", "torch", "torchvision", "timm", "segmentation_models_pytorch", "albumentations")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a core is taken away as Linux does")
def test_the_page_works_on_one_core_without_optional_packages_and_without_bf16(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for name in ABSENT:
        _touch(tmp_path / "absent" / f"{name}.py", b"raise ModuleNotFoundError")
    small_page(site, REPOSITORY / "checkpoints" / "bce.safetensors")
    for path in (site / "checkpoints", *(site / "checkpoints").iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in (site / "checkpoints", *(site / "checkpoints").iterdir())}
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # which the server inherits
    try:
        with (
            running_server(
                tmp_path / "uploads", site, PYTHONPATH=str(tmp_path / "absent"), ONEDNN_MAX_CPU_ISA="AVX2"
            ) as (url, _),
            Visitor(url) as one,
        ):
            assert has_mark(one.show(marked_photo(8))["parts"][0], 8)
            assert one.call("segment", file(one.upload(marked_photo(8))), *CHOICES)[0] == "complete"
    finally:
        os.sched_setaffinity(0, cores)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing was written there


# The environment


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """The environment as `environment.prepare` finds and leaves it."""
    given = {"GRADIO_TEMP_DIR": str(tmp_path / "uploads")}
    monkeypatch.setattr(os, "environ", given)
    return given


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_address_is_taken_with_and_without_brackets(variables: dict[str, str], host: str) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    variables["GRADIO_SERVER_NAME"] = host
    assert environment.prepare()[0] == "[::1]"
    assert "GRADIO_SERVER_NAME" not in variables  # of which Gradio would make an IPv4 address


def test_a_port_that_is_taken_gives_way_to_the_next(variables: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        variables["GRADIO_SERVER_PORT"] = str(port)
        environment.prepare()
        assert int(variables["GRADIO_SERVER_PORT"]) > port
        variables.update(GRADIO_SERVER_PORT=str(port), GRADIO_NUM_PORTS="1")
        with pytest.raises(environment.StartError, match=f"No port from {port} to {port} can be used"):
            environment.prepare()


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("", ""),
        ("/", ""),
        ("seg", "/seg"),
        ("/seg/", "/seg"),
        ("/a/b", "/a/b"),
        ("https://h.example/seg/", "https://h.example/seg"),
        ("http://h.example:8080", "http://h.example:8080"),
    ],
)
def test_a_root_path_is_taken_however_its_slashes_are(variables: dict[str, str], given: str, taken: str) -> None:
    variables["GRADIO_ROOT_PATH"] = given
    environment.prepare()
    assert variables["GRADIO_ROOT_PATH"] == taken


def test_a_variable_that_only_gradio_knows_changes_nothing(variables: dict[str, str]) -> None:
    variables |= {"GRADIO_NUM_WORKERS": "2", "GRADIO_ALLOWED_PATHS": "/", "GRADIO_DEBUG": "x"}
    environment.prepare()
    assert not {"GRADIO_NUM_WORKERS", "GRADIO_ALLOWED_PATHS", "GRADIO_DEBUG"} & set(variables)


@pytest.mark.parametrize(
    "given",
    [
        {"GRADIO_SERVER_PORT": "abc"},
        {"GRADIO_SERVER_PORT": "0"},
        {"GRADIO_SERVER_PORT": "65536"},
        {"GRADIO_NUM_PORTS": "-1"},
        {"GRADIO_SERVER_NAME": "http://127.0.0.1"},
        {"GRADIO_SERVER_NAME": "192.0.2.1"},
        {"GRADIO_SERVER_NAME": "a..b"},
        {"GRADIO_ROOT_PATH": "/a b"},
        {"GRADIO_ROOT_PATH": "http://["},
        {"GRADIO_ROOT_PATH": "ftp://h.example/a"},
        {"GRADIO_TEMP_DIR": f"{REPOSITORY / 'app.py'}/uploads"},
        {"GRADIO_TEMP_DIR": str(REPOSITORY / "app.py")},
        {"SPACES_ZERO_GPU": "true"},
    ],
    ids=str,
)
def test_a_variable_that_cannot_be_used_ends_the_start_with_one_sentence(given: dict[str, str]) -> None:
    ended = run([sys.executable, "app.py"], cwd=REPOSITORY, env={**os.environ, **given}, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stdout == ""
    (said,) = (line.removeprefix("error: ") for line in ended.stderr.splitlines())
    assert _is_a_sentence(said.replace(str(REPOSITORY), "")) or said.endswith("requirements-mcp.txt")
    assert next(iter(given)).removeprefix("SPACES_").split("_")[-1].lower() in said.lower().replace("zerogpu", "gpu")


def test_an_example_that_cannot_be_opened_is_left_out_and_named(
    tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = REPOSITORY / "examples" / "camera.jpg"
    (tmp_path / "cut.jpg").write_bytes(sound.read_bytes()[:2000])

    async def offered() -> Any:
        page = app.build_page(
            {"tiny": Predictor(tiny_checkpoint)}, [Example(tmp_path / "cut.jpg", "Cut"), Example(sound, "Sound")]
        )
        (viewer,) = (block for block in page.blocks.values() if getattr(block, "elem_id", "") == "viewer")
        return viewer.value

    assert [each["caption"] for each in finished(offered())] == ["Sound"]
    assert capsys.readouterr().err.startswith("left out: cut.jpg: ")


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Iterator[str]:
    """A page for proxies at /seg on what calls itself a Space, where other proxies and certificates are named."""
    site = small_page(tmp_path_factory.mktemp("behind"), tiny_checkpoint)
    shutil.copytree(REPOSITORY / "studies" / "losses" / "report", site / "studies" / "losses" / "report")
    proxies = {name: "http://127.0.0.1:9" for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY")}
    with running_server(
        tmp_path_factory.mktemp("uploads"),
        site,
        GRADIO_ROOT_PATH="/seg",
        ALL_PROXY="socks5://127.0.0.1:9",
        all_proxy="socks5://127.0.0.1:9",
        NO_PROXY="",
        SSL_CERT_FILE="nothing.pem",
        TMPDIR="/nothing",
        SYSTEM="spaces",
        SPACE_ID="somebody/page",
        **proxies,
    ) as (url, _):
        yield url


@pytest.mark.parametrize("kept", ["", "/seg"], ids=["taken off", "kept"])
def test_the_page_works_behind_a_proxy_that_takes_its_path_off_or_keeps_it(behind: str, kept: str) -> None:
    with Visitor(behind + kept) as one:
        root = one.http.get("/config", headers={"x-forwarded-host": "h.example"}).json()["root"]
        assert root == "http://h.example/seg"
        for path in ("/", "/losses", "/theme.css", "/gradio_api/info", modules.address("viewer.js")):
            assert one.http.get(path).status_code == 200, path
        assert one.http.get("/monitoring").status_code == 404
        assert has_mark(one.show(marked_photo(4))["parts"][0], 4)
        kind, answer = one.call("segment", file(one.upload(marked_photo(4))), *CHOICES)
        assert kind == "complete"
        assert "/seg/gradio_api/file=" in answer[0]["url"]
        got = one.http.get(f"/gradio_api/file={answer[0]['path']}")
        assert has_mark(got.content, 4)
        assert got.headers["cache-control"] == "private, no-store"


def test_the_path_below_a_proxy_leads_to_the_page(behind: str) -> None:
    with Visitor(behind) as one:
        answer = one.http.get("/seg")
        assert (answer.status_code, answer.headers["location"].removeprefix(behind)) == (307, "/seg/")
        assert one.http.get("/segment").status_code == 404


def test_a_photo_that_was_deleted_is_asked_for_again(visitor: Visitor) -> None:
    gone, there = (visitor.upload(marked_photo(mark), name) for mark, name in ((5, "photo.png"), (6, "photo.jpg")))
    os.unlink(gone)
    for name, data in {"segment": CHOICES, "compare": ("parts", None)}.items():
        kind, answer = visitor.call(name, file(gone), *data)
        assert kind == "error" and "deleted ten minutes after they were sent" in answer["error"]
    kind, answer = visitor.call("compare", file(there), "parts", file(gone))
    assert kind == "complete" and "deleted ten minutes after they were sent" in answer[1]["note"]
