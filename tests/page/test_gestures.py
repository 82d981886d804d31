"""Zoom, pan, pinch and full screen in a real browser. What is under the pointer must stay what the read-out says."""

from __future__ import annotations

import base64
import io
import re
import time

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from hierseg.tree import Hierarchy
from tests import REPOSITORY
from tests.page.driver import PHOTO, choose, every_screen, hover, phone, picture, place_of, segment, slide

VISITED = "small_address"

BESIDE = 6  # pixels of the page between two panels


# The page remembers where the mouse is, and counts the clicks that the canvas hears.
TRACED = """() => {
  window.clicks = 0;
  document.addEventListener("pointermove", (event) => { window.mouse = [event.clientX, event.clientY]; }, true);
  document.querySelector("#viewer .stage canvas").addEventListener("click", () => window.clicks++);
}"""


@pytest.fixture
def page(page: Page) -> Page:
    """The page with a photo that has no colours; the example's story would go on by itself."""
    page.emulate_media(reduced_motion="reduce")  # or it would still be scrolling to the picture
    segment(page, REPOSITORY / "examples" / "camera.jpg")
    choose(page, "level", "parts")
    page.evaluate(TRACED)
    return page


def canvas_of(page: Page) -> Locator:
    return page.locator("#viewer .stage canvas")


def drawn(page: Page) -> npt.NDArray[np.uint8]:
    """Return all pixels of the canvas, RGB."""
    with Image.open(io.BytesIO(base64.b64decode(picture(page).split(",")[1]))) as image:
        return np.array(image.convert("RGB"))


def zoom_of(page: Page) -> float:
    return float(canvas_of(page).get_attribute("data-zoom") or 0)


def middle(page: Page) -> tuple[float, float]:
    box = place_of(canvas_of(page))
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def read_at(page: Page, x: float, y: float) -> str:
    """Return what is read out at a place of the screen, to which the mouse moves from elsewhere."""
    page.mouse.move(x + 60, y + 60)
    page.mouse.move(x, y)
    return page.locator("#viewer .readout").inner_text()


def turn_wheel(page: Page, *, notches: int, key: str = "Control") -> None:
    page.keyboard.down(key)
    for _ in range(abs(notches)):
        page.mouse.wheel(0, -100 if notches > 0 else 100)
    page.keyboard.up(key)


def drag(page: Page, across: float, down: float) -> None:
    """Drag from where the mouse is."""
    x, y = page.evaluate("window.mouse")
    page.mouse.down()
    page.mouse.move(x + across / 2, y + down / 2)
    page.mouse.move(x + across, y + down)
    page.mouse.up()


@every_screen
def test_the_read_out_is_right_at_every_zoom(page: Page) -> None:
    pixels = ((264, 232), (280, 232), (248, 232))  # of three brightnesses, which `banded` tells apart
    hover(page, *pixels[0])
    x, y = page.evaluate("window.mouse")
    scale = place_of(canvas_of(page))["width"] / 512
    places = [(x + scale * (column - 264), y + scale * (row - 232)) for column, row in pixels]
    said = [read_at(page, *place) for place in places]
    assert len(set(said)) == 3
    page.mouse.move(x, y)
    for notches, closer in ((3, True), (3, True), (-2, False)):
        before = zoom_of(page)
        turn_wheel(page, notches=notches)
        assert (zoom_of(page) > before) == closer
        by = zoom_of(page)
        found = [read_at(page, x + by * (there[0] - x), y + by * (there[1] - y)) for there in places]
        assert found == said
        page.mouse.move(x, y)
    drag(page, -60, -40)
    assert read_at(page, x - 60, y - 40) == said[0]
    page.keyboard.press("Escape")
    turn_wheel(page, notches=-30)
    assert zoom_of(page) == 1
    assert [read_at(page, *place) for place in places] == said


def test_a_wheel_alone_scrolls_the_page(page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 500})
    page.mouse.move(*middle(page))
    before = page.evaluate("window.scrollY")
    page.mouse.wheel(0, -before or 120)
    page.wait_for_function("before => window.scrollY !== before", arg=before)
    assert zoom_of(page) == 1


def test_a_drag_pans_and_is_no_click_and_a_click_is_one(page: Page) -> None:
    page.mouse.move(*middle(page))
    page.mouse.down()
    page.mouse.up()
    assert page.evaluate("window.clicks") == 1
    turn_wheel(page, notches=5)
    before = picture(page)
    drag(page, 50, 30)
    assert picture(page) != before
    assert page.evaluate("window.clicks") == 1
    page.mouse.down()
    page.mouse.up()
    assert page.evaluate("window.clicks") == 2


