"""A small archive, its expected results, and an object store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from hierseg.archive.places import Place

if TYPE_CHECKING:
    from hierseg.network.model import ModelSpec
    from hierseg.tree import Hierarchy

DAMAGED = {
    "cut off.jpg": "The photo is damaged or incomplete. Save it again and retry.",
    "empty.png": "The file is empty.",
}


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, tiny_spec: ModelSpec, tree: Hierarchy) -> Path:
    """A checkpoint of a tiny network whose scores differ from pixel to pixel, ready for ONNX Runtime."""
    from hierseg.inference import Inference
    from hierseg.network import checkpoint
    from tests.networks import banded
    from train.export import export

    path = tmp_path_factory.mktemp("archive") / "tiny.safetensors"
    card = checkpoint.Card(tiny_spec, tree, "Tiny", Inference(threshold=0.55))
    checkpoint.save(path, banded(tiny_spec), card)
    export(path)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos with all kinds of names, some damaged, and other files."""
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0)
    for number in range(60):
        place = folder / ("ä b" if number % 3 else "c%20d?")
        place.mkdir(exist_ok=True)
        pixels = noise.integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((80 + number, 64)).save(place / f"{number}.jpg")
    (folder / "cut off.jpg").write_bytes((folder / "ä b" / "1.jpg").read_bytes()[:700])
    (folder / "empty.png").touch()
    (folder / ".hidden").mkdir()
    for name in (".hidden/1.jpg", "._2.jpg", "words.doc"):
        shutil.copy(folder / "ä b" / "1.jpg", folder / name)
    return folder


@pytest.fixture(scope="session")
def store() -> Iterator[str]:
    """The options of a URI in a local object store: s3://bucket/folder + these."""
    from moto.server import ThreadedMotoServer

    secrets = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
    before = dict(os.environ)
    os.environ.update(secrets)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    options = f"?endpoint_override={host}:{port}&scheme=http&allow_bucket_creation=true"
    Place.of(f"s3://bucket{options}").filesystem.create_dir("bucket")
    yield options
    server.stop()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Lets a worker run in this process, which then has one thread."""
    import cv2

    threads = cv2.getNumThreads()
    yield
    cv2.setNumThreads(threads)
