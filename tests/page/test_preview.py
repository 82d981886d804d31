"""What a link to the page shows before it is opened is in the HTML that is served, without a script."""

from __future__ import annotations

import html.parser

import httpx
import pytest

from tests import HANGS, REPOSITORY
from tests.page.report import PREVIEW, QUOTE

VISITED = "tiny_address"


class Head(html.parser.HTMLParser):
    """The title and the meta tags of a page, in their order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.title = ""
        self.tags: list[tuple[str, str]] = []
        self._titled = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a meta tag."""
        found = dict(attrs)
        self._titled = tag == "title"
        if tag == "meta" and (name := found.get("property") or found.get("name")):
            self.tags.append((name, found.get("content") or ""))

    def handle_data(self, data: str) -> None:
        """Keep the title."""
        self.title += data if self._titled else ""
        self._titled = False


@pytest.mark.parametrize("path", ["", "losses"])
def test_each_page_says_what_it_is_and_shows_a_picture(address: str, path: str) -> None:
    head = Head(httpx.get(f"{address}/{path}", timeout=HANGS).text)
    tags = dict(head.tags)
    assert len(tags) == len(head.tags)  # nothing is said twice
    assert not [name for name, content in head.tags if "gradio" in content.lower()]
    assert "hierseg" in head.title and tags["og:title"] == head.title
    assert tags["og:description"] == tags["description"]
    assert tags["og:url"] == f"{address}/{path}"
    assert tags["twitter:card"] == "summary_large_image"
    if path:
        assert tags["description"] == QUOTE
    answer = httpx.get(tags["og:image"], timeout=HANGS)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content == (REPOSITORY / PREVIEW).read_bytes()


def test_behind_a_proxy_addresses_are_those_that_visitors_see(address: str) -> None:
    headers = {"x-forwarded-host": "people.example", "x-forwarded-proto": "https"}
    tags = dict(Head(httpx.get(address, headers=headers, timeout=HANGS).text).tags)
    assert tags["og:url"] == "https://people.example/"
    assert tags["og:image"] == "https://people.example/preview.jpg"


def test_without_the_picture_none_is_promised(small_address: str) -> None:
    tags = dict(Head(httpx.get(small_address, timeout=HANGS).text).tags)
    assert tags["og:title"]
    assert "og:image" not in tags and "twitter:card" not in tags
    assert httpx.get(f"{small_address}/preview.jpg", timeout=HANGS).status_code == 404
