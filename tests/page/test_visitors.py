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

from tests.page.driver import PHOTO, as_file, choose, done, every_screen, pixels, ready, send, send_several, too_large
from tests.server import marked_photo, running_page, small_page

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
    ready(page)
    page.wait_for_load_state("networkidle")


def test_every_photo_that_replaces_another_is_one_inference(page: Page) -> None:
    asked = inferences(page)
    for number in (1, 2, 3):
        with page.expect_request(re.compile("queue/join")):
            send(page, as_file(marked_photo(number), f"{number}.jpg"))
        settle(page)
        assert len(asked) == number
    page.locator("#examples button").first.click()
    page.wait_for_function("document.querySelector('#photo img').src.includes('camera')")
    settle(page)
    assert len(asked) == 3 + 2  # which example it is, and the inference


@pytest.mark.parametrize("empty", ["#photo", "#viewer .stage canvas"])
def test_a_photo_dropped_or_pasted_anywhere_is_segmented_once(page: Page, empty: str) -> None:
    asked = inferences(page)
    # With the photo box empty, and over a photo.
    places = [(empty, "drop"), ("#viewer .stage canvas", "drop"), ("footer", "drop"), ("#photo", "drop")]
    for number, (target, kind) in enumerate([*places, ("body", "paste")], 1):
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


def test_a_photo_over_15_mb_is_refused_before_it_is_sent_alone_and_among_others(page: Page, tmp_path: Path) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    large, good = too_large(tmp_path), tmp_path / "good.jpg"
    good.write_bytes(marked_photo(1))
    send(page, large)
    expect(page.locator("#viewer .message")).to_have_text("This photo is larger than 15 MB.")
    send_several(page, [large])
    expect(page.locator("#viewer .message")).to_have_text("large.jpg: This photo is larger than 15 MB.")
    assert sent == []
    send_several(page, [large, good])
    done(page)
    expect(page.locator("#viewer .progress")).to_have_text("1 of 2 photos segmented")
    expect(page.locator("#viewer .failures li")).to_have_text("large.jpg: This photo is larger than 15 MB.")
    send(page, good)  # the page goes on
    ready(page)


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
    send_several(page, [as_file(marked_photo(mark), f"{mark}.jpg") for mark in (1, 2)])
    done(page)
    expect(page.locator("#viewer .progress")).to_have_text("1 of 2 photos segmented")
    expect(page.locator("#viewer .failures li")).to_have_text(f"1.jpg: {LOST}")


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
    send_several(page, [as_file(marked_photo(mark), f"{mark}.jpg") for mark in (1, 2)])
    done(page)
    expect(page.locator("#viewer .progress")).to_have_text("1 of 2 photos segmented")
    expect(page.locator("#viewer .failures li")).to_have_text("1.jpg: This picture cannot be shown.")


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


@every_screen
def test_the_thinnest_photo_is_shown(page: Page, tmp_path: Path) -> None:
    canvas = page.locator("#viewer .stage canvas")
    for size in ((9000, 3), (3, 9000)):
        Image.effect_noise(size, 80).convert("RGB").save(tmp_path / "thin.png")
        with page.expect_request(re.compile("queue/join")):
            send(page, tmp_path / "thin.png")
        settle(page)
        box = canvas.bounding_box()
        assert box is not None and min(box["width"], box["height"]) >= 8
        for view in ("slider", "both", "differences", "breaks", "single"):
            choose(page, "view", view)
            assert canvas.evaluate("canvas => Math.min(canvas.width, canvas.height)") >= 8


def test_the_picture_has_most_of_the_viewer_and_the_viewer_most_of_the_window(page: Page) -> None:
    for width in (360, 640, 768, 900, 1023, 1280, 1920, 2560):
        height = 450 if width == 640 else 3 * width  # 640 by 450 is 1280 by 900 at 200 %; else the height is no limit
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function(
            """tall => {
              const [viewer, stage, canvas] = ["#viewer", "#viewer .stage", "#viewer .stage canvas"].map((part) =>
                document.querySelector(part).getBoundingClientRect());
              return stage.width > 0 && stage.width >= 0.6 * viewer.width && viewer.width >= 0.6 * window.innerWidth
                && (tall ? canvas.width >= stage.width - 2 : canvas.height >= 0.6 * window.innerHeight);
            }""",
            arg=width != 640,
        )
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), width


def test_without_a_report_of_the_losses_none_is_quoted(page: Page, address: str) -> None:
    assert page.locator(".quote").count() == 0
    assert page.request.get(f"{address}/losses").status == 404


def test_the_page_says_what_it_does_in_the_fields_words(page: Page) -> None:
    expect(page.locator("#heading h1")).to_have_text("Segment people into a hierarchy of body parts")
    assert not re.search(r"taken apart|tak\w+ .{0,20} apart", page.content(), re.IGNORECASE)