def test_a_double_click_zooms_in_where_it_is_and_out_again(page: Page) -> None:
    hover(page, 300, 200)
    x, y = map(round, page.evaluate("window.mouse"))  # clicks know of whole pixels alone
    said, whole = read_at(page, x, y), picture(page)
    page.mouse.dblclick(x, y)
    assert zoom_of(page) == 3
    assert read_at(page, x, y) == said
    page.mouse.dblclick(x, y)
    assert zoom_of(page) == 1
    assert picture(page) == whole


def test_keys_and_buttons_zoom(page: Page) -> None:
    buttons = {kind: page.locator(f"#viewer [data-zoom={kind}]") for kind in ("in", "out", "whole")}
    for kind in ("out", "whole"):
        expect(buttons[kind]).to_have_attribute("aria-disabled", "true")
    canvas_of(page).focus()
    page.keyboard.press("+")
    assert zoom_of(page) == 1.5
    for kind in ("out", "whole"):
        expect(buttons[kind]).to_have_attribute("aria-disabled", "false")
    page.keyboard.press("Control+-")  # which is the browser's
    assert zoom_of(page) == 1.5
    page.keyboard.press("+")
    page.keyboard.press("-")
    assert zoom_of(page) == 1.5
    page.keyboard.press("0")
    assert zoom_of(page) == 1
    buttons["in"].click()
    buttons["in"].click()
    assert zoom_of(page) == 2.25
    buttons["out"].click()
    assert zoom_of(page) == 1.5
    buttons["whole"].click()
    assert zoom_of(page) == 1


def test_the_photo_follows_the_cross_that_keys_move_beyond_its_sides(page: Page) -> None:
    canvas_of(page).focus()
    page.keyboard.press("ArrowUp")
    for _ in range(5):
        page.keyboard.press("+")
    shown = picture(page)
    for _ in range(12):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowRight")
    assert picture(page) != shown
    cross = page.locator("#viewer .readout").bounding_box()
    box = place_of(canvas_of(page))
    assert cross is not None and box["x"] - 1 <= cross["x"] <= box["x"] + box["width"]


def touch(page: Page, *moments: list[tuple[float, float]], at: float = 0) -> None:
    """Put fingers down at the places of the first moment, move them to those of the others, and lift them.

    Where `at` is given, all of it takes a tenth of a second then, however slow the machine is.
    """
    session = page.context.new_cdp_session(page)
    kinds = ["touchStart", *["touchMove"] * (len(moments) - 1), "touchEnd"]
    for number, (kind, places) in enumerate(zip(kinds, [*moments, []], strict=True)):
        points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(places)]
        when = {"timestamp": at + 0.1 * number / len(moments)} if at else {}
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points, **when})
    session.detach()


@phone
def test_two_fingers_zoom_the_photo_and_not_the_page_and_then_one_pans(page: Page) -> None:
    x, y = middle(page)
    touch(page, *([(x - reach, y), (x + reach, y)] for reach in (20, 40, 60)))
    assert zoom_of(page) == pytest.approx(3, abs=0.3)
    assert page.evaluate("window.visualViewport.scale") == 1
    before, scrolled = picture(page), page.evaluate("window.scrollY")
    touch(page, [(x, y)], [(x - 30, y - 30)], [(x - 60, y - 60)])
    assert picture(page) != before
    assert page.evaluate("window.scrollY") == scrolled
    touch(page, *([(x - reach, y), (x + reach, y)] for reach in (60, 30, 10)))
    assert zoom_of(page) == 1
    now = time.time()
    for at in (now, now + 0.2):
        touch(page, [(x, y)], at=at)
    expect(canvas_of(page)).to_have_attribute("data-zoom", "3")


@phone
def test_on_a_phone_what_would_not_zoom_covers_nothing_and_the_button_to_zoom_in_keeps_its_place(page: Page) -> None:
    buttons = {kind: page.locator(f"#viewer [data-zoom={kind}]") for kind in ("in", "out", "whole", "screen")}

    def seen() -> set[str]:
        return {kind for kind, button in buttons.items() if button.is_visible()}

    middle(page)
    before = buttons["in"].bounding_box()
    assert seen() == {"in", "screen"}
    buttons["in"].tap()
    expect(canvas_of(page)).to_have_attribute("data-zoom", "1.5")
    assert seen() == set(buttons) and buttons["in"].bounding_box() == before
    buttons["whole"].tap()
    expect(canvas_of(page)).to_have_attribute("data-zoom", "1")
    assert seen() == {"in", "screen"}


