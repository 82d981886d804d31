"""What the viewer computes without the page is what the library says."""

from __future__ import annotations

import json
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from tests import REPOSITORY
from tests.page.viewer.golden import viewer

HERE = Path(__file__).parent


def test_what_the_viewer_is_held_against_is_what_the_library_says_today() -> None:
    stored = json.loads((REPOSITORY / "tests" / "golden" / "viewer.json").read_text())
    found = json.loads(json.dumps(viewer()))
    for either in (stored, found):
        for tree in either["trees"]:  # other versions of zlib pack otherwise
            tree["packed"] = zlib.decompress(bytes.fromhex(tree["packed"]))
    assert found == stored


def test_the_viewer_computes_what_the_library_does() -> None:
    node = shutil.which("node")
    if not node:
        pytest.skip("there is no Node on this machine")
    done = subprocess.run([node, "--test", *sorted(HERE.glob("*.test.mjs"))], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
