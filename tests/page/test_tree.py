"""The tree beside the picture in a real browser: blocks as large as the library says, linked with the picture."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from hierseg.decoding import best_paths
from hierseg.page.payload import STEPS
from hierseg.predictor import Prediction
from hierseg.tree import Hierarchy
from tests.page.driver import BEST, CARDS, SECOND, choose, hover, phone, picture, place_of, slide
from tests.rounding import APART


@pytest.fixture
def page(viewer: Page) -> Page:
    """The page with a photo segmented."""
    return viewer


def blocks(page: Page, marked: str = "") -> list[str]:
    """The names of the nodes whose blocks have a mark, or of all."""
    return [str(block.get_attribute("data-node")) for block in page.locator(f"#viewer .tree .block{marked}").all()]


def coloured(page: Page) -> dict[str, list[float]]:
    """The coloured area of every block, for each checkpoint that is shown, and the block's own height."""
    return page.evaluate(  # type: ignore[no-any-return]
        """() => Object.fromEntries([...document.querySelectorAll("#viewer .tree .block")].map((block) => [
          block.dataset.node,
          [...block.querySelectorAll(".fill > *")].map((fill) => {
            const { width, height } = fill.getBoundingClientRect();
            return width * height;
          }),
        ]))"""
    )


@pytest.mark.parametrize(("view", "names"), [("single", (BEST,)), ("both", (BEST, SECOND))])
def test_blocks_are_coloured_as_far_as_the_nodes_shares_go(
    view: str, names: tuple[str, ...], page: Page, predictions: dict[str, Prediction], tree: Hierarchy
) -> None:
    choose(page, "view", view)
    found = coloured(page)
    shares = {node: [predictions[name].areas()[node].share_of_person for name in names] for node in tree.nodes}
    assert sorted(blocks(page)) == sorted(tree.nodes)
    for level in tree.level_names:
        nodes = [
            node for node in tree.nodes if len(tree.lineages[tree.index(node)]) == tree.level_names.index(level) + 1
        ]
        areas = np.array([found[node] for node in nodes])
        expected = np.array([shares[node] for node in nodes])
        assert areas.shape == expected.shape
        # A gap of two pixels is cut off every block.
        np.testing.assert_allclose(areas / areas.sum(), expected / expected.sum(), atol=0.02)
    for node in tree.nodes:
        written = page.locator(f"#viewer .tree [data-node={node}] .share").inner_text().split("|")
        for words, share in zip(written, shares[node], strict=True):
            percent = re.search(r"(\d+) %", words)
            assert float(percent[1] if percent else 0) == pytest.approx(100 * share, abs=1)
    heights = [place_of(block)["height"] for block in page.locator("#viewer .tree .block").all()]
    assert min(heights) >= 24


def test_the_tree_is_worked_by_keyboard_and_says_all_it_knows(page: Page, predictions: dict[str, Prediction]) -> None:
    head = page.get_by_role("group", name="Parts shown on the picture").get_by_role(
        "checkbox", name=re.compile("^Head")
    )
    area = predictions[BEST].areas()["head"]
    name = re.fullmatch(r"Head, (\d+) % of person, mean score (\.\d\d|1\.0)", str(head.get_attribute("aria-label")))
    assert name
    assert float(name[1]) == pytest.approx(100 * area.share_of_person, abs=0.51)
    assert float(name[2]) == pytest.approx(area.confidence, abs=0.011)
    everything = picture(page)
    page.locator("#viewer .tree").get_by_role("checkbox").first.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")  # by keyboard, as the mouse clicked last
    for place in range(len(blocks(page))):
        focused = page.evaluate("document.activeElement.closest('.block')?.dataset.node")
        assert focused == blocks(page)[place]
        assert blocks(page, ".pointed") == [focused]
        page.keyboard.press("Tab")
    assert blocks(page, ".pointed") == []
    head.focus()
    alone = picture(page)
    assert alone != everything
    page.keyboard.press("Space")
    assert not head.is_checked()
    assert picture(page) not in (alone, everything)
    page.keyboard.press("Space")
    assert head.is_checked() and picture(page) == everything


def test_a_level_stands_out_in_the_tree(page: Page, tree: Hierarchy) -> None:
    for depth, level in enumerate(tree.level_names):
        choose(page, "level", level)
        assert blocks(page, ".shown") == [
            node for node in tree.nodes if len(tree.lineages[tree.index(node)]) == depth + 1
        ]
        title = page.locator("#viewer [data-choice=level] label:has(:checked)").inner_text()
        expect(page.locator("#viewer .tree-levels .shown")).to_have_text(title.capitalize())


def test_what_is_not_found_is_said_to_be_absent(
    page: Page, predictions: dict[str, Prediction], tree: Hierarchy
) -> None:
    for threshold in range(60, 96, 5):  # the first by which some nodes are not found
        areas = predictions[BEST].areas(threshold / STEPS)
        absent = [node for node in tree.nodes if areas[node].share_of_photo == 0]
        if absent:
            break
    assert 0 < len(absent) < len(tree)
    slide(page, "threshold", threshold)
    assert sorted(blocks(page, ".absent")) == sorted(absent)
    for node in absent:
        block = page.locator(f"#viewer .tree [data-node={node}]")
        assert block.locator(".share").inner_text() == "none"
        assert str(block.get_by_role("checkbox").get_attribute("aria-label")).endswith(", not found")
        assert place_of(block)["height"] >= 24


