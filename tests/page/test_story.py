"""The story in a real browser: it plays once by itself, gives way to a visitor, and says what the library says."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from hierseg.predictor import Prediction, best_first
from hierseg.tree import Hierarchy
from tests.page.driver import BEST, CARDS, PHOTO, SECOND, choose, compare, picture, segment, send, slide, undecoded

# Steps come when a test says so: the timer of a step is kept instead of set.
BY_HAND = """
const [set, clear] = [window.setTimeout, window.clearTimeout];
window.due = null;
window.setTimeout = (act, wait, ...rest) => (wait === 5000 ? ((window.due = act), -1) : set(act, wait, ...rest));
window.clearTimeout = (timer) => (timer === -1 ? (window.due = null) : clear(timer));
window.passed = () => { const act = window.due; window.due = null; act(); };
"""
CANVAS = "#viewer .stage canvas"


@pytest.fixture(scope="module", params=["no-preference"])
def context(request: pytest.FixtureRequest, browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion=request.param)
    context.add_init_script(BY_HAND)
    yield context
    context.close()


still = pytest.mark.parametrize("context", ["reduce"], indirect=True, ids=["reduced motion"], scope="module")


def story(page: Page) -> Locator:
    return page.locator("#viewer .story")


def step(page: Page, place: int) -> str:
    """Wait for a step, the first being 1, and return what it says."""
    expect(story(page).locator(".count")).to_have_text(re.compile(f"^{place} of "))
    return story(page).locator(".step").inner_text()


def plays(page: Page) -> bool:
    return bool(page.evaluate("window.due !== null"))


def state(page: Page) -> dict[str, Any]:
    """What the viewer's own state says of the step that is told."""
    return dict(
        page.evaluate(
            """async () => {
              const { name } = performance.getEntriesByType("resource").find(({ name }) => name.endsWith("/state.js"));
              const { state } = await import(name);
              return { point: state.told?.point ?? null, node: state.told?.words.find(({ node }) => node >= 0)?.node };
            }"""
        )
    )


def test_it_plays_once_by_itself_and_leaves_what_the_page_opens_with(page: Page) -> None:
    words = [step(page, 1)]
    last = int(story(page).locator(".count").inner_text().split(" of ")[1])
    page.locator(f"{CANVAS}[data-level=body][data-checkpoint={BEST}]").wait_for()
    for place in range(2, last + 1):
        page.evaluate("window.passed()")
        words.append(step(page, place))
    assert len(set(words)) == last
    page.evaluate("window.passed()")
    expect(story(page).locator(".step")).to_be_hidden()
    page.locator(f"{CANVAS}[data-level=parts][data-view=single][data-checkpoint={BEST}]").wait_for()
    expect(page.get_by_role("switch", name="Without decoding")).not_to_be_checked()
    assert not plays(page)
    page.get_by_role("button", name="Play the story").click()  # and again, when asked
    assert step(page, 1) == words[0]
    assert plays(page)


def test_it_is_stopped_turned_played_on_and_skipped(page: Page) -> None:
    step(page, 1)
    for name, place, playing in (("Stop", 1, False), ("Next", 2, False), ("Play", 2, True), ("Back", 1, False)):
        story(page).get_by_role("button", name=name).click()
        step(page, place)
        assert plays(page) == playing
    expect(story(page).get_by_role("button", name="Back")).to_be_disabled()
    story(page).get_by_role("button", name="Skip").click()
    page.locator(f"{CANVAS}[data-level=parts]").wait_for()
    expect(page.get_by_role("button", name="Play the story")).to_be_focused()


def test_the_picture_stays_in_view_when_the_story_ends(page: Page) -> None:
    page.set_viewport_size({"width": 640, "height": 450})  # 1280 by 900 at 200 %: the button is below
    step(page, 1)
    story(page).get_by_role("button", name="Skip").click()
    expect(page.get_by_role("button", name="Play the story")).to_be_focused()
    assert page.evaluate("window.scrollY") == 0


