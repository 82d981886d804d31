"""Shared fixtures: the default tree, a tiny network's checkpoint, and real photos where they are at hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser, Page, expect, sync_playwright

from hierseg.network import checkpoint
from hierseg.network.model import ModelSpec, build
from hierseg.tree import Hierarchy
from tests.server import HANGS, running_page

# Deadlines are absolute times, which a slow or busy machine breaks; examples are the same on every run.
settings.register_profile(
    "hierseg", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, max_examples=50
)
settings.load_profile("hierseg")
expect.set_options(timeout=1000 * HANGS)

CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
REPOSITORY = Path(__file__).resolve().parent.parent
REAL_DATA = REPOSITORY.parent / "shared" / "pascal-part"


@pytest.fixture(scope="session")
def tree() -> Hierarchy:
    """The default tree."""
    return Hierarchy.default()


@pytest.fixture(scope="session")
def tiny_spec() -> ModelSpec:
    """A network small enough to train and run within a second."""
    return ModelSpec(encoder="tu-test_efficientnet", input_size=64, options={"decoder_channels": [8, 8, 8, 8, 8]})


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_spec: ModelSpec, tree: Hierarchy) -> Path:
    """A checkpoint of the tiny network with random weights."""
    path = tmp_path_factory.mktemp("checkpoints") / "tiny.safetensors"
    checkpoint.save(path, build(tiny_spec), checkpoint.Card(tiny_spec, tree, title="Tiny"))
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The real data folder; tests that need it are skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip("the PASCAL-Person-Part photos are not on this machine (they may not be redistributed)")
    return REAL_DATA


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the real page is served."""
    with running_page(tmp_path_factory.mktemp("uploads")) as url:
        yield url


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A Chromium of the machine's, whose camera sees an example photo for ever."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    film = tmp_path_factory.mktemp("camera") / "film.mjpeg"
    film.write_bytes((REPOSITORY / "examples" / "astronaut.jpg").read_bytes() * 2)
    camera = [
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=[*CHROMIUM_FLAGS, *camera])
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, 900, 1), (390, 844, 3)], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Page]:
    """An open page; afterwards: no errors in the console and no request to anywhere else."""
    width, height, ratio = request.param
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=ratio, has_touch=ratio > 1)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    own = (address, "data:", "blob:")
    page.on("request", lambda asked: None if asked.url.startswith(own) else complaints.append(f"asked {asked.url}"))
    page.set_default_timeout(1000 * HANGS)
    page.goto(address)
    page.locator("#photo input[type=file]").first.wait_for(state="attached")
    page.locator("#viewer .viewer[data-state=example]").wait_for()
    yield page
    page.close()
    assert complaints == []
