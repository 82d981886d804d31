"""Outputs that must not change when code moves: `python -m tests.golden` stores them, test_golden compares them.

Stored are the masks of the example photos, every loss on one batch, every figure of one evaluation, and what the viewer
must make of small maps. Run it again only to change an output on purpose, and say so in the commit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hierseg.decoding import decode
from hierseg.losses import LOSSES
from hierseg.metrics import Evaluation
from hierseg.predictor import Predictor
from hierseg.tree import Hierarchy
from hierseg.visualize import indexed_image
from studies.losses import rows  # noqa: F401  # enters the predecessor's loss in LOSSES
from tests import CHECKPOINTS, REPOSITORY
from tests.page.viewer.golden import viewer

FOLDER = Path(__file__).parent / "golden"
PHOTOS = ("astronaut", "camera", "grace_hopper")


def losses() -> dict[str, float]:
    """Return every loss, in every reduction, of one batch in which some nodes are unknown."""
    tree = Hierarchy.default()
    random = np.random.RandomState(0)  # the generator whose numbers NumPy promises never to change
    logits = torch.tensor(random.standard_normal((2, len(tree), 12, 10)) * 3, dtype=torch.float64)
    labels = random.choice([tree.background, tree.void, *tree.labels], (2, 12, 10))
    targets, known = (
        torch.from_numpy(table[labels]).permute(0, 3, 1, 2) for table in (tree.membership, tree.knowledge)
    )
    return {
        f"{name}, {reduction}": float(loss(logits, targets, tree, valid=known, reduction=reduction))
        for name, loss in LOSSES.items()
        for reduction in ("node", "level")
    }


def figures() -> dict[str, Any]:
    """Return every figure of an evaluation of two made-up photos."""
    tree = Hierarchy.default()
    random = np.random.RandomState(1)
    evaluation = Evaluation(tree)
    for _ in range(2):
        # whole 32nds, so that every sum of them is exact
        scores = random.randint(0, 33, (len(tree), 40, 30)).astype(np.float32) / 32
        truth = random.choice(np.array([tree.background, tree.void, *tree.labels], np.uint8), (40, 30))
        evaluation.add(scores, decode(scores, tree).labels, truth)
    return evaluation.summary()


def main() -> None:
    """Store everything."""
    FOLDER.mkdir(exist_ok=True)
    for name in CHECKPOINTS:
        predictor = Predictor(name)
        for photo in PHOTOS:
            prediction = predictor.predict(REPOSITORY / "examples" / f"{photo}.jpg")
            indexed_image(prediction.labels, prediction.hierarchy).save(FOLDER / f"{name}-{photo}.png", optimize=True)
    for name, values in (("losses", losses()), ("figures", figures()), ("viewer", viewer())):
        lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in values.items())
        (FOLDER / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def mask(checkpoint: str, photo: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a stored mask."""
    return np.array(Image.open(FOLDER / f"{checkpoint}-{photo}.png"))


if __name__ == "__main__":
    main()
