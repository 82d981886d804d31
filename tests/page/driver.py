"""Drives the page as a visitor does, and tells what is on the screen."""

from __future__ import annotations

import base64
import io
import mimetypes
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import FilePayload, FloatRect, Locator, Page, Route

from hierseg.network.checkpoint import available, default_folder, read_card
from hierseg.page import payload
from hierseg.predictor import best_first
from tests import REPOSITORY

PHOTO = REPOSITORY / "examples" / "astronaut.jpg"  # 512 by 512: shown as it is, so that nothing is resized
CARDS = {name: read_card(path) for name, path in available(default_folder()).items()}
BEST, SECOND, *_ = best_first(CARDS)  # shown first, and compared where nobody chose others
# For what depends on the layout: width, height, and pixels of the device to one of the page.
every_screen = pytest.mark.parametrize(
    "context", [(1280, 900, 1), (390, 844, 3)], indirect=True, ids=["desktop", "phone"], scope="session"
)
phone = pytest.mark.parametrize("context", [(390, 844, 3)], indirect=True, ids=["phone"], scope="session")


def ready(page: Page) -> None:
    """Wait until a photo is segmented."""
    page.locator("#viewer .viewer[data-state=ready]").wait_for()


def as_file(content: bytes, name: str = "photo.jpg") -> FilePayload:
    return {"name": name, "mimeType": mimetypes.guess_type(name)[0] or "", "buffer": content}


def too_large(folder: Path) -> Path:
    """Write a file of a byte more than a photo may have."""
    path = folder / "large.jpg"
    path.write_bytes(bytes(15_000_001))
    return path


def send(page: Page, photo: Path | FilePayload) -> None:
    """Choose a photo in the photo box."""
    page.locator("#photo input[type=file]").first.set_input_files(photo)


def segment(page: Page, photo: Path | FilePayload) -> None:
    """Choose a photo in the photo box and wait for its result."""
    send(page, photo)
    ready(page)


def refused(page: Page) -> None:
    """Choose what is no photo, and wait until that is said."""
    send(page, as_file(b"these are words"))
    page.locator("#viewer .viewer[data-state=refused]").wait_for()


def empty(page: Page) -> None:
    """Open the page again, without an example."""
    page.route(re.compile("/example/0$"), lambda route: route.fulfill(body=payload.message({"message": ""})))
    page.reload()
    page.locator("#viewer .message:not(:empty)").wait_for()
    page.unroute_all()


def send_several(page: Page, photos: Sequence[Path | FilePayload]) -> None:
    """Choose several photos."""
    page.locator("#photo [name=photo]").set_input_files(photos)  # type: ignore[arg-type]


def done(page: Page) -> None:
    """Wait until several photos, or a clip, are segmented."""
    page.locator("#viewer .save-all").wait_for()


def choose(page: Page, kind: str, value: str) -> None:
    page.locator(f"#viewer label:has(input[name=hierseg-{kind}][value={value}])").click()
    page.locator(f"#viewer .stage canvas[data-{kind}={value}]").wait_for()


def compare(page: Page, first: str, second: str) -> None:
    for kind, value in (("first", first), ("second", second)):
        page.locator(f"#viewer select[name=hierseg-{kind}]").select_option(value)
    page.locator(f"#viewer .stage canvas[data-first={first}][data-second={second}]").wait_for()


def undecoded(page: Page, on: bool = True) -> None:
    """Switch to raw scores without decoding, or back."""
    page.locator("#viewer [name=raw]").set_checked(on)
    page.locator("#viewer .viewer[data-raw]").wait_for(state="visible" if on else "hidden")


def slide(page: Page, name: str, value: int) -> None:
    page.locator(f"#viewer [name={name}]").fill(str(value))


def place_of(canvas: Locator) -> FloatRect:
    """Where the canvas is on the screen, scrolled to."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    return box


def hover(page: Page, column: int, row: int) -> None:
    """Point at the middle of a pixel of the photo."""
    box = place_of(page.locator("#viewer .stage canvas"))
    page.mouse.move(box["x"] + (column + 0.5) / 512 * box["width"], box["y"] + (row + 0.5) / 512 * box["height"])


def picture(page: Page) -> str:
    return str(page.evaluate("document.querySelector('#viewer .stage canvas').toDataURL()"))


def pixels(page: Page) -> npt.NDArray[np.uint8]:
    """The canvas without its read-out, RGB."""
    data = page.evaluate("document.querySelector('#viewer .stage canvas').toDataURL('image/png')")
    with Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))) as image:
        return np.array(image.convert("RGB").resize((256, 256)))


def spoken(page: Page) -> list[tuple[str, list[tuple[str, int]]]]:
    """What the read-out says: a title and a path of (node, score in hundredths) for each checkpoint."""
    result = []
    for line in page.locator("#viewer .readout > div").all():
        said = line.locator(".step").all_inner_texts()
        steps = [re.fullmatch(r"([a-z ]+)\s+(1\.0|\.\d\d)[ ▲\s]*", step) for step in said]
        result.append((line.inner_text(), [(step[1], round(100 * float(step[2]))) for step in steps if step]))
    return result


def open_saving(page: Page) -> None:
    """Open what saves."""
    closed = page.locator("#viewer .save:not([open]) summary")
    if closed.count():
        closed.click()


def downloaded(page: Page, button: str, folder: Path) -> Path:
    """Click a button of the viewer and keep the file that comes of it."""
    with page.expect_download() as download:
        page.locator(f"#viewer {button}").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def saved(page: Page, kind: str, folder: Path) -> Path:
    open_saving(page)
    return downloaded(page, f"[data-save={kind}]", folder)


def send_truth(page: Page, path: Path) -> None:
    """Choose a ground truth."""
    page.locator("#ground-truth summary").click()
    page.locator("#ground-truth [name=truth]").set_input_files(path)


def held(page: Page, address: str) -> list[Route]:
    """Hold what is sent there from now on; it goes on when a test says so."""
    routes: list[Route] = []
    page.route(re.compile(address), lambda route: routes.append(route))
    return routes


def mask(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.mode == "P"
        return np.array(image)


# Films a second and a half of an example photo that moves in from the left.
FILM = """
async (url) => {
  const photo = await createImageBitmap(await (await fetch(url)).blob());
  const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 320 });
  const context = canvas.getContext("2d");
  const recorder = new MediaRecorder(canvas.captureStream(), { mimeType: "video/webm" });
  const parts = [];
  recorder.ondataavailable = (event) => parts.push(event.data);
  const ended = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.start();
  for (let step = 0; step <= 30; step++) {
    context.fillRect(0, 0, 320, 320);
    context.drawImage(photo, 12 * step - 360, 0, 320, 320);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  recorder.stop();
  await ended;
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
"""


def send_clip(page: Page) -> None:
    url = "data:image/jpeg;base64," + base64.b64encode(PHOTO.read_bytes()).decode()
    clip = as_file(base64.b64decode(page.evaluate(FILM, url)), "clip.webm")
    page.locator("#photo [name=photo]").set_input_files(clip)


def listen_to_the_message(page: Page) -> None:
    """Keep what the viewer says from now on in `window.said`."""
    page.evaluate(
        """() => {
          window.said = [];
          const message = document.querySelector("#viewer .message");
          new MutationObserver(() => window.said.push(message.textContent)).observe(message, { childList: true });
        }"""
    )
