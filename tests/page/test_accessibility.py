"""What the page asks of eyes and hands, in a real browser: axe, focus rings, forced colours, sizes for fingers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests import HANGS, REPOSITORY
from tests.page.driver import (
    PHOTO,
    as_file,
    choose,
    done,
    empty,
    held,
    open_saving,
    refused,
    segment,
    send,
    send_several,
)

VISITED = "tiny_address"  # three checkpoints and a report: the longest bars

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest.fixture(scope="module", params=[(360, "light"), (1280, "dark"), (360, "dark"), (1280, "light")], ids=str)
def page(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Page]:
    """The page on a narrow and a wide screen, light and dark."""
    width, scheme = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, has_touch=width < 400, is_mobile=width < 400
    )
    page = context.new_page()
    page.set_default_timeout(1000 * HANGS)
    page.goto(address)
    page.locator("#viewer .viewer[data-state=example]").wait_for()
    yield page
    context.close()


FITS = """
() => [document.documentElement, ...document.querySelectorAll("#viewer .bar *")]
  .every((part) => part.scrollWidth <= window.innerWidth && part.getBoundingClientRect().right <= window.innerWidth)
"""


def working(page: Page) -> None:
    held(page, "/photo$")
    send(page, PHOTO)
    page.locator("#viewer .viewer[data-state=working]").wait_for()


def after_work(page: Page) -> None:
    page.unroute_all()
    refused(page)


def several(page: Page) -> None:
    camera = (REPOSITORY / "examples" / "camera.jpg").read_bytes()
    send_several(page, [as_file(PHOTO.read_bytes()), as_file(b"no photo"), as_file(camera)])
    done(page)


def view(name: str) -> Callable[[Page], None]:
    return lambda page: choose(page, "view", name)


def own(page: Page) -> None:
    segment(page, PHOTO)
    open_saving(page)


# In this order: each begins where the one before has ended.
STATES: dict[str, Callable[[Page], None]] = {
    "example": lambda page: None,
    "ready": own,
    **{name: view(name) for name in ("slider", "both", "differences")},
    "several": several,
    "working": working,
    "refused": after_work,
    "empty": empty,
}


def test_axe_finds_no_fault_in_any_state_and_nothing_is_wider_than_the_window(page: Page) -> None:
    found = {}
    for state, bring in STATES.items():
        bring(page)
        assert page.evaluate(FITS), state
        faults = Axe().run(page, options={"runOnly": RULES}).response["violations"]
        found[state] = [(fault["id"], node["html"]) for fault in faults for node in fault["nodes"]]
    assert {state: faults for state, faults in found.items() if faults} == {}


# The contrast of two colours by WCAG 2.2, and how each control that the tab key reaches looks when it has the focus.
RINGS = """
() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => {
    const [red, green, blue] = parts(color).map((part) => {
      const value = part / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if ((parts(color)[3] ?? 1) > 0.5) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const contrast = (...colors) => {
    const [darker, lighter] = colors.map(luminance).sort((one, other) => one - other);
    return (lighter + 0.05) / (darker + 0.05);
  };
  for (let at = document.activeElement; at; at = at.parentElement) {
    const [style, over] = [getComputedStyle(at), getComputedStyle(at, "::after")];
    const inner = parseFloat(style.outlineOffset) < 0;
    const twofold = style.boxShadow !== "none";
    if (at.matches(".unseen, .options input")) continue; // what holds it is seen in its place
    if (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2)
      return contrast(style.outlineColor, twofold ? style.boxShadow : behind(inner ? at : at.parentElement));
    // On colours of every kind, a ring is of two.
    if (over.content !== "none" && parseFloat(over.borderTopWidth) >= 2)
      return contrast(over.borderTopColor, over.boxShadow);
  }
  return 0;
}
"""


def test_whatever_the_tab_key_reaches_has_a_ring_that_is_seen(page: Page) -> None:
    page.reload()
    page.locator("#viewer .viewer[data-state=example]").wait_for()
    contrasts = {}
    for _ in range(60):
        page.keyboard.press("Tab")
        place = "document.activeElement"
        if not page.evaluate(f"{place}.closest('#viewer') !== null"):
            continue
        name = page.evaluate(f"{place}.name || {place}.dataset.zoom || {place}.dataset.save || {place}.className")
        contrasts[name or page.evaluate(f"{place}.outerHTML.slice(0, 80)")] = page.evaluate(RINGS)
    assert len(contrasts) > 12
    assert {name: contrast for name, contrast in contrasts.items() if contrast < 3} == {}


def test_forced_colours_keep_the_legend_and_what_is_chosen(page: Page) -> None:
    page.emulate_media(forced_colors="active")
    blocks = page.locator("#viewer .tree .block.shown .words")
    colors = blocks.evaluate_all("all => all.map((each) => getComputedStyle(each, '::before').backgroundColor)")
    assert len(set(colors)) == len(colors) > 1
    chosen, other = (
        page.locator(f"#viewer label:has(input[name=hierseg-level]{kind})").first.evaluate(
            "label => getComputedStyle(label).backgroundColor"
        )
        for kind in (":checked", ":not(:checked)")
    )
    assert chosen != other
    page.emulate_media(forced_colors="none")


@pytest.mark.parametrize("page", [(360, "light")], indirect=True, ids=str)
def test_what_fingers_touch_is_large_enough(page: Page) -> None:
    expect(page.locator("#viewer .tree")).to_be_visible()
    small = page.locator(
        "#viewer :is(button, .button, .options label, select, .tree label, .tick, summary)"
    ).evaluate_all(
        """all => all.filter((each) => each.checkVisibility()).map((each) => each.getBoundingClientRect())
          .filter(({ height }) => height < 44).length"""
    )
    assert small == 0
