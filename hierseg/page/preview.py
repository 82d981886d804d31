"""What a link to the page shows before it is opened: a title, a description and a picture.

Messengers and search engines read them in the HTML and run no script. Gradio's HTML names Gradio, and has no title
before its scripts have run, so its template is changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from gradio import routes
from jinja2 import BaseLoader, ChoiceLoader, DictLoader
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

# Shown with each preview, where it is: not in an installation without the repository.
_PICTURE = Path(__file__).resolve().parent.parent.parent / "docs" / "states" / "example-desktop.jpg"

_TEMPLATE = "frontend/index.html"
_TEMPLATES = routes.templates.env
_LOADER = cast(BaseLoader, _TEMPLATES.loader)
_OF_GRADIO = re.compile(r'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>\s*')
_START = '<meta charset="utf-8" />'
# What is said of each page, by its path. `config` and its `root`, the address that the visitor's request was for, are
# Gradio's; its scripts take the title from there.
_TAGS = """
{%- set page = previews.pages[config.get("current_page", "")] or previews.pages[""] %}
{%- set _ = config.update(title=page.title) %}
<title>{{ page.title }}</title>
<meta name="description" content="{{ page.description }}">
<meta property="og:type" content="website">
<meta property="og:title" content="{{ page.title }}">
<meta property="og:description" content="{{ page.description }}">
<meta property="og:url" content="{{ config["root"] }}/{{ config.get("current_page", "") }}">
{%- if previews.picture %}
<meta property="og:image" content="{{ config["root"] }}/preview.jpg">
<meta property="og:image:alt" content="A person in a photo, each body part in a colour of its own">
<meta name="twitter:card" content="summary_large_image">
{%- endif %}
"""


def put_on(pages: Mapping[str, Mapping[str, str]], script: str = "") -> list[Route]:
    """Put previews into the HTML that Gradio serves from now on.

    Args:
        pages: By path, "" for the main page: `title`, also of the browser's tab, and `description`, a sentence or two.
        script: What runs before Gradio's scripts, as an element of HTML.

    Returns:
        What serves the picture.
    """
    content = _PICTURE.read_bytes() if _PICTURE.is_file() else b""
    source = _LOADER.get_source(_TEMPLATES, _TEMPLATE)[0]
    changed = _OF_GRADIO.sub("", source).replace(_START, _START + _TAGS + script)
    _TEMPLATES.loader = ChoiceLoader([DictLoader({_TEMPLATE: changed}), _LOADER])
    _TEMPLATES.globals["previews"] = {"pages": dict(pages), "picture": bool(content)}

    async def serve(_: Request) -> Response:
        return Response(content, media_type="image/jpeg", headers={"cache-control": "public, max-age=86400"})

    return [Route("/preview.jpg", serve)] if content else []
