"""A short report on losses, and the picture of a page's previews, as a page's folder has them."""

from __future__ import annotations

from pathlib import Path

PREVIEW = Path("docs") / "states" / "example-desktop.jpg"
QUOTE = "Focal-Tree-Min has +1.2 points more than BCE, & <that> is shown."
TEXT = """# Which loss?

As in [the recipe](../grid.yaml). In short: <!-- quote -->Focal-Tree-Min has
<!-- report: one-other higher -->+1.2<!-- end --> points more than BCE, & <that> is shown.<!-- unquote -->

![Points](losses-points.svg)

Here follow figures.

## Why

| a | b | c | d |
| --- | --- | --- | --- |
| -1.46 [-2.09, -0.84] | -1.46 [-2.09, -0.84] | -1.46 [-2.09, -0.84] | a_very_long_name_of_something |
"""
PLOT = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"><rect width="40" height="30"/></svg>'


def written(folder: Path) -> Path:
    """Write the report and return its folder."""
    folder.mkdir(parents=True)
    (folder / "losses.md").write_text(TEXT)
    (folder / "losses-points.svg").write_text(PLOT)
    return folder
