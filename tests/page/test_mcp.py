"""The page as an MCP server: two tools with the descriptions and answers of the API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from hierseg.page.blocks import NOT_UPLOADED
from hierseg.page.mcp import TAKEN
from tests import REPOSITORY
from tests.server import Visitor, finished, marked_photo, page_of, running_page, url_of


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, tiny: dict[str, Path]) -> Iterator[str]:
    """Where the page is an MCP server, with a proxy that is not there: the tools ask the page itself."""
    site = page_of(tmp_path_factory.mktemp("site"), tiny)
    variables = {"GRADIO_MCP_SERVER": "true", "http_proxy": "http://127.0.0.1:9"}
    with running_page(tmp_path_factory.mktemp("uploads"), site, **variables) as url:
        yield url


async def _call(url: str, name: str, *calls: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Return the tools, and what one of them says to some arguments each."""
    async with (
        streamable_http_client(f"{url}/gradio_api/mcp/") as (reading, writing, _),
        ClientSession(reading, writing) as session,
    ):
        await session.initialize()
        tools = await session.list_tools()
        return tools.tools, [await session.call_tool(name, arguments) for arguments in calls]


def test_segment_and_compare_are_tools_where_the_environment_asks_for_them(address: str) -> None:
    camera = url_of((REPOSITORY / "examples" / "camera.jpg").read_bytes())
    tools, (answer,) = finished(_call(address, "compare", {"photo": camera, "level": "upper-lower"}))
    described = {tool.name: tool for tool in tools}
    assert set(described) == {"segment", "compare"}
    assert described["segment"].description.startswith("Segment the people in a photo along the tree")
    level = described["compare"].inputSchema["properties"]["level"]
    assert level["enum"] == ["body", "upper-lower", "parts"]
    assert "How far down the tree" in level["description"]
    assert not answer.isError
    assert "share_of_people" in "".join(getattr(part, "text", "") for part in answer.content)


def test_an_mcp_tool_takes_what_its_schema_asks_for_and_opens_nothing_else(address: str) -> None:
    elsewhere = str(REPOSITORY / "examples" / "camera.jpg")
    with Visitor(address) as visitor:
        path = visitor.upload(marked_photo(3))
        taken = (path, f"{address}/gradio_api/file={path}", url_of(marked_photo(3)))
        refused = (
            elsewhere,
            f"{address}/gradio_api/file={elsewhere}",
            "https://example.com/a.jpg",
            {"path": elsewhere, "meta": {"_type": "gradio.FileData"}},
            "data:image/jpeg;base64,A",
            "",
        )
        choices = {"checkpoint": "bce", "level": "body", "opacity": 0.5}
        calls = [{"photo": photo, **choices} for photo in (*taken, *refused)]
        tools, answers = finished(_call(address, "segment", *calls))
        schema = visitor.http.get("/gradio_api/mcp/schema").text
    for tool in tools:
        for name in {"photo", "truth"} & set(tool.inputSchema["properties"]):
            assert TAKEN in tool.inputSchema["properties"][name]["format"]
    assert TAKEN in schema and "http or https url" not in schema
    assert [answer.isError for answer in answers] == [False] * 3 + [True] * 6
    for answer in answers[:3]:
        assert '"body"' in answer.content[-1].text.replace("'", '"')
    said = [answer.content[0].text for answer in answers[3:]]
    assert all(TAKEN in each for each in (*said[:3], said[5]))
    assert "not of type 'string'" in said[3] or NOT_UPLOADED in said[3]
    assert "did not arrive whole" in said[4]
