"""How long the page takes to start, and how much memory it needs."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from gradio_client import Client, handle_file

from benchmarks.photo import photo_of
from benchmarks.server import serving
from benchmarks.timing import Row

_IMPORTS = {
    "only torch and gradio": "import torch, gradio",
    "only gradio": "import gradio",
    "the page's modules": "import app",
}


def rows(rounds: int) -> list[Row]:
    """Measure, each import in its own process."""
    seconds = {name: _import_seconds(statement, max(3, rounds // 4)) for name, statement in _IMPORTS.items()}
    floor = seconds["only torch and gradio"]
    found = [Row(f"importing {name}", f"{value:.1f} s, {value / floor:.2f}x") for name, value in seconds.items()]
    with serving() as server, tempfile.TemporaryDirectory() as folder:
        asked = time.perf_counter()
        urllib.request.urlopen(server.address, timeout=60).read()
        found += [
            Row("from the process's start to the first page", f"{server.seconds + time.perf_counter() - asked:.1f} s"),
            Row("memory at rest", f"{server.memory()[0]:.0f} MB"),
        ]
        client = Client(server.address, verbose=False, download_files=str(folder))
        after: dict[int, float] = {}
        for number in range(1, 201):
            file = Path(folder) / "photo.jpg"
            file.write_bytes(photo_of((0.2, 0.5, 1)[number % 3]))
            client.predict(handle_file(file), "ftm", "parts", 0.5, api_name="/segment")
            after[number] = server.memory()[0]
        found.append(Row.at_most("memory after 200 photos, relative to after 20", after[200] / after[20], 1.1))
        file.write_bytes(photo_of(12))
        client.predict(handle_file(file), "ftm", "parts", 0.5, api_name="/segment")
        found.append(Row.at_most("peak memory, with a photo of 12 MP", server.memory()[1], 700, "{:.0f} MB"))
    return found


def _import_seconds(statement: str, rounds: int) -> float:
    program = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    root = Path(__file__).resolve().parent.parent
    taken = []
    for _ in range(rounds + 1):
        done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
        taken.append(float(done.stdout))
    return statistics.median(taken[1:])
