"""Tests of hierseg.page.report: the comparison of the losses on the page, in a real browser where there is one."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from playwright.sync_api import Page, expect

from hierseg.page import report
from tests import HANGS
from tests.page.driver import choose, compare, every_screen, ready
from tests.page.report import PLOT, QUOTE, written

VISITED = "tiny_address"


def test_the_text_needs_no_other_file(tmp_path: Path) -> None:
    found = report.read(written(tmp_path / "report"))
    assert found is not None and found.quote == QUOTE
    assert "<!--" not in found.text
    (url,) = re.findall(r"\]\(([^)]*)\)", found.text)
    assert base64.b64decode(url.removeprefix("data:image/svg+xml;base64,")).decode() == PLOT
    assert "As in the recipe." in found.text


def test_what_follows_the_picture_is_folded(tmp_path: Path) -> None:
    found = report.read(written(tmp_path / "report"))
    assert found is not None
    shown, *folded = found.text.split("<details>")
    assert QUOTE in " ".join(shown.split()) and shown.rstrip().endswith(")")
    assert [re.sub(r"<summary>(.*)</summary>\s*", r"\1: ", each.strip())[:14] for each in folded] == [
        "In figures: He",
        "Why: | a | b |",
    ]
    assert all(each.rstrip().endswith("</details>") for each in folded)


def test_without_a_report_there_is_none(tmp_path: Path) -> None:
    assert report.read(tmp_path) is None


def test_the_quote_of_our_report_names_the_two_losses_and_has_an_interval() -> None:
    found = report.read()
    assert found is not None
    assert re.search(r"Focal-Tree-Min has .* than BCE \(\S+ \[\S+, \S+\] points", found.quote)


@every_screen
def test_views_that_compare_quote_it_and_lead_to_the_report(page: Page) -> None:
    page.locator("#examples button").first.click()
    ready(page)
    choose(page, "view", "slider")
    compare(page, "bce", "ftm")  # it names these
    quoted = page.locator("#viewer .quote")
    for view, shown in (("slider", True), ("both", True), ("single", False), ("differences", True)):
        choose(page, "view", view)
        expect(quoted).to_be_visible(visible=shown)
    expect(quoted).to_contain_text(QUOTE)
    with page.expect_popup() as opened:
        quoted.get_by_role("link").click()
    of_report = opened.value
    of_report.set_default_timeout(1000 * HANGS)
    plot = of_report.get_by_role("img", name="Points")
    plot.wait_for()
    assert plot.evaluate("image => image.naturalWidth") == 40
    expect(of_report.get_by_role("heading", name="Which loss?")).to_be_visible()
    expect(of_report).to_have_title("How the losses compare · hierseg")
    table = of_report.get_by_role("table")
    expect(table).to_be_hidden()
    of_report.get_by_text("Why").click()
    expect(table).to_be_visible()
    of_report.set_viewport_size({"width": 360, "height": 800})
    assert of_report.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert table.evaluate("table => table.scrollWidth > table.clientWidth && table.clientWidth < 360")
    of_report.get_by_text("← hierseg").click()
    expect(of_report.locator("#examples button").first).to_be_visible(timeout=1000 * HANGS)
    of_report.close()
