"""Fixtures for all tests: the default tree, a tiny network and its checkpoint, and the real photos if available.

A fixture imports what it needs itself, so that a light test does not wait for PyTorch.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # sums in one order everywhere; on arrays this small threads only wait

from hypothesis import HealthCheck, settings

from tests import REPOSITORY

if TYPE_CHECKING:
    from hierseg.network.model import ModelSpec
    from hierseg.tree import Hierarchy

# Deadlines are absolute times, which a slow or busy machine breaks; examples are the same on every run.
settings.register_profile(
    "hierseg", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, max_examples=50
)
settings.load_profile("hierseg")

REAL_DATA = REPOSITORY.parent / "shared" / "pascal-part"
LONGEST = ("test_notebooks.py", "test_fit.py", "page", "studies")  # files and folders


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, or one process would be left alone with it at the end."""

    def place(item: pytest.Item) -> int:
        return next((place for place, name in enumerate(LONGEST) if name in item.path.parts), len(LONGEST))

    items.sort(key=place)


def pytest_runtest_setup() -> None:
    """Draw the same random numbers whatever ran before."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(67280421310721)  # with which PyTorch starts


@pytest.fixture(scope="session")
def tree() -> Hierarchy:
    """The default tree."""
    from hierseg.tree import Hierarchy

    return Hierarchy.default()


@pytest.fixture(scope="session")
def tiny_spec() -> ModelSpec:
    """A network small enough to train and run within a second."""
    from hierseg.network.model import ModelSpec

    return ModelSpec(encoder="tu-test_efficientnet", input_size=64, options={"decoder_channels": [8, 8, 8, 8, 8]})


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_spec: ModelSpec, tree: Hierarchy) -> Path:
    """A checkpoint of the tiny network, which knows parts by their brightness."""
    from hierseg.network import checkpoint
    from tests.networks import banded

    path = tmp_path_factory.mktemp("checkpoints") / "tiny.safetensors"
    checkpoint.save(path, banded(tiny_spec), checkpoint.Card(tiny_spec, tree, title="Tiny"))
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The real data folder; tests that need it are skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip("the PASCAL-Person-Part photos are not on this machine (they may not be redistributed)")
    return REAL_DATA
