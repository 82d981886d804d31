"""The page in a process of its own, with its memory."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path


class Server:
    """The page on a free local port, from `with` to its end.

    Attributes:
        address: Where it is served.
        seconds: How long it took to say so.
    """

    def __enter__(self) -> Server:
        """Start it."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._folder = tempfile.TemporaryDirectory()
        environment = {
            "GRADIO_SERVER_PORT": str(port),
            "GRADIO_SERVER_NAME": "127.0.0.1",
            "GRADIO_TEMP_DIR": self._folder.name,
            "PYTHONUNBUFFERED": "1",
        }
        start = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "app.py"],
            cwd=Path(__file__).resolve().parent.parent,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            raise RuntimeError("the page did not start")
        self.address, self.seconds = found[0], time.perf_counter() - start
        threading.Thread(target=self._process.stdout.read, daemon=True).start()  # or a full pipe would stop it
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(timeout=60)
        self._folder.cleanup()

    def memory(self) -> tuple[float, float]:
        """Return the resident memory now and at its peak, in megabytes; Linux only."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        now, peak = (re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "VmHWM"))
        assert now and peak
        return int(now[1]) / 1024, int(peak[1]) / 1024
