"""What visitors do beside choosing one ordinary photo, on windows of any size: it works, or a sentence says why not."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Request, Route, expect

from tests.server import marked_photo, running_page, small_page
from tests.test_viewer import PHOTO, pixels

pytestmark = pytest.mark.xdist_group("page")

LOST = "The server cannot be reached. Try again in a moment."
# Drops or pastes files on an element; tells whether the browser would have left the page for them.
BRING = """
([target, kind, content]) => {
  const bytes = Uint8Array.from(atob(content), (byte) => byte.charCodeAt(0));
  const brought = new DataTransfer();
  brought.items.add(new File([bytes], "photo.jpg", { type: "image/jpeg" }));
  const options = { bubbles: true, cancelable: true, dataTransfer: brought, clipboardData: brought };
  const events =
    kind === "paste"
      ? [new ClipboardEvent("paste", options)]
      : ["dragenter", "dragover", "drop"].map((name) => new DragEvent(name, options));
  for (const event of events) document.querySelector(target).dispatchEvent(event);
  return kind === "drop" && !events.at(-1).defaultPrevented;
}
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Iterator[str]:
    folder = small_page(tmp_path_factory.mktemp("site"), tiny_checkpoint)
    with running_page(tmp_path_factory.mktemp("uploads"), folder) as url:
        yield url


def inferences(page: Page) -> list[str]:
    """What is put into the queue from now on; clicks on an example are in it too, which run no network."""
    asked: list[str] = []

    def listen(request: Request) -> None:
        if "queue/join" in request.url:
            asked.append(request.post_data or "")

    page.on("request", listen)
    return asked


def settle(page: Page) -> None:
    page.locator("#viewer .viewer[data-state=ready]").wait_for()
    page.wait_for_load_state("networkidle")


def send(page: Page, *contents: bytes) -> None:
    files = [
        {"name": f"{number}.jpg", "mimeType": "image/jpeg", "buffer": each} for number, each in enumerate(contents)
    ]
    page.locator("#viewer [type=file][name=photos]").set_input_files(files=files)  # type: ignore[arg-type]


def test_every_photo_that_replaces_another_is_one_inference(page: Page) -> None:
    asked = inferences(page)
    for number in (1, 2, 3):
        photo = {"name": f"{number}.jpg", "mimeType": "image/jpeg", "buffer": marked_photo(number)}
        with page.expect_request(re.compile("queue/join")):
            page.locator("#photo input[type=file]").first.set_input_files(files=[photo])  # type: ignore[list-item]
        settle(page)
        assert len(asked) == number
    page.locator("#examples button").first.click()
    page.wait_for_function("document.querySelector('#photo img').src.includes('camera')")
    settle(page)
    assert len(asked) == 3 + 2  # which example it is, and the inference


@pytest.mark.parametrize(
    ("target", "kind"),
    [("#viewer .stage canvas", "drop"), ("footer", "drop"), ("#photo", "drop"), ("body", "paste")],
)
def test_a_photo_dropped_or_pasted_anywhere_is_segmented_once(page: Page, target: str, kind: str) -> None:
    asked = inferences(page)
    for number in (1, 2):  # with the photo box empty, and over a photo
        content = base64.b64encode(marked_photo(number)).decode()
        with page.expect_request(re.compile("queue/join")):
            assert not page.evaluate(BRING, [target, kind, content])
        settle(page)
        assert len(asked) == number


def test_a_photo_taken_in_the_photo_box_is_not_mirrored(page: Page) -> None:
    page.locator("#photo [aria-label='Capture from camera']").click()
    page.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#photo video')?.videoWidth > 0")
    page.locator("#photo [aria-label='capture photo']").click()
    settle(page)
    page.locator("#viewer [name=opacity]").fill("0")
    page.locator("#viewer [name=outlines]").uncheck()
    with Image.open(PHOTO) as photo:
        wanted = np.array(photo.convert("RGB").resize((256, 256))).astype(int)
    taken = pixels(page).astype(int)
    assert np.abs(taken - wanted).mean() < np.abs(taken[:, ::-1] - wanted).mean() / 2


@pytest.mark.parametrize("size", [15_000_001, 15_500_000, 16_000_000])
def test_a_photo_over_15_mb_is_refused_before_it_is_sent_alone_and_among_others(page: Page, size: int) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    photo = {"name": "0.jpg", "mimeType": "image/jpeg", "buffer": bytes(size)}
    page.locator("#photo input[type=file]").first.set_input_files(files=[photo])  # type: ignore[list-item]
    expect(page.locator("#viewer .message")).to_have_text("This photo is larger than 15 MB.")
    send(page, bytes(size))
    expect(page.locator("#viewer .message")).to_have_text("0.jpg: This photo is larger than 15 MB.")
    assert sent == []
    send(page, bytes(size), marked_photo(1))
    page.locator("#viewer .save-all").wait_for()
    expect(page.locator("#viewer .progress")).to_have_text("1 of 2 photos segmented")
    expect(page.locator("#viewer .failures li")).to_have_text("0.jpg: This photo is larger than 15 MB.")


