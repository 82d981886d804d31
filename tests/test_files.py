"""Hidden files, and names that are valid on every system."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierseg.files import is_hidden, portable_name

NAMES = ["a:b", "CON", "con.x", "com1", "console", "x. .", "a\x01b", "é" * 150, "", "..", "a/b\\c", "Straße 1", ".x"]
NAMES += ["a\ud800b"]  # half a character


@pytest.mark.parametrize(
    "path", ["._a.jpg", ".DS_Store", ".thumbnails/a.jpg", "@eaDir/a.jpg", "__MACOSX/x/a.jpg", "x/.y/a.jpg"]
)
def test_hidden_files_and_all_in_systems_folders_are_hidden(path: str) -> None:
    assert is_hidden(Path(path))


@pytest.mark.parametrize("path", ["a.jpg", "_a.jpg", "x/a..jpg", "MACOSX/a.jpg"])
def test_other_files_are_not_hidden(path: str) -> None:
    assert not is_hidden(Path(path))


@given(st.text() | st.sampled_from(NAMES))
def test_a_portable_name_can_be_held_and_is_its_own(name: str) -> None:
    safe = portable_name(name)
    assert 0 < len(safe.encode()) <= 201
    assert not set(safe) & set('<>:"/\\|?*\0\n\x7f')
    assert not safe.endswith((".", " ")) and safe.split(".")[0].upper() not in ("CON", "NUL", "COM1")
    assert portable_name(safe) == safe or len(safe) > 190


def test_names_that_every_system_holds_stay() -> None:
    for name in ("photo", "Straße 1", "console", "写真", "a.b-c (2)"):
        assert portable_name(name) == name
