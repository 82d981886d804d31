"""The report in `studies/losses/report` as a page beside the viewer's, and a sentence of it."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent.parent / "studies" / "losses" / "report"


@dataclass(frozen=True)
class Report:
    """What the page shows of the comparison.

    Attributes:
        quote: A sentence of it on the losses of the page's checkpoints.
        text: Markdown that needs no other file.
    """

    quote: str
    text: str


def read(folder: Path = FOLDER) -> Report | None:
    """Read the report that `python -m studies.losses report` wrote.

    Args:
        folder: Where.

    Returns:
        The report, or None where it is not, as in an installation without the repository.
    """
    text, answer = folder / "losses.md", folder / "losses.json"
    if not text.is_file() or not answer.is_file():
        return None
    plots = re.sub(r"\(([\w-]+\.svg)\)", lambda match: f"({_data_url(folder / match[1])})", text.read_text("utf-8"))
    quote = json.loads(answer.read_text("utf-8"))["quote"]
    # Links to other files of the repository lead nowhere here; their words stay.
    return Report(quote, re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\)", r"\1", plots))


def _data_url(plot: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(plot.read_bytes()).decode()}"
