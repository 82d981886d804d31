"""The real page, started as a process: through its API and, where a Chromium is installed, in a browser."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from hierseg.image import open_photo
from hierseg.predictor import Predictor
from hierseg.visualize import overlay
from tests.server import REPOSITORY, running_page

pytestmark = pytest.mark.xdist_group("page")  # one server for all of them

PHOTO = REPOSITORY / "examples" / "astronaut.jpg"
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
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_page(tmp_path_factory.mktemp("uploads")) as url:
        yield url


@pytest.fixture(scope="module")
def client(address: str, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(address, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


@pytest.mark.parametrize("checkpoint", ["bce", "ftm"])
@pytest.mark.parametrize("level", ["body", "upper-lower", "parts"])
def test_api_gives_what_the_library_gives(client: Client, checkpoint: str, level: str) -> None:
    picture, mask, areas = client.predict(handle_file(str(PHOTO)), checkpoint, level, 0.5, api_name="/segment")
    photo = open_photo(PHOTO)
    prediction = Predictor(checkpoint).predict(photo)
    labels = prediction.at_level(level)
    with Image.open(mask) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image), labels)
    with Image.open(picture) as image:
        # JPEG changes colours a little; a missing overlay would be as far off as the bare photo is.
        expected = overlay(photo, labels, prediction.hierarchy, 0.5).astype(int)
        error = np.abs(np.array(image.convert("RGB")) - expected).mean()
        assert error < 0.6 * np.abs(photo - expected).mean()
    assert areas["areas"]["head"] == pytest.approx(prediction.summary()["areas"]["head"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("nothing", "parts", 0.5), "There is no checkpoint 'nothing'"),
        (("ftm", "toes", 0.5), "There is no level 'toes'"),
        (("ftm", "parts", 7), "Opacity must be 0 to 1"),
    ],
)
def test_api_refuses_wrong_choices_with_a_sentence(client: Client, arguments: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(AppError, match=sentence):
        client.predict(handle_file(str(PHOTO)), *arguments, api_name="/segment")


def test_api_refuses_what_is_not_a_photo_with_a_sentence(client: Client, tmp_path: Path) -> None:
    impostor = tmp_path / "photo.jpg"
    impostor.write_text("these are words")
    with pytest.raises(AppError, match="not a photo"):
        client.predict(handle_file(str(impostor)), "ftm", "parts", 0.5, api_name="/segment")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, 900), (390, 844)], ids=["desktop", "phone"])
def page(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Page]:
    """An open page; afterwards: no errors in the console and no request to anywhere else."""
    width, height = request.param
    page = browser.new_page(viewport={"width": width, "height": height})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    own = (address, "data:", "blob:")
    page.on("request", lambda asked: None if asked.url.startswith(own) else complaints.append(f"asked {asked.url}"))
    page.goto(address)
    page.locator("#photo input[type=file]").first.wait_for(state="attached")
    yield page
    page.close()
    assert complaints == []


DROP = """
([content, name]) => {
  const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
  const target = document.querySelector("#photo button:has(input[type=file])");
  for (const kind of ["dragenter", "dragover", "drop"])
    target.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
}
"""


def drop(page: Page, content: bytes, name: str) -> None:
    page.evaluate(DROP, [base64.b64encode(content).decode(), name])


def picture(page: Page) -> str:
    return str(page.evaluate("document.querySelector('#viewer canvas').toDataURL()"))


def choose(page: Page, kind: str, value: str) -> None:
    page.locator(f"#viewer label:has(input[name=hierseg-{kind}][value={value}])").click()
    page.locator(f"#viewer canvas[data-{kind}={value}]").wait_for()


def test_dropped_photo_shows_another_overlay_for_each_level_and_checkpoint(page: Page) -> None:
    drop(page, PHOTO.read_bytes(), "photo.jpg")
    page.locator("#viewer .viewer[data-state=ready]").wait_for()
    seen = {}
    for checkpoint in ("bce", "ftm"):
        choose(page, "checkpoint", checkpoint)
        for level in ("body", "upper-lower", "parts"):
            choose(page, "level", level)
            seen[checkpoint, level] = picture(page)
    assert len(set(seen.values())) == 6
    assert page.locator("#viewer .legend li").count() == 6
    page.locator("#viewer [name=opacity]").fill("0")
    bare = picture(page)
    assert bare not in seen.values()
    choose(page, "level", "body")
    assert picture(page) == bare


def test_levels_and_opacity_are_answered_without_the_server(page: Page) -> None:
    drop(page, PHOTO.read_bytes(), "photo.jpg")
    page.locator("#viewer .viewer[data-state=ready]").wait_for()
    page.wait_for_load_state("networkidle")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for level in ("body", "upper-lower", "parts"):
        choose(page, "level", level)
    page.locator("#viewer [name=opacity]").fill("30")
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == []


def test_second_photo_replaces_the_first_and_keeps_the_choices(page: Page) -> None:
    page.locator("#photo input[type=file]").first.set_input_files(PHOTO)
    page.locator("#viewer .viewer[data-state=ready]").wait_for()
    choose(page, "level", "body")
    before = picture(page)
    page.get_by_label("Remove Image").click()
    page.locator("#viewer .viewer[data-state=empty]").wait_for()
    page.locator("#photo input[type=file]").first.set_input_files(REPOSITORY / "examples" / "grace_hopper.jpg")
    page.locator("#viewer .viewer[data-state=ready]").wait_for()
    assert page.locator("#viewer canvas[data-level=body]").count() == 1
    assert picture(page) != before


def test_example_shows_its_result_in_one_click(page: Page) -> None:
    page.locator("#examples button").first.click()
    page.locator("#viewer .viewer[data-state=ready]").wait_for()
    assert page.locator("#viewer canvas").is_visible()


def test_what_is_not_a_photo_gets_a_plain_sentence(page: Page) -> None:
    drop(page, b"these are words", "photo.jpg")
    page.locator("#viewer .viewer[data-state=refused]").wait_for()
    assert "not a photo" in page.locator("#viewer .message").inner_text()


def test_result_is_beside_the_photo_on_a_desktop_and_below_it_on_a_phone(page: Page) -> None:
    photo, viewer = page.locator("#photo").bounding_box(), page.locator("#viewer").bounding_box()
    assert photo is not None and viewer is not None and page.viewport_size is not None
    if page.viewport_size["width"] > 640:
        assert viewer["x"] >= photo["x"] + photo["width"]
    else:
        assert viewer["y"] >= photo["y"] + photo["height"]
        examples = page.locator("#examples").bounding_box()
        assert examples is not None and examples["y"] >= viewer["y"] + viewer["height"]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
