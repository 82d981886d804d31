"""What the viewer must make of small maps, by the library: `python -m tests.golden` stores it for `pure.test.mjs`."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from hierseg import visualize
from hierseg.calibration import Calibration
from hierseg.comparison import differences
from hierseg.files import portable_name
from hierseg.inference import Inference
from hierseg.metrics import count, iou, level_means
from hierseg.page import payload
from hierseg.predictor import Prediction
from hierseg.tree import Hierarchy
from tests.test_files import NAMES
from tests.trees import prediction_of

# Two roots, leaves at every depth, and labels in no order, none of which is 0 or 255.
UNEVEN = Hierarchy.from_dict(
    {
        "name": "uneven",
        "background": 7,
        "void": 3,
        "levels": ["all", "half", "part"],
        "tree": [
            {"name": "cap", "label": 9},
            {
                "name": "body",
                "label": 200,
                "children": [
                    {"name": "tail", "label": 4},
                    {
                        "name": "rump",
                        "label": 5,
                        "children": [{"name": "hip", "label": 90}, {"name": "knee", "label": 8}],
                    },
                ],
            },
        ],
    }
)


def viewer() -> dict[str, Any]:
    """Return what the viewer must make of small maps, for `pure.test.mjs`; maps are in hexadecimal digits."""
    return {
        "steps": payload.STEPS,
        "colors": visualize._DIFFERENCES.tolist(),
        "names": {name: portable_name(name) for name in NAMES},
        "enlarged": [_enlarged((7, 5), (17, 13)), _enlarged((6, 4), (7, 11)), _enlarged((1, 3), (4, 4))],
        "trees": [
            _on_tree(Hierarchy.default()),
            _on_tree(UNEVEN, ((0.8, -0.3), (1.5, 0.7), (3.1, -0.9), (0.6, 0.4), (1.1, 0.2), (0, -0.1))),
        ],
    }


def _on_tree(tree: Hierarchy, calibration: Calibration | None = None) -> dict[str, Any]:
    """Return what follows from one photo's scores, truth and second map on a tree."""
    height, width = shape = (7, 9)
    random = np.random.RandomState(2)
    # whole 32nds, which are exact, with thresholds among them
    scores = random.randint(0, 33, (len(tree), *shape)).astype(np.float32) / 32
    prediction = prediction_of(scores, tree, lines=calibration)
    photo = np.zeros((height, width, 3), np.uint8)
    card = SimpleNamespace(hierarchy=tree, title="Uneven", record={})
    message = payload.scene(
        photo, {"it": SimpleNamespace(card=card, inference=Inference(), risk=None)}, {"it": prediction}
    )
    scene = json.loads(message[4 : 4 + int.from_bytes(message[:4], "big")])
    other = random.choice(np.array([tree.background, *tree.labels], np.uint8), shape)
    truth = random.choice(np.array([tree.background, tree.void, *tree.labels], np.uint8), shape)
    return {
        **{key: scene[key] for key in ("background", "void", "levels", "nodes")},
        "width": width,
        "packed": payload.pack(payload.maps(prediction)).hex(),
        "maps": _hex(payload.maps(prediction)),
        "broken": _hex(prediction.violations()),
        "other": _hex(other),
        "truth": _hex(truth),
        "decoded": [
            _decoded(prediction, threshold, certainty, other, truth)
            for threshold in (50, 75, 95)
            for certainty in (0, 5, 50, 75)
        ],
    }


def _decoded(
    prediction: Prediction, threshold: int, certainty: int, other: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]
) -> dict[str, Any]:
    """Return all that is asked of a prediction by one threshold and certainty."""
    tree = prediction.hierarchy
    decoding = threshold / payload.STEPS, certainty / payload.STEPS
    labels = prediction.decoded(*decoding).labels
    differing = differences(labels, other, tree)
    measured = iou(count({"path": labels}, truth, tree), "path")
    areas = prediction.areas(*decoding).values()
    share = prediction.summary(*decoding)["raw_violations_of_person"]
    return {
        "threshold": threshold,
        "certainty": certainty,
        "labels": _hex(labels),
        "levels": [_hex(tree.at_level(labels, level)) for level in tree.level_names],
        "areas": [[round(value, 6) for value in dataclasses.astuple(area)] for area in areas],
        "broken share": round(share, 6),
        "differing": _hex(differing.map),
        "shares": [round(differing.of_photo, 6), round(differing.of_people, 6)],
        "coco": [_annotation(found) for found in tree.node_masks(labels)],
        "iou": [_rounded(value) for value in measured[: len(tree)]],
        "level iou": [_rounded(value) for value in level_means(measured, tree).values()],
    }


def _annotation(found: npt.NDArray[np.bool_]) -> list[Any] | None:
    """Return a mask's runs as text, its area and its box, as COCO has them; None where it is empty."""
    if not found.any():
        return None
    encoded = coco_mask.encode(np.asfortranarray(found, np.uint8))
    return [encoded["counts"].decode(), int(coco_mask.area(encoded)), coco_mask.toBbox(encoded).tolist()]


def _enlarged(size: tuple[int, int], to: tuple[int, int]) -> dict[str, Any]:
    """Return a map and the number whose mask is highest at each pixel when enlarged by itself; 255 where two are."""
    numbers = np.random.RandomState(3).randint(0, 4, size[::-1]).astype(np.uint8)
    masks = np.stack([cv2.resize((numbers == number).astype(np.float32), to) for number in range(4)])
    second, highest = np.sort(masks, axis=0)[-2:]
    winners = np.where(highest - second < 1e-4, 255, masks.argmax(axis=0)).astype(np.uint8)
    return {"size": size, "to": to, "map": _hex(numbers), "expected": _hex(winners)}


def _hex(numbers: npt.NDArray[Any]) -> str:
    return numbers.tobytes().hex()


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
