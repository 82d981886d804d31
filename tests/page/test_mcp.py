"""The page as an MCP server: two tools with the descriptions and answers of the API."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from hierseg.page.blocks import NOT_UPLOADED
from hierseg.page.mcp import TAKEN
from tests import REPOSITORY
from tests.server import Visitor, finished, marked_photo, page_of, running_page, url_of


async def _talk(url: str) -> tuple[Any, Any]:
    photo = base64.b64encode((REPOSITORY / "examples" / "camera.jpg").read_bytes()).decode()
    async with (
        streamable_http_client(f"{url}/gradio_api/mcp/") as (reading, writing, _),
        ClientSession(reading, writing) as session,
    ):
        await session.initialize()
        tools = await session.list_tools()
        answer = await session.call_tool(
            "compare", {"photo": f"data:image/jpeg;base64,{photo}", "level": "upper-lower"}
        )
    return tools.tools, answer


def test_segment_and_compare_are_tools_where_the_environment_asks_for_them(tmp_path: Path) -> None:
    with running_page(tmp_path, GRADIO_MCP_SERVER="true") as url:
        tools, answer = finished(_talk(url))
    described = {tool.name: tool for tool in tools}
    assert set(described) == {"segment", "compare"}
    assert described["segment"].description.startswith("Segment the people in a photo along the tree")
    level = described["compare"].inputSchema["properties"]["level"]
    assert level["enum"] == ["body", "upper-lower", "parts"]
    assert "How far down the tree" in level["description"]
    assert not answer.isError
    assert "share_of_people" in "".join(getattr(part, "text", "") for part in answer.content)


async def _call(url: str, *photos: Any) -> tuple[Any, list[Any]]:
    """Return the tools, and what segment says of each photo."""
    async with (
        streamable_http_client(f"{url}/gradio_api/mcp/") as (reading, writing, _),
        ClientSession(reading, writing) as session,
    ):
        await session.initialize()
        tools = await session.list_tools()
        choices = {"checkpoint": "bce", "level": "body", "opacity": 0.5}
        return tools.tools, [await session.call_tool("segment", {"photo": photo, **choices}) for photo in photos]


def test_an_mcp_tool_takes_what_its_schema_asks_for_and_opens_nothing_else(
    tmp_path: Path, tiny: dict[str, Path]
) -> None:
    site = page_of(tmp_path / "site", {"bce": tiny["bce"]})
    elsewhere = str(REPOSITORY / "examples" / "camera.jpg")
    with (
        # A proxy that is not there: the tools ask the page itself.
        running_page(tmp_path / "uploads", site, GRADIO_MCP_SERVER="true", http_proxy="http://127.0.0.1:9") as url,
        Visitor(url) as visitor,
    ):
        path = visitor.upload(marked_photo(3))
        taken = (path, f"{url}/gradio_api/file={path}", url_of(marked_photo(3)))
        refused = (
            elsewhere,
            f"{url}/gradio_api/file={elsewhere}",
            "https://example.com/a.jpg",
            {"path": elsewhere, "meta": {"_type": "gradio.FileData"}},
            "data:image/jpeg;base64,A",
            "",
        )
        tools, answers = finished(_call(url, *taken, *refused))
        schema = httpx.get(f"{url}/gradio_api/mcp/schema").text
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