def test_whoever_chooses_something_goes_on_from_what_is_shown(page: Page) -> None:
    step(page, 1)
    page.locator("#viewer [name=outlines]").uncheck()
    expect(story(page).locator(".step")).to_be_hidden()
    assert not plays(page)
    expect(page.locator("#viewer [name=outlines]")).not_to_be_checked()
    page.locator(f"{CANVAS}[data-level=body]").wait_for()


def test_whoever_chooses_a_level_or_a_view_meanwhile_has_the_rest_as_before_the_story(viewer: Page) -> None:
    choose(viewer, "checkpoint", SECOND)
    choose(viewer, "level", "upper-lower")
    slide(viewer, "threshold", 40)
    viewer.get_by_role("button", name="Play the story").click()
    last = int(story(viewer).locator(".count").inner_text().split(" of ")[1])
    for place, kind, value in ((4, "level", "body"), (last, "level", "upper-lower"), (4, "view", "both")):
        while not story(viewer).locator(".count").inner_text().startswith(f"{place} of"):
            story(viewer).get_by_role("button", name="Next").click()
        choose(viewer, kind, value)
        expect(story(viewer).locator(".step")).to_be_hidden()
        expected = {"view": "single", "checkpoint": SECOND, "level": "upper-lower", kind: value}
        viewer.locator(CANVAS + "".join(f"[data-{key}={each}]" for key, each in expected.items())).wait_for()
        expect(viewer.locator("#viewer [name=raw]")).not_to_be_checked()
        assert viewer.locator("#viewer [name=threshold]").input_value() == "40"
        viewer.get_by_role("button", name="Play the story").click()


@pytest.mark.parametrize("left", [True, False], ids=["after the story was left", "meanwhile"])
def test_a_photo_that_is_brought_is_shown_by_what_was_set_and_as_if_there_were_no_story(page: Page, left: bool) -> None:
    step(page, 1)
    if left:
        slide(page, "threshold", 40)
        expect(story(page).locator(".step")).to_be_hidden()
    segment(page, PHOTO)
    page.locator(f"{CANVAS}[data-level=parts]").wait_for()
    expect(story(page).locator(".step")).to_be_hidden()
    assert not plays(page)
    assert (page.locator("#viewer [name=threshold]").input_value() == "40") == left


def test_an_address_that_asks_for_something_is_not_talked_over(page: Page) -> None:
    page.goto(f"{page.url.split('#')[0]}#level=body")
    page.reload()
    page.locator("#viewer .viewer[data-state=example]").wait_for()
    expect(page.get_by_role("button", name="Play the story")).to_be_visible()
    assert not plays(page)


def test_skipping_brings_back_what_was_chosen(viewer: Page) -> None:
    choose(viewer, "level", "upper-lower")
    choose(viewer, "view", "both")
    undecoded(viewer)
    slide(viewer, "opacity", 80)
    before = picture(viewer)
    viewer.get_by_role("button", name="Play the story").click()
    step(viewer, 1)
    assert picture(viewer) != before
    story(viewer).get_by_role("button", name="Skip").click()
    viewer.locator(f"{CANVAS}[data-view=both]").wait_for()
    assert picture(viewer) == before


def test_the_storys_button_takes_no_height_from_the_picture(page: Page) -> None:
    story(page).get_by_role("button", name="Skip").click()
    expect(page.get_by_role("button", name="Play the story")).to_be_visible()
    bar, stage = (page.locator(f"#viewer {part}").bounding_box() for part in (".bar", ".stage"))
    assert bar and stage and stage["y"] - bar["y"] - bar["height"] <= 12


def test_a_photo_of_nobody_has_no_story(page: Page) -> None:
    send(page, {"name": "nobody.png", "mimeType": "image/png", "buffer": nobody()})
    expect(page.locator("#viewer .message")).to_contain_text("No person found")
    expect(page.get_by_role("button", name="Play the story")).to_be_hidden()


def nobody() -> bytes:
    _, content = cv2.imencode(".png", np.tile(np.arange(256, dtype=np.uint8), (256, 1)))
    return content.tobytes()


