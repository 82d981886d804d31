"""Start the real page in its own process, as on a user's machine, and visit it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
from PIL import Image

from hierseg.inference import Inference
from hierseg.network import checkpoint
from hierseg.network.model import ModelSpec
from hierseg.tree import Hierarchy
from tests.networks import banded
from train.export import export

REPOSITORY = Path(__file__).resolve().parent.parent
HANGS = 600  # seconds that only end what hangs; what works on a slow or busy machine takes as long as it takes
Result = TypeVar("Result")


TITLES = {"bce": "BCE", "ftm": "Focal-Tree-Min", "leaf": "Softmax over leaves"}
IOUS = {"bce": 0.6, "leaf": 0.7}  # what tiny checkpoints record, so that the best is neither the first nor the last


def tiny_checkpoints(folder: Path, spec: ModelSpec, tree: Hierarchy) -> dict[str, Path]:
    """Write and export three checkpoints of networks that say different things; return them by name."""
    checkpoints = {name: folder / f"{name}.safetensors" for name in TITLES}
    for turn, (name, path) in enumerate(checkpoints.items()):
        levels = dict.fromkeys(tree.level_names, IOUS[name]) if name in IOUS else {}
        record = {"figures": {"dataset_iou": {"levels": levels}}}
        card = checkpoint.Card(spec, tree, TITLES[name], Inference(threshold=0.55), record)
        checkpoint.save(path, banded(spec, turn), card)
        export(path)
    return checkpoints


def small_page(folder: Path, checkpoint: Path) -> Path:
    """Make a folder with the real app.py and, as bce and ftm, a tiny checkpoint that takes no time to run."""
    page_of(folder, {"bce": checkpoint})
    for path in list((folder / "checkpoints").iterdir()):
        shutil.copy(path, path.with_stem("ftm"))
    return folder


def page_of(folder: Path, checkpoints: Mapping[str, Path]) -> Path:
    """Make a folder with the real app.py that serves some checkpoints, by name."""
    shutil.copytree(REPOSITORY / "hierseg", folder / "hierseg", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("app.py", "examples/camera.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    (folder / "checkpoints").mkdir()
    for name, path in checkpoints.items():
        target = folder / "checkpoints" / f"{name}.safetensors"
        shutil.copy(path, target)
        exported = path.with_suffix(".onnx")  # as the real ones, it does without PyTorch
        if exported.is_file():
            shutil.copy(exported, target.with_suffix(".onnx"))
        else:
            export(target)
    return folder


def finished(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, in a thread of its own: a browser that is open has a loop running in the main one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


@contextlib.contextmanager
def running_page(
    cache: Path, folder: Path = REPOSITORY, python: str = sys.executable, **variables: str
) -> Iterator[str]:
    """Serve a folder's app.py on a free local port, with uploads below `cache`; yields its address."""
    with running_server(cache, folder, python, **variables) as (url, _):
        yield url


