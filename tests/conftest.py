"""Shared fixtures: the default tree, a tiny network's checkpoint, and real photos where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from hypothesis import settings

from hierseg import checkpoint
from hierseg.hierarchy import Hierarchy
from hierseg.model import ModelSpec, build

# Deadlines are absolute times, which a busy machine breaks; examples are the same on every run.
settings.register_profile("hierseg", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("hierseg")

REPOSITORY = Path(__file__).resolve().parent.parent
REAL_DATA = REPOSITORY.parent / "shared" / "pascal-part"


@pytest.fixture(scope="session")
def tree() -> Hierarchy:
    """The default tree."""
    return Hierarchy.default()


@pytest.fixture(scope="session")
def tiny_spec() -> ModelSpec:
    """A network small enough to train and run within a second."""
    return ModelSpec(encoder="tu-test_efficientnet", input_size=64, options={"decoder_channels": [8, 8, 8, 8, 8]})


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_spec: ModelSpec, tree: Hierarchy) -> Path:
    """A checkpoint of the tiny network with random weights."""
    path = tmp_path_factory.mktemp("checkpoints") / "tiny.safetensors"
    checkpoint.save(path, build(tiny_spec), checkpoint.Card(tiny_spec, tree, title="Tiny"))
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The real data folder; tests that need it are skipped where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip("the PASCAL-Person-Part photos are not on this machine (they may not be redistributed)")
    return REAL_DATA
