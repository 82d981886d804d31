"""The page as an MCP server: two tools with the descriptions and answers of the API."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from tests.server import REPOSITORY, finished, running_page


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