@contextlib.contextmanager
def running_server(
    cache: Path, folder: Path = REPOSITORY, python: str = sys.executable, **variables: str
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Do as `running_page`; yields the address and the process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_TEMP_DIR": str(cache),
        "PYTHONUNBUFFERED": "1",
        **variables,
    }
    process = subprocess.Popen(
        [python, "app.py"], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said: list[str] = []
    # Unread, what the server writes of bad requests would fill the pipe and stop it.
    reader = threading.Thread(target=said.extend, args=(process.stdout,))
    try:
        for line in process.stdout:  # ends when the process does, so this cannot wait for ever
            said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                reader.start()
                yield found[0], process
                break
        else:
            raise AssertionError("the page did not start:\n" + "".join(said))
    finally:
        if process.poll() is not None:
            print(f"The server had ended, with {process.returncode}:", *said[-50:], sep="\n")
        process.terminate()
        process.wait()
        if reader.is_alive():
            reader.join()
        process.stdout.close()


class Visitor:
    """Requests of a browser and a program to the page, in plain HTTP, so that wrong requests are possible too."""

    def __init__(self, url: str) -> None:
        self.session = uuid.uuid4().hex
        self.http = httpx.Client(base_url=url, timeout=HANGS, verify=False)  # no TLS here, and no time for certificates
        self._url = url

    def __enter__(self) -> Visitor:
        """Open the page."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.http.close()

    def show(self, content: bytes, way: str = "photo") -> dict[str, Any]:
        """Send a photo, or "frame" or "truth/HEIGHT/WIDTH", as the viewer does, and return what is said of it last."""
        answer = self.http.post(f"/{way}", content=content)
        answer.raise_for_status()
        return messages(answer.content)[-1]

    def upload(self, content: bytes, name: str = "photo.jpg") -> str:
        """Upload a file and return its path on the server."""
        answer = self.http.post("/gradio_api/upload", files={"files": (name, content)})
        answer.raise_for_status()
        return str(answer.json()[0])

    def join(self, name: str, *data: Any) -> str:
        """Put a call into Gradio's queue, as its client does, and return its number."""
        body = {"data": data, "session_hash": self.session, "fn_index": _functions(self._url)[name]}
        answer = self.http.post("/gradio_api/queue/join", json=body)
        answer.raise_for_status()
        return str(answer.json()["event_id"])

    def hear(self) -> dict[str, Any]:
        """Return what the queue says last to this session."""
        heard: dict[str, Any] = {}
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: ") and "close_stream" not in line:
                    heard = json.loads(line.removeprefix("data: "))
        return heard

    def call(self, name: str, *data: Any) -> tuple[str, Any]:
        """Call a named function, as a program does; return "complete" or "error", and the answer."""
        answer = self.http.post(f"/gradio_api/call/{name}", json={"data": data})
        answer.raise_for_status()
        said = self.http.get(f"/gradio_api/call/{name}/{answer.json()['event_id']}").text
        kind, content = re.findall(r"event: (\w+)\ndata: (.*)\n\n", said)[-1]
        return kind, json.loads(content)

    def result(self, answer: Any) -> bytes:
        """Fetch the first file of an answer of a named function."""
        return self.http.get(f"/gradio_api/file={answer[0]['path']}").content


@functools.cache
def _functions(url: str) -> dict[str, int]:
    """Return a page's numbers for its functions."""
    config = httpx.get(f"{url}/config", timeout=HANGS).json()
    return {each["api_name"]: each["id"] for each in config["dependencies"] if each["backend_fn"]}


def messages(answer: bytes) -> list[dict[str, Any]]:
    """Return the messages that `payload.message` made, each with its bytes as `parts`."""
    stream, found = io.BytesIO(answer), []
    while head := stream.read(4):
        value = json.loads(stream.read(int.from_bytes(head, "big")))
        found.append({**value, "parts": [stream.read(size) for size in value["parts"]]})
    return found


def file(path: Any, **others: Any) -> dict[str, Any]:
    """Return how Gradio names a file."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}} | others


def marked_photo(mark: int) -> bytes:
    """Return a small JPEG with a size and colour that differ for all marks from 0 to 999."""
    photo = Image.new("RGB", (32 + mark % 40, 32 + mark // 40), (mark * 37 % 256, mark * 91 % 256, mark * 53 % 256))
    photo.paste((255, 255, 255), (8, 8, 16, 24))  # what shows nothing is not worked on
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def has_mark(content: bytes, mark: int) -> bool:
    """Tell whether a picture is the marked one, apart from JPEG's changes."""
    with Image.open(io.BytesIO(content)) as image, Image.open(io.BytesIO(marked_photo(mark))) as expected:
        if image.size != expected.size:
            return False
        pixels = [np.asarray(each.convert("RGB"), np.float64) for each in (image, expected)]
    return bool(np.abs(pixels[0] - pixels[1]).mean() < 8)


def url_of(content: bytes) -> str:
    """Return a photo as a data URL."""
    return "data:image/jpeg;base64," + base64.b64encode(content).decode()
