"""What visitors do beside choosing one ordinary photo, on windows of any size: it works, or a sentence says why not."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Request, Route, expect

from hierseg.page import payload
from tests.page.driver import (
    PHOTO,
    as_file,
    choose,
    done,
    every_screen,
    held,
    listen_to_the_message,
    pixels,
    ready,
    saved,
    segment,
    send,
    send_several,
    send_truth,
    too_large,
)
from tests.server import marked_photo

VISITED = "small_address"

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


def inferences(page: Page) -> list[str]:
    """What is sent from now on to be segmented."""
    asked: list[str] = []

    def listen(request: Request) -> None:
        if re.search("/(photo|frame)", request.url):
            asked.append(request.url)

    page.on("request", listen)
    return asked


def settle(page: Page) -> None:
    ready(page)
    page.wait_for_load_state("networkidle")


def test_every_photo_that_replaces_another_is_one_inference(page: Page) -> None:
    asked = inferences(page)
    for number in (1, 2, 3):
        with page.expect_request(re.compile("/photo$")):
            send(page, as_file(marked_photo(number), f"{number}.jpg"))
        settle(page)
        assert len(asked) == number
    page.locator("#examples button").first.click()
    settle(page)
    assert len(asked) == 3  # the server keeps what it said of an example


@pytest.mark.parametrize("empty", ["#photo", "#viewer .stage canvas"])
def test_a_photo_dropped_or_pasted_anywhere_is_segmented_once(page: Page, empty: str) -> None:
    asked = inferences(page)
    # With the photo box empty, and over a photo.
    places = [(empty, "drop"), ("#viewer .stage canvas", "drop"), ("footer", "drop"), ("#photo", "drop")]
    for number, (target, kind) in enumerate([*places, ("body", "paste")], 1):
        content = base64.b64encode(marked_photo(number)).decode()
        with page.expect_request(re.compile("/photo$")):
            assert not page.evaluate(BRING, [target, kind, content])
        settle(page)
        assert len(asked) == number


@pytest.mark.parametrize("mirrored", [True, False])
def test_a_picture_of_the_camera_is_a_photo_seen_as_it_was_when_it_was_taken(page: Page, mirrored: bool) -> None:
    page.locator("#viewer .live").click()
    page.locator("#viewer [name=mirror]").set_checked(mirrored)
    page.locator("#viewer .viewer[data-state=ready]").wait_for()
    page.locator("#viewer .shoot").click()
    page.locator("#viewer .viewer:not([data-live])").wait_for()
    settle(page)
    page.locator("#viewer [name=opacity]").fill("0")
    page.locator("#viewer [name=outlines]").uncheck()
    with Image.open(PHOTO) as photo:
        wanted = np.array(photo.convert("RGB").resize((256, 256))).astype(int)
    taken = pixels(page).astype(int)[:, :: -1 if mirrored else 1]
    assert np.abs(taken - wanted).mean() < np.abs(taken[:, ::-1] - wanted).mean() / 2


def test_a_photo_that_comes_while_another_is_at_work_takes_its_place(page: Page, tmp_path: Path) -> None:
    first: list[Route] = []
    page.route(re.compile("/photo$"), lambda route: route.continue_() if first else first.append(route))
    for mark in (1, 2):
        send(page, as_file(marked_photo(mark)))
        page.wait_for_function(f"document.querySelector('.coming').naturalWidth === {32 + mark}")
    settle(page)
    with Image.open(saved(page, "picture", tmp_path)) as image:
        assert image.width == 32 + 2
    first[0].abort()  # the browser has ended it before


def test_a_photo_over_15_mb_is_refused_before_it_is_sent_alone_and_among_others(page: Page, tmp_path: Path) -> None:
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    large = too_large(tmp_path)
    send(page, large)
    expect(page.locator("#viewer .message")).to_have_text("This file is larger than 15 MB.")
    send_several(page, [large, large])
    expect(page.locator("#viewer .message")).to_have_text("large.jpg: This file is larger than 15 MB.")
    assert sent == []
    segment(page, as_file(marked_photo(1)))  # the page goes on


def test_a_picture_that_cannot_be_shown_does_not_end_the_rest(page: Page) -> None:
    answered = 0

    def serve(route: Route) -> None:
        nonlocal answered
        answered += 1
        if answered == 1:
            route.fulfill(body=payload.message({"checkpoints": []}, b"no JPEG"))
        else:
            route.continue_()

    page.route(re.compile("/photo$"), serve)
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

    page.route(re.compile("/frame"), serve)
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
        with page.expect_request(re.compile("/photo$")):
            send(page, tmp_path / "thin.png")
        settle(page)
        box = canvas.bounding_box()
        assert box is not None and min(box["width"], box["height"]) >= 8
        for view in ("slider", "both", "differences", "single"):
            choose(page, "view", view)
            assert canvas.evaluate("canvas => Math.min(canvas.width, canvas.height)") >= 8


def test_without_a_report_of_the_losses_none_is_quoted(page: Page, address: str) -> None:
    assert page.locator(".quote").count() == 0
    assert page.request.get(f"{address}/losses").status == 404


@pytest.mark.parametrize("own", [True, False], ids=["photo", "example"])
def test_what_is_chosen_before_the_modules_have_come_is_segmented(page: Page, own: bool) -> None:
    routes = held(page, "/viewer.js$")
    with page.expect_request(re.compile("/viewer.js$")):
        page.reload()
    if own:
        send(page, PHOTO)
    else:
        page.locator("#examples button").click()
    routes[0].continue_()
    ready(page)  # and an example not as that which the page opens with


def test_a_page_whose_example_cannot_be_segmented_says_what_to_do(page: Page) -> None:
    refused = payload.message({"message": "There is no card."})
    page.route(re.compile("/example/0$"), lambda route: route.fulfill(body=refused))
    page.reload()
    expect(page.locator("#viewer .message")).to_contain_text("Drop a photo of people")
    assert page.locator("#viewer .tree").is_hidden()
    assert page.locator("#viewer .live").is_visible()


def test_an_animation_is_shown_by_its_first_picture_and_says_so(page: Page, tmp_path: Path) -> None:
    with Image.open(PHOTO) as photo:
        small = photo.convert("RGB").resize((256, 256))
    small.save(tmp_path / "moving.webp", save_all=True, append_images=[Image.new("RGB", (256, 256))], duration=100)
    send(page, tmp_path / "moving.webp")
    expect(page.locator("#viewer .message")).to_contain_text("its first picture is shown")


def test_the_viewer_says_that_it_is_at_work_until_the_result_is_there(page: Page) -> None:
    page.evaluate(
        """() => {
          const viewer = document.querySelector("#viewer .viewer");
          window.states = [];
          new MutationObserver(() => window.states.push(viewer.dataset.state))
            .observe(viewer, { attributes: true, attributeFilter: ["data-state"] });
        }"""
    )
    segment(page, PHOTO)
    states = page.evaluate("window.states")  # a layout that settles draws the example once more
    assert set(states[: states.index("working")]) <= {"example"}
    assert set(states[states.index("working") :]) == {"working", "ready"}
    assert states[-1] == "ready"


def test_a_visitor_who_has_to_wait_is_told_the_place_in_the_queue(page: Page) -> None:
    listen_to_the_message(page)
    told = iter([{"busy": True}, {"ahead": 2, "waiting": 5}])

    def serve(route: Route) -> None:
        route.fulfill(body=payload.message(next(told)) + route.fetch().body())

    page.route(re.compile("/photo$"), serve)
    segment(page, PHOTO)
    said = page.evaluate("window.said")
    assert "Too many photos are waiting. Yours is sent again in a moment …" in said
    assert "Others came first: yours is number 2 of 5 in the queue …" in said


def test_a_ground_truth_of_another_photo_gets_a_sentence_beside_the_result(page: Page, tmp_path: Path) -> None:
    np.save(tmp_path / "truth.npy", np.zeros((100, 300), np.uint8))
    segment(page, PHOTO)
    send_truth(page, tmp_path / "truth.npy")
    expect(page.locator("#viewer .message")).to_contain_text("Is it for another photo?")
    assert page.locator("#viewer .viewer[data-state=ready] .stage canvas").is_visible()


def test_a_ground_truth_is_another_request_but_no_other_inference_and_goes_with_its_photo(
    page: Page, address: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "truth.npy", np.zeros((512, 512), np.uint8))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
    segment(page, PHOTO)
    send_truth(page, tmp_path / "truth.npy")
    page.locator("#viewer .truth tbody tr").first.wait_for()
    assert asked == [f"{address}/photo", f"{address}/truth/512/512"]
    page.locator("#examples button").first.click()
    expect(page.locator("#viewer .truth tbody tr")).to_have_count(0)
    expect(page.locator("#ground-truth [name=truth]")).to_have_value("")
