"""What is chosen is in the address, and a link shows it again: in a real browser, also in a Space's frame."""

from __future__ import annotations

from urllib.parse import urlsplit

from playwright.sync_api import Page, Route, expect

from tests import HANGS
from tests.page.driver import PHOTO, choose, segment, slide

VISITED = "small_address"

CHOSEN = "#level=body&view=both&raw=on&pair=ftm,bce&threshold=40&opacity=20&outlines=off&hidden=head,lower"
FRAME = """
<script>addEventListener("message", ({{ data }}) => (window.said = data))</script>
<iframe width="1000" height="800" src="{}">
"""


def test_what_is_chosen_is_in_the_address_without_a_new_entry_of_the_history(page: Page, address: str) -> None:
    segment(page, PHOTO)
    entries = page.evaluate("history.length")
    assert urlsplit(page.url).fragment == ""
    choose(page, "level", "body")
    expect(page).to_have_url(f"{address}/#level=body")
    choose(page, "view", "slider")
    slide(page, "opacity", 20)
    page.locator("#viewer .tree [data-node=head]").get_by_role("checkbox").uncheck()
    expect(page).to_have_url(f"{address}/#level=body&view=slider&opacity=20&hidden=head")
    page.locator("#examples button").first.click()
    choose(page, "view", "single")
    page.locator("#viewer .reset").click()
    choose(page, "level", "parts")
    expect(page).to_have_url(f"{address}/")
    assert page.evaluate("history.length") == entries


def test_a_link_shows_what_was_chosen(page: Page, address: str) -> None:
    page.goto(f"{address}/{CHOSEN}")
    page.reload()
    canvas = page.locator("#viewer .stage canvas[data-level=body][data-view=both][data-first=ftm][data-second=bce]")
    canvas.wait_for()
    for name, value in (("threshold", "40"), ("opacity", "20")):
        expect(page.locator(f"#viewer [name={name}]")).to_have_value(value)
    assert page.locator("#viewer [name=raw]").is_checked()
    assert not page.locator("#viewer [name=outlines]").is_checked()
    for node, shown in (("head", False), ("torso", True), ("lower", False), ("body", True)):
        box = page.locator(f"#viewer .tree [data-node={node}]").get_by_role("checkbox")
        assert box.is_checked() == shown
    expect(page).to_have_url(f"{address}/{CHOSEN}")
    page.evaluate("location.hash = ''")  # as someone does who edits the address of an open page
    page.locator("#viewer .stage canvas[data-level=parts][data-view=single][data-first=bce]").wait_for()


def test_what_an_address_says_wrongly_is_ignored(page: Page, address: str) -> None:
    page.goto(
        f"{address}/#level=toes&view=x&checkpoint=none&pair=ftm,ftm&threshold=400&opacity=-1&risk=0&hidden=tail&a=%"
    )
    page.reload()
    page.locator("#viewer .viewer[data-state=example]").wait_for()
    page.locator("#viewer .stage canvas[data-level=parts][data-view=single][data-first=bce]").wait_for()
    expect(page).to_have_url(f"{address}/")


def test_a_spaces_frame_tells_the_hubs_page_around_it(page: Page, address: str) -> None:
    space = "somebody-hierseg.hf.space"
    forwarded = {"x-forwarded-host": space, "x-forwarded-proto": "https"}

    def serve(route: Route) -> None:
        asked = urlsplit(route.request.url)
        if asked.hostname == space:  # as the Hub's proxy does
            headers = {**route.request.headers, **forwarded}
            route.fulfill(response=route.fetch(url=f"{address}{asked.path}", headers=headers))
        else:
            route.fulfill(content_type="text/html", body=FRAME.format(f"https://{space}/#level=body"))

    hub = page.context.new_page()
    hub.set_default_timeout(1000 * HANGS)
    hub.route("**", serve)
    hub.goto("https://huggingface.co/spaces/somebody/hierseg")
    frame = hub.frame_locator("iframe")
    frame.locator("#viewer .stage canvas[data-level=body]").wait_for()
    frame.locator("#viewer label:has(input[name=hierseg-view][value=both])").click()
    hub.wait_for_function("window.said?.hash === '#level=body&view=both'")
    hub.close()
