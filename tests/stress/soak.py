"""The real page under load on this machine, with tiny networks: every answer is checked.

STRESS_REQUESTS says how many requests the soak has; 2,000 unless it is set.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from hierseg.page.app import MOST_THREADS
from tests import HANGS
from tests.server import Visitor, file, has_mark, marked_photo, running_server, small_page

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read as Linux shows it"),
    pytest.mark.timeout(3600),
]

REQUESTS = int(os.environ.get("STRESS_REQUESTS", "2000"))
WARM_UP = 200  # requests after which memory must stay where it is
CLIENTS = 64
KEPT, SWEPT = 100, 3  # seconds that files are kept here and between two sweeps, in place of ten minutes and one
CHOICES = ("ftm", "parts", 0.0)  # an overlay of no opacity is the photo itself


@dataclass(frozen=True)
class Use:
    """What a process holds."""

    memory: int  # bytes
    threads: int
    files: int  # and sockets
    children: int


@dataclass(frozen=True)
class Server:
    """The page, the process that serves it, and where its uploads are."""

    url: str
    process: Popen[str]
    uploads: Path

    def use(self) -> Use:
        """Return what the process holds now."""
        own = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (own / "status").read_text().splitlines())
        children = "".join(path.read_text() for path in own.glob("task/*/children")).split()
        return Use(
            int(status["VmRSS"].split()[0]) * 1024, int(status["Threads"]), len(os.listdir(own / "fd")), len(children)
        )

    def files(self) -> list[Path]:
        """Return the uploads and results that are there."""
        return [Path(folder, name) for folder, _, names in os.walk(self.uploads) for name in names]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Iterator[Server]:
    """The page with a schedule that a test can wait for."""
    site = small_page(tmp_path_factory.mktemp("site"), tiny_checkpoint)
    module = site / "hierseg" / "page" / "cleaning.py"
    schedule = "KEPT_SECONDS = 600.0\nSWEPT_SECONDS = 60.0"
    code = module.read_text(encoding="utf-8")
    assert schedule in code
    module.write_text(code.replace(schedule, f"KEPT_SECONDS = {KEPT}.0\nSWEPT_SECONDS = {SWEPT}.0"), encoding="utf-8")
    uploads = tmp_path_factory.mktemp("uploads")
    with running_server(uploads, site) as (url, process):
        yield Server(url, process, uploads)


def _until(holds: Callable[[], bool], server: Server) -> None:
    """Wait until something holds; the end of the server, or the time limit of the test, ends what never does."""
    while not holds():
        with contextlib.suppress(TimeoutExpired):
            pytest.fail(f"The server has ended with {server.process.wait(0.2)}.")


# Good requests: each is answered with the very photo that was sent


def _shown(one: Visitor, mark: int, way: str = "photo") -> bool:
    value: dict[str, Any] = {"busy": True}
    while value.get("busy"):  # as the viewer does
        value = one.show(marked_photo(mark), way)
    return has_mark(value["parts"][0], mark)


def _frame(one: Visitor, mark: int) -> bool:
    return _shown(one, mark, "frame")


def _segmented(one: Visitor, mark: int) -> bool:
    kind, answer = one.call("segment", file(one.upload(marked_photo(mark))), *CHOICES)
    return _busy(answer) if kind == "error" else has_mark(one.result(answer), mark)


def _compared(one: Visitor, mark: int) -> bool:
    kind, answer = one.call("compare", file(one.upload(marked_photo(mark))), "parts", None)
    return _busy(answer) if kind == "error" else set(answer[1]["checkpoints"]) == {"bce", "ftm"}


def _busy(answer: Any) -> bool:
    return str(answer["error"]).startswith("Too many photos are waiting.")


def _opened(one: Visitor, mark: int) -> bool:
    return "gradio" in one.http.get("/").text and one.http.get("/theme.css").status_code == 200


# Bad requests: each is answered with a sentence, if anybody is there to hear it


def _is_a_sentence(words: object) -> bool:
    return isinstance(words, str) and words.endswith(".") and "Traceback" not in words and "/" not in words[:-2]


def _no_photo(one: Visitor, mark: int) -> bool:
    value = one.show(b"words %d" % mark)
    return bool(value.get("busy")) or "not a photo" in value["message"]


def _foreign(path: str) -> Callable[[Visitor, int], bool]:
    def foreign(one: Visitor, mark: int) -> bool:
        kind, answer = one.call("segment", file(path), *CHOICES)
        return kind == "error" and answer["error"].startswith("Only files uploaded")

    return foreign


def _wrong_values(one: Visitor, mark: int) -> bool:
    kind, answer = one.call("segment", mark, None, "parts")
    return kind == "error" and isinstance(answer["error"], str) and answer["error"].endswith(".")


def _wrong_body(one: Visitor, mark: int) -> bool:
    answer = one.http.post(
        "/gradio_api/queue/join", content=b"[" * (mark % 100), headers={"content-type": "application/json"}
    )
    return answer.status_code == 422 and _is_a_sentence(answer.json()["detail"])


def _too_large(one: Visitor, mark: int) -> bool:
    answer = one.http.post(
        "/gradio_api/queue/join", content=b" " * 100_000, headers={"content-type": "application/json"}
    )
    return answer.status_code == 413 and _is_a_sentence(answer.json()["detail"])


def _nowhere(one: Visitor, mark: int) -> bool:
    return one.http.get(f"/gradio_api/deep_link?session_hash={mark}").status_code == 404


def _half_a_photo(one: Visitor, mark: int) -> bool:
    value = one.show(marked_photo(mark)[:300])
    return bool(value.get("busy")) or _is_a_sentence(value["message"])


def _closed_tab(one: Visitor, mark: int) -> bool:
    one.join("segment", file(one.upload(marked_photo(mark))), *CHOICES)
    with one.http.stream("POST", "/photo", content=marked_photo(mark)):
        return True  # nobody listens to the answers


def _left_halfway(one: Visitor, mark: int) -> bool:
    with _connected(str(one.http.base_url)) as connection:
        connection.sendall((_start_of_upload if mark % 2 else _start_of_photo)(1_000_000) + bytes(mark))
    return True


def _start_of_photo(length: int) -> bytes:
    return b"POST /photo HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % length


def _start_of_upload(length: int) -> bytes:
    return (
        b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        b"Content-Length: %d\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n' % length
    )


def _connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=HANGS)


GOOD: tuple[Callable[[Visitor, int], bool], ...] = (_shown, _segmented, _shown, _compared, _frame, _shown, _opened)
BAD: tuple[Callable[[Visitor, int], bool], ...] = (
    _no_photo,
    _foreign("/etc/passwd"),
    _foreign("http://127.0.0.1:9/a.jpg"),
    _wrong_values,
    _wrong_body,
    _too_large,
    _nowhere,
    _half_a_photo,
    _closed_tab,
    _left_halfway,
)


def _ask(server: Server, number: int) -> tuple[str, bool]:
    """Make one request as a new visitor; return what it was, and whether its answer was right."""
    kinds, turn = (GOOD, number // 3 * 2 + number % 3) if number % 3 else (BAD, number // 3)
    kind = kinds[turn % len(kinds)]
    with Visitor(server.url) as one:
        while True:
            try:
                return kind.__qualname__, kind(one, number % 1000)
            except httpx.HTTPStatusError as error:
                assert error.response.status_code == 503  # the queue is full, which is said, and one comes again
                assert _is_a_sentence(error.response.json()["detail"])


def test_two_thousand_requests_are_answered_rightly_and_leave_nothing_behind(server: Server) -> None:
    numbers = itertools.count()
    asked: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    before = server.use()

    def ask_many(count: int) -> Use:
        with ThreadPoolExecutor(CLIENTS) as pool:
            for kind, right in pool.map(lambda number: _ask(server, number), itertools.islice(numbers, count)):
                asked[kind] += 1
                wrong[kind] += not right
        with Visitor(server.url) as one:
            _until(lambda: one.http.get("/gradio_api/queue/status").json()["queue_size"] == 0, server)
            assert _shown(one, 0)
        _until(lambda: server.use().files <= before.files + 5, server)  # sockets close when their clients have gone
        return server.use()

    uses = [ask_many(WARM_UP)]
    print(f"{WARM_UP} requests: {uses[0]}", flush=True)
    while sum(asked.values()) < REQUESTS:
        uses.append(ask_many(min(WARM_UP, REQUESTS - sum(asked.values()))))
        print(f"{sum(asked.values())} requests: {uses[-1]}", flush=True)
    assert +wrong == Counter()
    assert set(asked) == {kind.__qualname__ for kind in (*GOOD, *BAD)}
    assert uses[-1].memory < 1.03 * uses[0].memory, uses
    assert uses[-1].threads <= before.threads + MOST_THREADS + 2, uses  # some that the libraries keep
    assert uses[-1].children == before.children == 0
    _until(lambda: not server.files(), server)  # also what arrived by half, and in no field of the right name


def test_slow_clients_keep_nobody_from_being_served(server: Server) -> None:
    before = server.use()
    slow = [_connected(server.url) for _ in range(200)]
    try:
        for number, connection in enumerate(slow):
            starts = (b"GET / HTTP/1.1\r\nHost: a\r\nX: ", _start_of_upload(1_000_000), _start_of_photo(1_000_000))
            connection.sendall(starts[number % 3])
        for mark in range(20):
            with Visitor(server.url) as one:
                assert _shown(one, mark)
            for connection in slow:
                connection.sendall(b"a")
    finally:
        for connection in slow:
            connection.close()
    _until(lambda: server.use().files <= before.files + 5, server)


def test_thousands_of_tiny_requests_are_answered_and_cost_no_memory(server: Server) -> None:
    expected = {
        "/robots.txt": 200,
        "/gradio_api/app_id": 200,
        "/gradio_api/queue/status": 200,
        "/nothing": 404,
        "/gradio_api/file=/etc/passwd": 403,
    }

    def right(number: int) -> bool:
        path = list(expected)[number % len(expected)]
        with contextlib.closing(http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=HANGS)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status == expected[path]

    with ThreadPoolExecutor(CLIENTS) as pool:
        # 64 at once need a larger heap than one; it has its size after many.
        assert all(pool.map(right, range(REQUESTS)))
        before = server.use()
        assert all(pool.map(right, range(5 * REQUESTS // 2)))
        # What is garbage and what is free go with the next sweep.
        _until(lambda: server.use().memory < 1.03 * before.memory, server)
    with Visitor(server.url) as one:
        assert _shown(one, 1)
