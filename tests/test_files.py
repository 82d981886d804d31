"""Hidden files, files that are written whole or not at all, and names that are valid on every system."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hierseg import files
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


class DiskFull(OSError):
    """The error of a full disk."""


@contextlib.contextmanager
def full_disk(handle: int, mode: str) -> Iterator[SimpleNamespace]:
    """Opens a file that stores half of what is written to it."""

    def write(payload: bytes) -> None:
        file.write(payload[: len(payload) // 2])
        raise DiskFull

    with open(handle, mode) as file:
        yield SimpleNamespace(write=write)


@pytest.mark.parametrize("moment", ["write", "fsync", "chmod", "replace"])
@pytest.mark.parametrize("error", [DiskFull, KeyboardInterrupt])
@pytest.mark.parametrize("there_before", [True, False])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    moment: str, error: type[BaseException], there_before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ftm.safetensors"
    if there_before:
        path.write_bytes(b"old")

    def fail(*_: Any, **__: Any) -> None:
        raise error

    if moment == "write":
        error = DiskFull
        monkeypatch.setattr(os, "fdopen", full_disk)
    else:
        monkeypatch.setattr(os, moment, fail)
    with pytest.raises(error):
        files.write_atomically(path, b"new" * 1000)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == ([path] if there_before else [])
    assert not there_before or path.read_bytes() == b"old"


@pytest.mark.parametrize("there_before", [True, False])
def test_the_old_file_can_be_kept_and_one_of_both_is_always_there(
    there_before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, kept = tmp_path / "new", tmp_path / "old"
    if there_before:
        path.write_bytes(b"first")
    seen: list[set[bytes]] = []
    replacing = os.replace

    def spy(*paths: Path) -> None:
        replacing(*paths)
        seen.append({file.read_bytes() for file in (path, kept) if file.exists()})

    monkeypatch.setattr(os, "replace", spy)
    files.write_atomically(path, b"second", keep=kept)
    assert seen == ([{b"first"}, {b"first", b"second"}] if there_before else [{b"second"}])


def test_the_new_file_is_on_the_disk_before_it_takes_the_place_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    syncing, replacing = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: order.append("fsync") or syncing(handle))
    monkeypatch.setattr(os, "replace", lambda *paths: order.append("replace") or replacing(*paths))
    files.write_atomically(tmp_path / "new", b"new")
    assert order == ["fsync", "replace"]