@still
def test_it_is_still_where_motion_is_not_wanted_and_says_what_the_library_says(
    page: Page, predictions: dict[str, Prediction], tree: Hierarchy
) -> None:
    step(page, 1)
    assert not plays(page)
    expect(story(page).get_by_role("button", name="Play", exact=True)).to_be_visible()
    segment(page, PHOTO)
    page.get_by_role("button", name="Play the story").click()
    for place, level in enumerate(tree.level_names, 1):
        words = step(page, place)
        page.locator(f"{CANVAS}[data-level={level}]").wait_for()
        for node in tree.levels[level]:
            assert tree.nodes[node].replace("_", " ") in words
        story(page).get_by_role("button", name="Next").click()

    words = step(page, 4)  # an impossible pixel, in the largest region of them
    assert "BCE says" in words
    told = state(page)
    row, column = told["point"]["row"], told["point"]["column"]
    on = predictions["bce"].scores[:, row, column] > 0.5
    assert on[told["node"]] and not on[tree.parents[told["node"]]]
    for node in (told["node"], tree.parents[told["node"]]):
        assert tree.nodes[node].replace("_", " ") in words
    broken = predictions["bce"].violations().astype(np.uint8)
    _, regions, figures, _ = cv2.connectedComponentsWithStats(broken, connectivity=8)
    assert figures[regions[row, column], cv2.CC_STAT_AREA] >= 0.9 * figures[1:, cv2.CC_STAT_AREA].max()
    raw = picture(page)

    story(page).get_by_role("button", name="Next").click()
    words = step(page, 5)
    assert picture(page) != raw
    label = predictions["bce"].labels[row, column]
    decoded = "background" if label == tree.background else tree.nodes[tree.labels.index(label)]
    assert words.endswith(f"here it says {decoded.replace('_', ' ')}.")

    story(page).get_by_role("button", name="Next").click()
    words = step(page, 6)
    said = [int(part) / int(whole.replace(",", "")) for part, whole in re.findall(r"(\d) pixels? in ([\d,]+)", words)]
    shares = [predictions[name].summary()["raw_violations_of_person"] for name in ("ftm", "bce")]
    assert said == pytest.approx(shares, rel=0.3)  # of a few pixels, one may turn
    page.locator(f"{CANVAS}[data-view=both]").wait_for()

    story(page).get_by_role("button", name="Next").click()
    words = step(page, 7)
    assert words.startswith("Softmax over leaves cannot break the tree")
    assert not predictions["leaf"].violations().any()
    page.locator(f"{CANVAS}[data-checkpoint=leaf]").wait_for()

    story(page).get_by_role("button", name="Next").click()
    words = step(page, 8)
    ious = {name: card.record["figures"]["dataset_iou"]["levels"]["parts"] for name, card in CARDS.items()}
    for name, iou in ious.items():
        assert f"{CARDS[name].title} {iou:.3f}".replace(" 0.", " .") in words
    photos = CARDS[BEST].record["figures"]["photos"]
    assert f"{photos} validation photos" in story(page).locator(".source").inner_text()


@still
def test_what_is_said_of_two_that_are_compared_is_of_these_two(viewer: Page) -> None:
    contrast = viewer.locator("#viewer .contrast")
    expect(contrast).to_be_hidden()
    choose(viewer, "view", "both")
    for pair in itertools.permutations(CARDS, 2):
        compare(viewer, *pair)
        words = contrast.inner_text()
        for name, card in CARDS.items():
            assert (card.title in words) == (name in pair)
        assert ("Softmax over leaves cannot break the tree" in words) == ("leaf" in pair)
    choose(viewer, "level", "body")
    expect(contrast).to_contain_text("IoU of body")


@still
def test_the_losses_are_explained_where_they_are_chosen(page: Page) -> None:
    page.locator("#viewer .about summary").click()
    lines = page.locator("#viewer .about li")
    assert [line.split(":")[0] for line in lines.all_inner_texts()] == [CARDS[name].title for name in best_first(CARDS)]
    paper = page.locator("#viewer .about").get_by_role("link", name="Li et al., CVPR 2022")
    expect(paper).to_have_attribute("href", "https://arxiv.org/abs/2203.14335")
