"""The live camera, end to end in a real browser: pictures a second, and how much the parts flicker on a still scene.

The camera is a file that Chromium plays: one photo, with noise of its own in each frame as cameras have it.
"""

from __future__ import annotations

import itertools
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Response, sync_playwright

from benchmarks.server import serving
from benchmarks.timing import Row
from hierseg.photo import Photo, open_photo
from hierseg.predictor import Predictor

_SCENE = Path(__file__).resolve().parent.parent / "examples" / "street.jpg"
_CHECKPOINT = "leaf"
_SIZE = (640, 480)
_NOISE = 2.0  # standard deviation, of 255 levels
_SECONDS = 10


def rows(folder: Path) -> list[Row]:
    """Measure with one checkpoint, or return a row that says why not."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        return [Row("the live camera", "not measured: Chromium was not found")]
    frames = _frames(30)
    film = folder / "scene.y4m"
    film.write_bytes(_film(frames))
    flags = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    flags += [f"--use-file-for-fake-video-capture={film}", "--headless", "--no-sandbox"]
    with serving() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{server.address}#level=parts&checkpoint={_CHECKPOINT}")
        page.locator("#viewer .viewer[data-state=example]").wait_for()
        answered: list[float] = []

        def count(response: Response) -> None:
            if "/frame" in response.url:
                answered.append(time.perf_counter())

        page.on("response", count)
        page.locator("#viewer .live").click()
        page.locator("#viewer .rate:not(:empty)").wait_for()
        answered.clear()
        page.wait_for_timeout(1000 * _SECONDS)
        browser.close()
    rate = (len(answered) - 1) / (answered[-1] - answered[0])
    return [
        Row.at_least("live camera, one checkpoint: pictures a second, end to end", rate, 12, "{:.1f}"),
        Row("the same: pixels that change their part from frame to frame on a still scene", f"{_flicker(frames):.2%}"),
    ]


def _frames(number: int) -> list[Photo]:
    """Return frames of a still scene that differ by noise alone, RGB, uint8."""
    random = np.random.default_rng(0)
    scene = cv2.resize(open_photo(_SCENE), _SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
    return [np.clip(scene + random.normal(0, _NOISE, scene.shape), 0, 255).astype(np.uint8) for _ in range(number)]


def _film(frames: list[Photo]) -> bytes:
    """Return a YUV4MPEG2 file of 30 frames a second, which Chromium takes for a camera."""
    width, height = _SIZE
    planes = (cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes() for frame in frames)
    return b"".join(
        [f"YUV4MPEG2 W{width} H{height} F30:1 Ip A1:1 C420jpeg\n".encode(), *(b"FRAME\n" + each for each in planes)]
    )


def _flicker(frames: list[Photo]) -> float:
    """Return the share of the person's pixels, in either of two frames, that are another part in the next frame."""
    predictor = Predictor(_CHECKPOINT).using(zoom=None, input_size=320)  # as a frame is looked at
    background = predictor.card.hierarchy.background
    pairs = list(itertools.pairwise(predictor.predict(frame).labels for frame in frames))
    person = sum(int(((one != background) | (other != background)).sum()) for one, other in pairs)
    return sum(int((one != other).sum()) for one, other in pairs) / person
