"""Serves what runs in the browser as ES modules, at addresses that change with their content.

So a browser may keep them for ever, and one that was open when a new version came never mixes old modules with new.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FOLDER = Path(__file__).with_name("viewer")
# Read once: what is served is what the address was made of.
_MODULES = {path.relative_to(_FOLDER).as_posix(): path.read_bytes() for path in sorted(_FOLDER.rglob("*.js"))}
_VERSION = hashlib.sha256(repr(_MODULES).encode()).hexdigest()[:16]
_HEADERS = {"cache-control": "public, max-age=31536000, immutable"}


def address(name: str) -> str:
    """Return where a module is, such as "viewer.js", relative to the page's root."""
    return f"viewer/{_VERSION}/{name}"


# The `js_on_load` of a gr.HTML. The document's address is the page's root, also behind a proxy.
START = f"""
import(new URL("{address("viewer.js")}", document.baseURI)).then(
  ({{ start }}) => start(element),
  () => element.prepend("This page did not load completely. Reload it."),
);
"""


async def _serve(request: Request) -> Response:
    content = _MODULES.get(request.path_params["name"])
    if content is None:
        raise HTTPException(404)
    return Response(content, media_type="text/javascript", headers=_HEADERS)


ROUTE = Route(f"/{address('{name:path}')}", _serve)
