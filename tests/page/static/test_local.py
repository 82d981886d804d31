"""What the static page computes in the browser is what the library computes on a server."""

from __future__ import annotations

import base64
import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from hierseg.inference import Inference, Zoom
from hierseg.network.checkpoint import Card
from hierseg.network.model import ModelSpec
from hierseg.page import payload
from hierseg.photo import Letterbox
from hierseg.photo.zoom import Window, windows
from hierseg.predictor import Predictor
from hierseg.tree import Hierarchy
from tests.page.viewer.golden import UNEVEN

SCRIPT = Path(__file__).with_name("local.mjs")
Picture = npt.NDArray[np.uint8]


def asked(calls: list[tuple[str, list[Any]]]) -> list[Any]:
    """Have Node answer calls of the browser's functions."""
    node = shutil.which("node")
    if not node:
        pytest.skip("there is no Node on this machine")
    done = subprocess.run([node, SCRIPT], input=json.dumps(calls), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def noise(height: int, width: int, grain: int = 1) -> Picture:
    """Random colours in blocks of `grain` pixels."""
    random = np.random.RandomState(height * 1000 + width)
    small = random.randint(0, 256, (-(-height // grain), -(-width // grain), 3))
    return small.repeat(grain, 0).repeat(grain, 1)[:height, :width].astype(np.uint8)


def sent(photo: Picture) -> dict[str, Any]:
    return {"width": photo.shape[1], "height": photo.shape[0], "data": base64.b64encode(photo.tobytes()).decode()}


def received(text: str, shape: tuple[int, ...]) -> Picture:
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape)


def test_a_photo_is_resized_to_the_bit_as_pillow_does_it() -> None:
    cases = [
        ((61, 97), (32, 32)),
        ((500, 375), (320, 240)),
        ((300, 40), (64, 9)),
        ((64, 64), (64, 64)),
        ((64, 48), (64, 32)),
        ((37, 53), (96, 64)),
        ((1280, 853), (320, 213)),
        ((1111, 777), (160, 112)),
        ((701, 1201), (113, 193)),
    ]
    photos = [noise(*size) for size, _ in cases]
    found = asked([("resize", [sent(photo), to[1], to[0]]) for photo, (_, to) in zip(photos, cases, strict=True)])
    for photo, (_, to), text in zip(photos, cases, found, strict=True):
        expected = Image.fromarray(photo).resize(to[::-1], Image.Resampling.BILINEAR, reducing_gap=2.0)
        np.testing.assert_array_equal(received(text, (*to, 3)), np.asarray(expected))


def test_a_large_photo_is_shrunk_as_opencv_does_it() -> None:
    cases = [((130, 97), (64, 48)), ((200, 300), (128, 192)), ((256, 128), (64, 32)), ((150, 150), (149, 149))]
    photos = [noise(*size) for size, _ in cases]
    found = asked([("shrink", [sent(photo), to[1], to[0]]) for photo, (_, to) in zip(photos, cases, strict=True)])
    for photo, (_, to), text in zip(photos, cases, found, strict=True):
        expected = cv2.resize(photo, to[::-1], interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(received(text, (*to, 3)) - expected).max() <= 1  # ties are rounded one way or the other


def test_a_letterbox_lies_where_the_library_has_it() -> None:
    random = np.random.RandomState(0)
    cases = [
        (*(int(side) for side in random.randint(1, 2000, 2)), int(random.choice([224, 320, 384]))) for _ in range(200)
    ]
    for case, found in zip(cases, asked([("fit", list(case)) for case in cases]), strict=True):
        assert found == json.loads(json.dumps(dataclasses.asdict(Letterbox.fit(*case))))


def test_a_window_of_a_photo_is_laid_on_its_canvas() -> None:
    photo = noise(300, 450)
    calls = [(Window(0, 0, 300, 450), 320), (Window(20, 31, 140, 260), 320), (Window(0, 7, 300, 90), 224)]
    found = asked([("lay", [sent(photo), dataclasses.asdict(window), size, [127, 3, 250]]) for window, size in calls])
    for (window, size), text in zip(calls, found, strict=True):
        box = Letterbox.fit(*window.size, size)
        expected = box.apply(photo[window.top : window.bottom, window.left : window.right], (127, 3, 250))
        np.testing.assert_array_equal(received(text, expected.shape), expected)


def test_windows_are_those_of_the_library() -> None:
    random = np.random.RandomState(1)
    cases = []
    for _ in range(60):
        scores = np.zeros((int(random.randint(20, 200)), int(random.randint(20, 200))), np.float32)
        for _ in range(random.randint(0, 6)):
            top, left = (random.randint(0, side) for side in scores.shape)
            scores[top : top + random.randint(1, 40), left : left + random.randint(1, 25)] = random.rand()
        photo = tuple(int(side * random.randint(1, 8)) for side in scores.shape)
        cases.append((scores, photo, Zoom(largest=float(random.choice([0.5, 0.7, 1.0])))))
    calls = [
        (
            "windows",
            [
                {"height": len(scores), "width": scores.shape[1], "data": scores.ravel().tolist()},
                photo,
                dataclasses.asdict(zoom),
            ],
        )
        for scores, photo, zoom in cases
    ]
    expected = [[dataclasses.asdict(window) for window in windows(*case)] for case in cases]
    assert sum(map(len, expected)) > 40
    assert asked(calls) == expected


class Channels:
    """The network of local.mjs: node k sees the channel k modulo 3, weaker the later it comes."""

    engine = "NumPy"

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes

    def __call__(self, pictures: Picture) -> npt.NDArray[np.float32]:
        """Return scores, float32 (B, N, H, W)."""
        planes = (pictures.astype(np.float64) / 255).astype(np.float32).transpose(0, 3, 1, 2)
        return np.stack([planes[:, node % 3] * np.float32(1 - node / 32) for node in range(self._nodes)], axis=1)


INFERENCES = [
    Inference(input_size=64, mirror=False, zoom=None),
    Inference(input_size=64, zoom=None),
    Inference(input_size=64, mirror_size=96, zoom=Zoom(largest=0.9)),
    Inference(input_size=96, zoom=Zoom(windows=2, found=0.6)),
]


@pytest.mark.parametrize("tree", [Hierarchy.default(), UNEVEN], ids=["default", "uneven"])
def test_a_photo_gets_the_maps_that_the_server_would_send(tree: Hierarchy) -> None:
    lines = tuple((0.5 + node / 8, 0.3 - node / 10) for node in range(len(tree)))
    card = Card(ModelSpec(classes=len(tree)), tree, "Channels", calibration=lines)
    described = {
        "nodes": [{"path": list(lineage)} for lineage in tree.lineages],
        "levels": list(tree.level_names),
    }
    fill = [round(mean * 255) for mean in card.spec.mean]
    photos = [noise(90, 130, 16), noise(200, 120, 40), np.full((40, 40, 3), 90, np.uint8)]
    photos[1][:150] //= 8  # somebody small
    cases = [(photo, inference) for photo in photos for inference in INFERENCES]
    found = asked(
        [
            (
                "predict",
                [
                    sent(photo),
                    {"inference": dataclasses.asdict(inference), "fill": fill, "calibration": lines},
                    described,
                ],
            )
            for photo, inference in cases
        ]
    )
    zoomed = 0
    for (photo, inference), text in zip(cases, found, strict=True):
        predictor = Predictor.__new__(Predictor)
        predictor.name, predictor.network, predictor.card = "channels", Channels(len(tree)), card
        predictor.inference = inference
        prediction = predictor.predict(photo)
        zoomed += len(prediction.zoomed)
        expected = payload.maps(prediction)
        differing = received(text, expected.shape) != expected
        assert differing.mean() < 1e-3  # where float32 is rounded in another order
        steps = slice(1, 2 + len(tree.levels))
        assert np.abs(received(text, expected.shape)[steps].astype(int) - expected[steps]).max() <= 1
    assert zoomed
