"""The page in its own process, and its memory."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.server import running_server


@dataclass(frozen=True)
class Server:
    """The page on a free local port.

    Attributes:
        address: Its address.
        seconds: Time until it printed its address.
        process: Its process id.
    """

    address: str
    seconds: float
    process: int

    def memory(self) -> tuple[float, float]:
        """Return the resident memory now and at its peak, in megabytes; Linux only."""
        status = Path(f"/proc/{self.process}/status").read_text()
        now, peak = (re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "VmHWM"))
        assert now and peak
        return int(now[1]) / 1024, int(peak[1]) / 1024


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Start the page, and stop it in the end."""
    start = time.perf_counter()
    with TemporaryDirectory() as uploads, running_server(Path(uploads)) as (address, process):
        yield Server(address, time.perf_counter() - start, process.pid)
