"""What the page's MCP tools take for a file: what was uploaded to this server, or the file itself as a data URL."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from hierseg.errors import UserError
from hierseg.page.blocks import NOT_UPLOADED, paths_in, was_uploaded

TAKEN = "a file as a data: URL, or the path or address of one that was uploaded to this server at /gradio_api/upload"
_FILE = "/gradio_api/file="


def take_uploads(server: Any) -> None:
    """Have Gradio's MCP server say and take what this page opens.

    Gradio's own schema asks for any http(s) address, of which this page opens none.

    Args:
        server: Gradio's MCP server.
    """
    simplify, convert = server.simplify_filedata_schema, server.convert_strings_to_filedata

    def schema(whole: dict[str, Any]) -> tuple[dict[str, Any], list[list[str | int]]]:
        simplified, places = simplify(whole)
        for name, *_ in places:
            simplified["properties"][name]["format"] = f"Gradio File Input - {TAKEN}"
        return simplified, places

    def files(arguments: dict[str, Any], places: list[list[str | int]]) -> Any:
        named = {place[0] for place in places}
        # Gradio would upload whatever file of this machine is named as one.
        if not all(map(was_uploaded, paths_in(arguments))):
            raise UserError(NOT_UPLOADED)
        return {name: _file(value, convert) if name in named else value for name, value in arguments.items()}

    server.simplify_filedata_schema, server.convert_strings_to_filedata = schema, files


def _file(value: Any, convert: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.startswith("data:"):
        try:
            return convert({"file": value}, [["file"]])["file"]
        except ValueError as error:
            raise UserError("The file did not arrive whole. Send it again.") from error
    path = unquote(value.partition(_FILE)[2]) if _FILE in value else value
    if not was_uploaded(path):
        raise UserError(f"This takes {TAKEN}.")
    return {"path": path, "meta": {"_type": "gradio.FileData"}}
