"""Heavy packages are imported only when needed, so that the page, the command line and light tests start at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import REPOSITORY

COMMANDS = ("hierseg.cli", "train.__main__", "studies.losses.__main__", "studies.predecessor.__main__")

# What a program does, and the packages that it must not import.
PROGRAMS = {
    **{
        f"from {command} import _parser; _parser().format_help()": {"torch", "cv2", "gradio", "albumentations", "scipy"}
        for command in COMMANDS
    },
    "import hierseg": {"numpy", "torch", "cv2"},
    "import app": {"torch", "timm", "albumentations", "scipy", "accelerate", "train", "studies"},
    "import hierseg.network.activations": {"torch"},
    "from hierseg import Predictor; Predictor('bce').predict('examples/astronaut.jpg').at_level('parts')": {
        "torch",
        "torchvision",
        "timm",
        "albumentations",
    },
    "from hierseg.photo import open_photo; open_photo('examples/astronaut.jpg')": {"pi_heif", "torch"},
    "import tests.conftest, tests.page.conftest, tests.tree.test_hierarchy": {"torch", "gradio", "playwright", "train"},
}


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_what_is_not_needed_is_not_imported(program: str) -> None:
    program += "\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & PROGRAMS[program.partition("\n")[0]] == set()