@phone
def test_one_finger_scrolls_the_page_where_the_whole_photo_is_seen(page: Page) -> None:
    x, y = middle(page)
    before = page.evaluate("window.scrollY")
    down = -1 if before < 200 else 1
    touch(page, *([(x, y + down * 25 * step)] for step in range(8)))
    page.wait_for_function("before => window.scrollY !== before", arg=before)
    assert zoom_of(page) == 1


def test_two_panels_are_zoomed_and_moved_as_one(page: Page) -> None:
    choose(page, "view", "both")
    box = place_of(canvas_of(page))
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.4)
    turn_wheel(page, notches=4)
    drag(page, 30, -20)
    box = place_of(canvas_of(page))
    beside = (box["width"] + BESIDE) / 2
    seen = set()
    for across, down in ((0.1, 0.2), (0.2, 0.5), (0.4, 0.8)):
        x, y = box["x"] + box["width"] * across, box["y"] + box["height"] * down
        said = read_at(page, x, y)
        assert read_at(page, x + beside, y) == said
        seen.add(said)
    assert len(seen) > 1


def test_the_swipes_line_is_dragged_also_on_a_zoomed_photo_and_elsewhere_it_pans(page: Page) -> None:
    choose(page, "view", "slider")
    page.mouse.move(*middle(page))
    turn_wheel(page, notches=4)
    box = place_of(canvas_of(page))
    drag(page, -0.2 * box["width"], 0)
    expect(page.locator("#viewer [name=split]")).to_have_value("30")
    before = picture(page)
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] / 2)
    drag(page, 40, 40)
    assert picture(page) != before
    expect(page.locator("#viewer [name=split]")).to_have_value("30")


def test_other_choices_keep_the_zoom_and_another_photo_ends_it(page: Page) -> None:
    page.locator("#viewer [data-zoom=in]").click()
    choose(page, "level", "body")
    choose(page, "view", "differences")
    choose(page, "view", "single")
    assert zoom_of(page) == 1.5
    segment(page, PHOTO)
    expect(canvas_of(page)).to_have_attribute("data-zoom", "1")


def test_the_camera_stays_zoomed_from_frame_to_frame(page: Page) -> None:
    page.locator("#viewer .live").click()
    page.locator("#viewer .viewer[data-live][data-state=ready]").wait_for()
    page.locator("#viewer [data-zoom=in]").click()
    for _ in range(3):
        with page.expect_response(re.compile("/frame")):
            pass
    assert zoom_of(page) == 1.5
    page.locator("#viewer .live").click()


def test_masks_and_outlines_are_as_sharp_on_a_zoomed_photo(page: Page, tree: Hierarchy) -> None:
    outlines = page.locator("#viewer [name=outlines]")
    slide(page, "opacity", 100)
    for _ in range(5):
        page.locator("#viewer [data-zoom=in]").click()
    outlined = drawn(page)
    outlines.uncheck()
    bare = drawn(page)
    colored = bare[np.ptp(bare.astype(int), axis=-1) > 8]
    palette = set(tree.colors)
    assert len(colored) and {tuple(color) for color in np.unique(colored, axis=0).tolist()} <= palette
    lines = (outlined != bare).any(-1)
    assert lines.any()
    thick = np.lib.stride_tricks.sliding_window_view(lines, (9, 9)).all((-1, -2))
    assert not thick.any()


def test_full_screen_is_entered_and_left_and_the_photo_becomes_larger(page: Page) -> None:
    button = page.locator("#viewer [data-zoom=screen]")
    before = place_of(canvas_of(page))
    page.set_viewport_size({"width": 1280, "height": 1400})
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("document.fullscreenElement.className") == "viewer"
    shown = place_of(canvas_of(page))
    assert shown["width"] > before["width"]
    assert shown["x"] >= 0 and shown["x"] + shown["width"] <= page.evaluate("window.innerWidth")
    assert shown["y"] >= 0 and shown["y"] + shown["height"] <= page.evaluate("window.innerHeight")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    assert page.evaluate("document.fullscreenElement") is None


def test_where_there_is_no_full_screen_it_is_not_offered(page: Page) -> None:
    page.add_init_script("Object.defineProperty(Document.prototype, 'fullscreenEnabled', { value: false })")
    page.reload()
    expect(page.locator("#viewer [data-zoom=in]")).to_be_visible()
    expect(page.locator("#viewer [data-zoom=screen]")).to_be_hidden()