def test_what_the_browser_throws_for_a_lost_server_is_said_in_a_sentence_and_the_rest_is_done(page: Page) -> None:
    page.evaluate(
        """() => {
          const sent = window.fetch;
          let calls = 0;
          window.fetch = (url, options) => {
            if (!String(url?.url ?? url).includes("component_server") || ++calls > 4) return sent(url, options);
            throw new TypeError("Cannot read properties of undefined (reading 'data')");
          };
        }"""
    )
    send(page, marked_photo(1), marked_photo(2))
    page.locator("#viewer .save-all").wait_for()
    expect(page.locator("#viewer .progress")).to_have_text("1 of 2 photos segmented")
    expect(page.locator("#viewer .failures li")).to_have_text(f"0.jpg: {LOST}")


def test_a_picture_that_cannot_be_shown_does_not_end_the_rest(page: Page) -> None:
    answered = 0

    def serve(route: Route) -> None:
        nonlocal answered
        answered += 1
        if answered == 1:
            route.fulfill(status=200, json={"photo": "data:image/jpeg;base64,AAAA", "checkpoints": []})
        else:
            route.continue_()

    page.route(re.compile("component_server"), serve)
    send(page, marked_photo(1), marked_photo(2))
    page.locator("#viewer .save-all").wait_for()
    expect(page.locator("#viewer .progress")).to_have_text("1 of 2 photos segmented")
    expect(page.locator("#viewer .failures li")).to_have_text("0.jpg: This picture cannot be shown.")


def test_the_live_camera_bears_a_server_that_is_lost_for_a_moment_and_says_so_when_it_stays_lost(page: Page) -> None:
    answers = iter([True, False, True])
    lost = False

    def serve(route: Route) -> None:
        if lost or not next(answers, True):
            route.fulfill(status=200, body="no server is there")
        else:
            route.continue_()

    page.route(re.compile("component_server"), serve)
    page.locator("#viewer .live").click()
    expect(page.locator("#viewer .rate")).to_contain_text("pictures a second")
    lost = True
    expect(page.locator("#viewer .message")).to_have_text(LOST)
    lost = False
    expect(page.locator("#viewer .live")).to_have_text("Live camera")
    page.locator("#viewer .live").click()  # it goes on
    settled = page.locator("#viewer .viewer[data-state=ready]")
    settled.wait_for()
    page.locator("#viewer .live").click()


@pytest.mark.parametrize("size", [(9000, 3), (3, 9000)])
def test_the_thinnest_photo_is_shown(page: Page, tmp_path: Path, size: tuple[int, int]) -> None:
    Image.effect_noise(size, 80).convert("RGB").save(tmp_path / "thin.png")
    page.locator("#photo input[type=file]").first.set_input_files(tmp_path / "thin.png")
    page.locator("#viewer .viewer[data-state=ready]").wait_for()
    box = page.locator("#viewer .stage canvas").bounding_box()
    assert box is not None and min(box["width"], box["height"]) >= 8
    for view in ("slider", "both", "differences", "breaks"):
        page.locator(f"#viewer label:has(input[value={view}])").click()
        page.locator(f"#viewer .stage canvas[data-view={view}]").wait_for()
    assert page.locator("#viewer .stage canvas").evaluate("canvas => Math.min(canvas.width, canvas.height)") >= 8


@pytest.mark.parametrize("width", [360, 640, 768, 900, 1023, 1280, 1920, 2560])
def test_the_picture_has_most_of_the_viewer_and_the_viewer_most_of_the_window(page: Page, width: int) -> None:
    height = 450 if width == 640 else 3 * width  # 640 by 450 is 1280 by 900 at 200 %; else the height is no limit
    page.set_viewport_size({"width": width, "height": height})
    measure = """() => ["#viewer", "#viewer .stage", "#viewer .stage canvas"].map((part) => {
      const { width, height } = document.querySelector(part).getBoundingClientRect();
      return [width, height];
    })"""
    page.wait_for_function(f"() => {{ const [, stage] = ({measure})(); return stage[0] > 0; }}")
    page.wait_for_function(
        f"""tall => {{
          const [viewer, stage, canvas] = ({measure})();
          return stage[0] >= 0.6 * viewer[0] && viewer[0] >= 0.6 * window.innerWidth
            && (tall ? canvas[0] >= stage[0] - 2 : canvas[1] >= 0.6 * window.innerHeight);
        }}""",
        arg=width != 640,
        timeout=60_000,
    )
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_page_says_what_it_does_in_the_fields_words(page: Page) -> None:
    expect(page.locator("#heading h1")).to_have_text("Segment people into a hierarchy of body parts")
    assert not re.search(r"taken apart|tak\w+ .{0,20} apart", page.content(), re.IGNORECASE)
