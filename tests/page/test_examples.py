"""Tests of hierseg.page.examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from hierseg.page.examples import read
from tests import REPOSITORY

TABLE = """# Photos

| file | what | caption |
|---|---|---|
| b.jpg | a boat | On the water |
| gone.jpg | nothing | Not there |
| a.jpg | a street | A crowd |
"""


def written(folder: Path, readme: str, *names: str) -> Path:
    (folder / "README.md").write_text(readme)
    for name in names:
        (folder / name).touch()
    return folder


def test_order_and_captions_are_those_of_the_table_and_other_photos_come_last(tmp_path: Path) -> None:
    found = read(written(tmp_path, TABLE, "a.jpg", "b.jpg", "at_work.jpg", "._a.jpg"))
    assert [(example.path.name, example.caption) for example in found] == [
        ("b.jpg", "On the water"),
        ("a.jpg", "A crowd"),
        ("at_work.jpg", "At work"),
    ]


@pytest.mark.parametrize("readme", ["", "# Photos", "| file | what |\n|---|---|\n| a.jpg | a street |", "|\n| a.jpg"])
def test_without_captions_photos_are_called_by_their_files(tmp_path: Path, readme: str) -> None:
    found = read(written(tmp_path, readme, "b.jpg", "a.jpg"))
    assert [example.caption for example in found] == ["A", "B"]


def test_each_of_our_photos_has_a_short_caption_of_its_own() -> None:
    found = read(REPOSITORY / "examples")
    readme = (REPOSITORY / "examples" / "README.md").read_text(encoding="utf-8")
    captions = [example.caption for example in found]
    assert len(set(captions)) == len(captions) >= 3
    for example in found:
        assert f"| {example.path.name} | {example.caption} |" in readme
        assert len(example.caption) <= 40  # it stands below a small picture
