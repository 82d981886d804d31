"""The real page on a server and in a browser."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import HANGS, REPOSITORY

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

    from hierseg.network.model import ModelSpec
    from hierseg.predictor import Prediction
    from hierseg.tree import Hierarchy

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


@pytest.fixture(scope="module")
def address(request: pytest.FixtureRequest) -> str:
    """Where the page is that a module's tests visit: the real one, unless `VISITED` names another of the fixtures."""
    return str(request.getfixturevalue(getattr(request.module, "VISITED", "real_address")))


@pytest.fixture(scope="session")
def real_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the real page is served."""
    from tests.server import running_page

    with running_page(tmp_path_factory.mktemp("uploads")) as url:
        yield url


@pytest.fixture(scope="session")
def small_address(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Iterator[str]:
    """Where a page is served whose two networks are tiny and untrained: for what does not depend on what they say."""
    from tests.server import running_page, small_page

    folder = small_page(tmp_path_factory.mktemp("site"), tiny_checkpoint)
    with running_page(tmp_path_factory.mktemp("uploads"), folder) as url:
        yield url


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, tiny_spec: ModelSpec, tree: Hierarchy) -> dict[str, Path]:
    """Three tiny checkpoints by name, which know parts by their brightness and do not agree."""
    from tests.server import tiny_checkpoints

    return tiny_checkpoints(tmp_path_factory.mktemp("tiny"), tiny_spec, tree)


@pytest.fixture(scope="session")
def found(tiny: dict[str, Path]) -> dict[str, Prediction]:
    """What the library finds in the photo with each of the three."""
    from hierseg.predictor import Predictor
    from tests.page.driver import PHOTO

    return {name: Predictor(path).predict(PHOTO) for name, path in tiny.items()}


@pytest.fixture(scope="session")
def predictions() -> dict[str, Prediction]:
    """What the library finds in the photo with each of the real checkpoints."""
    from hierseg.predictor import Predictor
    from tests.page.driver import CARDS, PHOTO

    return {name: Predictor(name).predict(PHOTO) for name in CARDS}


@pytest.fixture(scope="session")
def tiny_address(tmp_path_factory: pytest.TempPathFactory, tiny: dict[str, Path]) -> Iterator[str]:
    """Where a page with the three is served, with a report and a picture for its previews."""
    from tests.page.report import PREVIEW, written
    from tests.server import page_of, running_page

    folder = page_of(tmp_path_factory.mktemp("site"), tiny)
    written(folder / "studies" / "losses" / "report")
    (folder / PREVIEW).parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / PREVIEW, folder / PREVIEW)
    with running_page(tmp_path_factory.mktemp("uploads"), folder) as url:
        yield url


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A Chromium of the machine's, whose camera sees an example photo for ever."""
    from playwright.sync_api import expect, sync_playwright

    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    expect.set_options(timeout=1000 * HANGS)
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


@pytest.fixture(scope="session")
def context(request: pytest.FixtureRequest, browser: Browser) -> Iterator[BrowserContext]:
    """What pages share, so that the second loads from the browser's cache; a desktop unless a test asks for others."""
    width, height, ratio = getattr(request, "param", (1280, 900, 1))
    context = browser.new_context(
        viewport={"width": width, "height": height}, device_scale_factor=ratio, has_touch=ratio > 1
    )
    yield context
    context.close()


@contextlib.contextmanager
def watched(page: Page, address: str) -> Iterator[Page]:
    """Open a page; afterwards: no errors in the console and no request to anywhere else."""
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


@pytest.fixture
def page(context: BrowserContext, address: str) -> Iterator[Page]:
    """The page, open and `watched`."""
    with watched(context.new_page(), address) as page:
        yield page


@pytest.fixture
def viewer(page: Page) -> Page:
    """The page with a photo segmented."""
    from tests.page.driver import PHOTO, segment

    segment(page, PHOTO)
    return page
