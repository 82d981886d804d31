"""Makes the pictures of the page in `docs/`: `python -m tests.pictures`. The film of the README, and every state.

They are taken by the tests' own driver from the example photos, which are in the public domain.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests import REPOSITORY
from tests.page.conftest import CHROMIUM_FLAGS
from tests.page.driver import (
    BEST,
    as_file,
    choose,
    done,
    empty,
    place_of,
    refused,
    saved,
    segment,
    send_clip,
    send_several,
    send_truth,
    slide,
    undecoded,
)
from tests.server import running_page

DOCS = REPOSITORY / "docs"
EXAMPLES = REPOSITORY / "examples"
STREET = EXAMPLES / "street.jpg"
SCREENS = {"desktop": (1280, 860, 1), "phone": (390, 844, 1)}


def point(page: Page, across: float, down: float) -> None:
    box = place_of(page.locator("#viewer .stage canvas"))
    page.mouse.move(box["x"] + across * box["width"], box["y"] + down * box["height"])


def parts(page: Page) -> None:
    segment(page, STREET)
    point(page, 0.35, 0.42)


def view(name: str) -> Callable[[Page], None]:
    def show(page: Page) -> None:
        segment(page, STREET)
        choose(page, "view", name)

    return show


def raw(page: Page) -> None:
    view("both")(page)
    undecoded(page)


def nobody(page: Page) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (640, 420), (70, 110, 80)).save(buffer, "PNG")
    segment(page, as_file(buffer.getvalue(), "lawn.png"))


def truth(page: Page) -> None:
    view("both")(page)
    with tempfile.TemporaryDirectory() as folder:
        shutil.unpack_archive(saved(page, "masks", Path(folder)), folder)
        send_truth(page, Path(folder, BEST, "mask-parts.png"))
        page.locator("#viewer .truth tbody tr").first.wait_for()


def photos(page: Page) -> None:
    send_several(page, [EXAMPLES / name for name in ("astronaut.jpg", "README.md", "camera.jpg")])
    done(page)


def clip(page: Page) -> None:
    send_clip(page)
    done(page)


STATES: dict[str, Callable[[Page], None]] = {
    "example": lambda page: page.locator("#viewer .viewer[data-state=example]").wait_for(),
    "empty": empty,
    "parts": parts,
    "slider": view("slider"),
    "side-by-side": view("both"),
    "differences": view("differences"),
    "undecoded": raw,
    "ground-truth": truth,
    "refused": refused,
    "nobody": nobody,
    "photos": photos,
    "clip": clip,
}


def take_states(browser: Browser, url: str) -> None:
    (DOCS / "states").mkdir(parents=True, exist_ok=True)
    for screen, (width, height, ratio) in SCREENS.items():
        for name, reach in STATES.items():
            page = fresh(browser, url, width, height, ratio)
            reach(page)
            page.wait_for_load_state("networkidle")
            target = DOCS / "states" / f"{name}-{screen}.jpg"
            page.screenshot(path=target, type="jpeg", quality=70, full_page=True)
            page.close()


def fresh(browser: Browser, url: str, width: int, height: int, ratio: int) -> Page:
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=ratio)
    page.set_default_timeout(120_000)
    page.goto(url)
    page.locator("#photo input[type=file]").first.wait_for(state="attached")
    page.locator("#viewer .live").wait_for()
    return page


def scenes(page: Page) -> Iterator[tuple[Image.Image, int]]:
    """Yield the film's pictures and how long each stands, in milliseconds."""

    def now(milliseconds: int) -> tuple[Image.Image, int]:
        page.evaluate("scrollTo(0, 0)")  # a slider below the window's edge scrolls the page when it is moved
        with Image.open(io.BytesIO(page.screenshot(type="png"))) as picture:
            return picture.convert("RGB").resize((960, 645), Image.Resampling.LANCZOS), milliseconds

    segment(page, STREET)
    for level in ("parts", "body", "upper-lower", "parts"):
        choose(page, "level", level)
        yield now(900)
    for across, down in ((0.34, 0.32), (0.34, 0.42), (0.35, 0.6), (0.72, 0.4)):
        point(page, across, down)
        yield now(700)
    page.mouse.move(5, 5)
    choose(page, "view", "slider")
    for split in (80, 65, 50, 35, 20, 35, 50):
        slide(page, "split", split)
        yield now(220)
    choose(page, "view", "differences")
    yield now(1500)
    choose(page, "view", "both")
    undecoded(page)
    yield now(2500)


def take_film(browser: Browser, url: str) -> None:
    page = fresh(browser, url, 1280, 860, 1)
    pictures, durations = zip(*scenes(page), strict=True)
    page.close()
    pictures[0].save(
        DOCS / "page.webp", save_all=True, append_images=pictures[1:], duration=durations, loop=0, quality=78, method=6
    )


if __name__ == "__main__":
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    with (
        tempfile.TemporaryDirectory() as uploads,
        running_page(Path(uploads)) as address,
        sync_playwright() as playwright,
    ):
        chromium = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS)
        take_film(chromium, address)
        take_states(chromium, address)
        chromium.close()
