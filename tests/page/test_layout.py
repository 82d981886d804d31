"""How the page is laid out on windows of any size, and the ways in: the picture is what it is about."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import FloatRect, Page, Request, expect

from tests.heic import QUADRANTS, heic
from tests.page.driver import (
    PHOTO,
    as_file,
    choose,
    held,
    listen_to_the_message,
    open_saving,
    phone,
    picture,
    ready,
    refused,
    segment,
    send,
    undecoded,
)
from tests.server import marked_photo

VISITED = "tiny_address"

narrow = pytest.mark.parametrize("context", [(360, 780, 3)], indirect=True, ids=["phone"], scope="session")
OVERFLOWS = "document.documentElement.scrollWidth > window.innerWidth"


def box(page: Page, part: str) -> FloatRect:
    """Where a part is in the window."""
    found = page.locator(f"#viewer {part}").first.bounding_box()
    assert found is not None
    return found


def bottom(page: Page, part: str) -> float:
    found = box(page, part)
    return found["y"] + found["height"]


def top_of(page: Page, part: str) -> tuple[float, float]:
    found = box(page, part)
    return found["x"], found["y"]


def test_the_picture_has_most_of_the_viewer_and_the_viewer_nearly_all_of_the_window(page: Page) -> None:
    for width in (360, 640, 768, 900, 1000, 1280, 1920, 2560):
        height = 450 if width == 640 else 3 * width  # 640 by 450 is 1280 by 900 at 200 %; else the height is no limit
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function(
            """tall => {
              const [viewer, stage, canvas] = [".viewer", ".stage", ".stage canvas"].map((part) =>
                document.querySelector(`#viewer ${part}`).getBoundingClientRect());
              const share = viewer.width < 900 ? 1 : 0.6; // above the tree, or beside it
              return stage.width > 0 && stage.width >= share * viewer.width && viewer.width >= 0.94 * window.innerWidth
                && Math.abs(canvas.left + canvas.right - stage.left - stage.right) <= 2
                && (tall ? canvas.width >= stage.width - 2 : canvas.height >= 0.6 * window.innerHeight);
            }""",
            arg=width != 640,
        )
        assert not page.evaluate(OVERFLOWS), width


@pytest.mark.parametrize("size", [(1000, 800), (1280, 800), (1920, 1080), (2560, 1300)], ids=str)
def test_the_picture_and_the_bar_above_it_fit_the_first_screen_of_a_desktop(page: Page, size: tuple[int, int]) -> None:
    width, height = size
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_function(
        "() => document.querySelector('#viewer .stage').getBoundingClientRect().bottom <= window.innerHeight"
    )
    assert box(page, ".bar")["y"] >= 0 and bottom(page, ".bar") <= box(page, ".stage")["y"]
    assert box(page, ".stage canvas")["height"] >= 0.65 * height  # the story is told above it
    assert box(page, ".examples")["x"] >= box(page, ".stage")["x"] + box(page, ".stage")["width"]


@pytest.mark.parametrize("context", [(640, 450, 2)], indirect=True, ids=["1280 by 900 at 200 %"], scope="session")
def test_a_page_at_twice_its_size_has_everything_and_scrolls_one_way(page: Page) -> None:
    segment(page, as_file(marked_photo(1)))
    for view in ("single", "slider", "both", "differences"):
        choose(page, "view", view)
        assert not page.evaluate(OVERFLOWS), view
    for part in (".choose", ".stage canvas", ".tree", ".settings", ".save"):
        page.locator(f"#viewer {part}").scroll_into_view_if_needed()
        place = box(page, part)
        assert place["x"] >= 0 and place["x"] + place["width"] <= 640


@narrow
def test_a_phone_shows_the_result_first_and_scrolls_there_when_a_photo_comes(page: Page, tmp_path: Path) -> None:
    assert page.evaluate("window.scrollY") == 0
    page.locator("#viewer .story .skip").click()  # it has the bar's place while it is told
    assert bottom(page, ".bar") - box(page, ".bar")["y"] < 780 / 3
    assert bottom(page, ".stage") <= box(page, ".examples")["y"] < box(page, ".tree")["y"]
    tall = tmp_path / "tall.png"
    Image.effect_noise((200, 300), 80).save(tall)
    for bring in (lambda: segment(page, tall), lambda: page.locator("#examples button").click()):
        page.locator("footer").scroll_into_view_if_needed()
        bring()
        page.wait_for_function(
            """() => {
              const [bar, stage] = [".bar", ".stage"].map((part) =>
                document.querySelector(`#viewer ${part}`).getBoundingClientRect());
              return bar.top >= 0 && stage.bottom <= window.innerHeight;
            }"""
        )
        ready(page)
    assert not page.evaluate(OVERFLOWS)


@narrow
def test_many_examples_are_a_strip_that_scrolls_by_itself(page: Page) -> None:
    page.evaluate(
        """() => {
          const [strip, one] = ["#examples", "#examples button"].map((part) => document.querySelector(part));
          strip.append(...Array.from({ length: 11 }, () => one.cloneNode(true)));
        }"""
    )
    assert page.locator("#examples").evaluate("strip => strip.scrollWidth > strip.clientWidth")
    assert box(page, ".examples")["height"] < 150
    assert not page.evaluate(OVERFLOWS)


def test_a_photo_on_its_way_is_in_view_at_the_size_of_its_result_with_what_happens_to_it(page: Page) -> None:
    listen_to_the_message(page)
    choose(page, "level", "body")
    routes = held(page, "/photo$")
    for view in ("single", "both"):
        choose(page, "view", view)
        before = top_of(page, ".side")
        with page.expect_request(re.compile("/photo$")):
            send(page, PHOTO)
        page.locator("#viewer .coming[src]").wait_for()
        expect(page.locator("#viewer .message")).to_have_text("Sending the photo …")
        assert page.locator("#viewer .moving").is_visible()
        assert page.locator("#viewer .stage canvas").is_hidden()
        assert page.locator("#viewer .tree .share").first.is_hidden()  # the figures are of the photo before
        assert top_of(page, ".side") == before
        coming, stage = box(page, ".coming"), box(page, ".stage")
        routes.pop().continue_()
        ready(page)
        assert box(page, ".stage") == pytest.approx(stage, abs=1) and top_of(page, ".side") == before
        assert box(page, ".stage canvas") == pytest.approx(coming, abs=1)
        assert page.locator("#viewer .coming").is_hidden() and page.locator("#viewer .moving").is_hidden()
    said = page.evaluate("window.said")
    assert said.index("Sending the photo …") < said.index("Segmenting the photo …")


def test_of_a_photo_that_the_browser_cannot_show_the_last_picture_stays_until_its_result_is_there(page: Page) -> None:
    before, stage = picture(page), box(page, ".stage")
    with page.expect_request(re.compile("/photo$")):
        routes = held(page, "/photo$")
        send(page, as_file(heic(QUADRANTS), "photo.heic"))
    page.locator("#viewer .viewer[data-state=working]").wait_for()
    assert page.locator("#viewer .stage canvas").is_visible()
    assert picture(page) == before and box(page, ".stage") == stage
    routes[0].continue_()
    ready(page)
    assert picture(page) != before


def test_the_photo_box_becomes_a_thumbnail_of_the_visitors_photo(page: Page) -> None:
    choose_button = page.locator("#photo .choose")
    expect(choose_button).to_have_text("Choose a photo")
    assert page.locator("#photo .thumb").is_hidden()
    segment(page, PHOTO)
    expect(choose_button).to_have_text("Another photo")
    seen = page.locator("#photo .thumb").evaluate(
        "thumb => new Set(thumb.getContext('2d').getImageData(0, 0, thumb.width, thumb.height).data).size"
    )
    assert seen > 50
    page.locator("#examples button").click()  # this is not the visitor's
    expect(choose_button).to_have_text("Choose a photo")
    assert page.locator("#examples [aria-current]").count() == 1
    assert page.locator("#photo .thumb").is_hidden()


@phone
def test_the_ways_to_bring_a_photo_are_in_one_row_on_a_phone_also_after_one(page: Page) -> None:
    for bring in (lambda: None, lambda: segment(page, PHOTO)):
        bring()
        assert len({box(page, way)["y"] for way in (".choose", ".take", ".live")}) == 1


def test_what_opens_for_a_ground_truth_moves_no_button_aside(page: Page) -> None:
    ways = (".choose", ".live", ".compare summary")
    before = {way: box(page, way)["x"] for way in ways}
    page.locator("#ground-truth summary").click()
    expect(page.locator("#ground-truth label")).to_be_visible()
    assert {way: box(page, way)["x"] for way in ways} == before
    assert bottom(page, "#ground-truth label") <= box(page, ".bar")["y"]
    assert bottom(page, ".invitation") <= box(page, "#ground-truth label")["y"]


def test_a_dragged_file_is_awaited_on_the_picture(page: Page) -> None:
    page.evaluate(
        """() => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File(["photo"], "photo.jpg", { type: "image/jpeg" }));
          for (const kind of ["dragover", "dragleave", "dragover"])
            document.body.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer }));
        }"""
    )
    expect(page.locator("#viewer .stage")).to_have_css("outline-style", "dashed")


def test_a_camera_that_is_stopped_before_its_first_frame_leaves_an_invitation(page: Page) -> None:
    held(page, "/frame")
    with page.expect_request(re.compile("/frame")):
        page.locator("#viewer .live").click()
    expect(page.locator("#viewer .message")).to_have_text("Starting the camera …")
    page.locator("#viewer .live").click()
    expect(page.locator("#viewer .message")).to_contain_text("Drop a photo of people")
    expect(page.locator("#viewer .live")).to_have_text("Live camera")


def test_frames_are_asked_only_of_the_checkpoints_on_view_and_the_last_of_all(page: Page) -> None:
    asked: list[list[str]] = []

    def listen(request: Request) -> None:
        if "/frame" in request.url:
            asked.append(parse_qs(urlsplit(request.url).query).get("checkpoint", []))

    def asked_of(*names: str) -> None:
        with page.expect_request(lambda request: "/frame" in request.url and asked[-1] == list(names)):
            pass

    page.on("request", listen)
    page.locator("#viewer .live").click()
    ready(page)
    asked_of("leaf")
    page.locator("#viewer label:has([name=hierseg-checkpoint][value=ftm])").click()
    asked_of("ftm")
    page.locator("#viewer .stage canvas[data-checkpoint=ftm]").wait_for()
    page.locator("#viewer label:has([name=hierseg-view][value=both])").click()
    asked_of("leaf", "ftm")
    page.locator("#viewer .stage canvas[data-view=both]").wait_for()
    with page.expect_request(lambda request: "/frame" in request.url and asked[-1] == []):
        page.locator("#viewer .live").click()
    choose(page, "view", "single")
    for name in ("bce", "leaf", "ftm"):
        choose(page, "checkpoint", name)
    assert all(len(names) == 1 for names in asked[: asked.index(["leaf", "ftm"])])


def test_what_does_not_act_in_a_view_is_not_offered_there(page: Page) -> None:
    laid_over = {"opacity", "outlines", "names", "tick"}
    acting = {
        "single": {*laid_over, "backgrounds", "subject", "cutout", "mask", "svg", "coco"},
        "slider": {*laid_over, "backgrounds", "split"},
        "both": {*laid_over, "backgrounds"},
        "differences": set(),
    }
    controls = {
        **{name: f"#viewer [name={name}]" for name in ("opacity", "outlines", "names", "split", "subject")},
        **{kind: f"#viewer [data-save={kind}]" for kind in ("cutout", "mask", "svg", "coco")},
        "tick": "#viewer .tree [data-node=head] input",
        "backgrounds": "#viewer .backgrounds",
    }
    open_saving(page)
    for view, expected in acting.items():
        choose(page, "view", view)
        offered = {name for name, control in controls.items() if page.locator(control).is_visible()}
        assert offered == expected, view
        page.locator("#viewer .tree [data-node=head]").click(force=True)  # what hides a part where its tick is seen
        can_reset = page.locator("#viewer .reset")
        if "tick" not in expected:
            expect(can_reset).to_be_hidden()
            continue
        can_reset.click()
        page.locator("#viewer label:has([name=hierseg-background][value=blur])").click()
        expect(page.locator(controls["subject"])).to_be_visible()
        for name in ("tick", "names", "opacity"):
            expect(page.locator(controls[name])).to_be_hidden()
        can_reset.click()
    choose(page, "view", "single")
    choose(page, "background", "grey")
    undecoded(page)  # raw scores are laid over it
    expect(page.locator(controls["backgrounds"])).to_be_hidden()
    expect(page.locator(controls["opacity"])).to_be_visible()


def test_no_figures_stand_beside_an_error(page: Page) -> None:
    segment(page, PHOTO)
    choose(page, "view", "differences")
    page.locator("#viewer .stage canvas").focus()
    page.keyboard.press("ArrowUp")
    parts = (".caption", ".readout", ".tree", ".bar", ".save", ".stage canvas")
    for part in parts:
        assert page.locator(f"#viewer {part}").first.is_visible(), part
    refused(page)
    expect(page.locator("#viewer .message")).to_contain_text("not a photo")
    for part in (*parts, ".compare summary"):
        assert page.locator(f"#viewer {part}").first.is_hidden(), part
    assert page.locator("#photo .choose").is_visible() and page.locator("#examples button").is_visible()
