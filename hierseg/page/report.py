"""The report in `studies/losses/report` as a page beside the viewer's, and a sentence of it."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent.parent / "studies" / "losses" / "report"

_MARKS = re.compile(r"<!--.*?-->")
_PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)\n")
_UNTITLED = "In figures"  # what comes between the picture and the first heading
_HEADING = re.compile(r"^## (.*)\n", re.MULTILINE)


@dataclass(frozen=True)
class Report:
    """What the page shows of the comparison.

    Attributes:
        quote: A sentence of it on the losses of the page's checkpoints.
        text: Markdown that needs no other file. What follows its first picture is folded, section by section.
    """

    quote: str
    text: str


def read(folder: Path = FOLDER) -> Report | None:
    """Read the report whose figures `python -m studies.losses report` set.

    Args:
        folder: Where.

    Returns:
        The report, or None where it is not, as in an installation without the repository.
    """
    if not (folder / "losses.md").is_file():
        return None
    marked = (folder / "losses.md").read_text("utf-8")
    _, _, quoted = marked.partition("<!-- quote -->")
    quote = _MARKS.sub("", quoted.partition("<!-- unquote -->")[0])
    text = _folded(_MARKS.sub("", marked))
    text = re.sub(r"\(([\w-]+\.svg)\)", lambda match: f"({_data_url(folder / match[1])})", text)
    # Links to other files of the repository lead nowhere here; their words stay.
    return Report(" ".join(quote.split()), re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", text))


def _folded(text: str) -> str:
    if not (picture := _PICTURE.search(text)):
        return text
    first, *others = _HEADING.split(text[picture.end() :])
    sections = [(_UNTITLED, first), *zip(others[::2], others[1::2], strict=True)]
    folded = [
        f"<details>\n<summary>{title}</summary>\n\n{section.strip()}\n\n</details>\n"
        for title, section in sections
        if section.strip()
    ]
    return "\n".join([text[: picture.end()], *folded])


def _data_url(plot: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(plot.read_bytes()).decode()}"