def test_pointing_at_a_pixel_marks_its_path_draws_its_scores_and_says_where_the_tree_is_broken(
    page: Page, predictions: dict[str, Prediction], tree: Hierarchy
) -> None:
    choose(page, "checkpoint", "bce")
    prediction = predictions["bce"]
    paths = best_paths(prediction.scores, tree, prediction.calibration)
    steps = np.ceil(paths.scores * np.float32(STEPS)).astype(int)  # as the page has them
    on = prediction.scores > 0.5
    orphans = np.stack([on[node] & (parent >= 0) & ~on[parent] for node, parent in enumerate(tree.parents)])
    sure = (np.abs(prediction.scores - 0.5) > APART).all(0)
    for wanted in (orphans.any(0), ~orphans.any(0) & (prediction.labels != tree.background)):
        places = np.argwhere(wanted & sure)
        row, column = (int(place) for place in places[len(places) // 2])
        hover(page, column, row)
        lineage = tree.lineages[int(paths.leaves[row, column])]
        found = lineage if prediction.labels[row, column] != tree.background else ()
        assert sorted(blocks(page, ".under")) == sorted(tree.nodes[node] for node in found)
        bars = page.locator("#viewer .readout .step .gauge > *")
        widths = bars.evaluate_all("all => all.map((bar) => parseFloat(bar.style.width))")
        np.testing.assert_allclose(widths, steps[:, row, column], atol=1.01)
        broken = [node for node in range(len(tree)) if orphans[node, row, column]]
        expected = [node in broken for node in lineage]
        assert ["▲" in step for step in page.locator("#viewer .readout .step").all_inner_texts()] == expected
        gauges = page.locator("#viewer .readout .step .gauge")
        assert gauges.evaluate_all("all => all.map((one) => one.matches('.broken'))") == expected
        said = page.locator("#viewer .readout em", has_text="▲").all_inner_texts()
        names = ", ".join(tree.nodes[node].replace("_", " ") for node in broken)
        assert said == ([f"▲ Raw score above .5, but not its parent's: {names}"] if broken else [])
    page.locator("#heading").hover()
    expect(page.locator("#viewer .tree .under")).to_have_count(0)


def readout(page: Page) -> Locator:
    return page.locator("#viewer .readout")


def click(page: Page, column: int, row: int) -> None:
    hover(page, column, row)
    page.mouse.down()
    page.mouse.up()


def test_a_click_pins_the_read_out_until_the_next_or_escape(page: Page) -> None:
    for free in (lambda: click(page, 300, 300), lambda: page.keyboard.press("Escape")):
        click(page, 220, 150)
        pinned = readout(page).inner_text()
        assert pinned.endswith("Pinned")
        hover(page, 60, 400)
        assert readout(page).inner_text() == pinned
        page.locator("#heading").hover()
        assert readout(page).inner_text() == pinned
        free()
        hover(page, 60, 400)
        assert "Pinned" not in readout(page).inner_text()
        page.locator("#heading").hover()
        expect(readout(page)).to_be_hidden()
    page.locator("#viewer .stage canvas").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.locator("#viewer [name=opacity]").focus()
    assert readout(page).inner_text().endswith("Pinned")  # where without a pin it would be gone


def test_in_the_swipe_view_a_click_pins_and_a_drag_moves_the_line(page: Page) -> None:
    choose(page, "view", "slider")
    click(page, 400, 200)
    pinned = readout(page).inner_text()
    assert pinned.endswith("Pinned")
    assert page.locator("#viewer [name=split]").input_value() == "50"
    hover(page, 300, 300)
    page.mouse.down()
    hover(page, 100, 200)
    hover(page, 128, 200)
    page.mouse.up()
    assert page.locator("#viewer [name=split]").input_value() == "25"
    assert readout(page).inner_text() == pinned


@phone
def test_a_tap_pins_a_tap_elsewhere_moves_the_pin_and_one_on_it_frees(page: Page) -> None:
    canvas = page.locator("#viewer .stage canvas")
    said = []
    for place in ((150, 80), (60, 200)):
        canvas.tap(position={"x": place[0], "y": place[1]})
        said.append(readout(page).inner_text())
        assert said[-1].endswith("Pinned")
    assert said[0] != said[1]
    canvas.tap(position={"x": 64, "y": 204})
    expect(readout(page)).to_be_hidden()


def test_the_picture_is_described(page: Page, predictions: dict[str, Prediction]) -> None:
    areas = predictions[BEST].areas()
    canvas = page.locator("#viewer .stage canvas")
    words = str(canvas.get_attribute("aria-label"))
    assert page.locator("#viewer .description[role=status]").inner_text() == words  # and it was announced
    assert words.startswith(f"Photo. {CARDS[BEST].title} finds a person on ")
    for title, share in (("person on", areas["body"].share_of_photo), ("head", areas["head"].share_of_person)):
        percent = re.search(rf"{title} (\d+) %", words)
        assert percent and float(percent[1]) == pytest.approx(100 * share, abs=0.51)
    slide(page, "threshold", 95)
    assert canvas.get_attribute("aria-label") != words
    assert page.locator("#viewer .description").inner_text() == words  # a slider is no news


def test_names_are_written_on_request_on_every_view_of_parts(page: Page) -> None:
    for view in ("single", "slider", "both"):
        choose(page, "view", view)
        without = picture(page)
        page.get_by_label("Names").check()
        assert picture(page) != without
        page.get_by_label("Names").uncheck()
        assert picture(page) == without
    page.get_by_label("Names").check()
    page.locator("#viewer .reset").click()
    assert not page.get_by_label("Names").is_checked()
