"""Measures a checkpoint at photo resolution: `python -m train evaluate ftm`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from hierseg.metrics import Evaluation
from hierseg.photo import Photo
from hierseg.predictor import Predictor
from train.dataset import Example
from train.report import tables

_LEAST_SIDE = 96  # pixels of a square without people; a smaller one shows next to nothing
_SOMEBODY = 0.01  # of a picture's pixels: more are called somebody


def evaluate(predictor: Predictor, examples: Sequence[Example], progress: bool = True) -> Evaluation:
    """Measure a checkpoint photo by photo, each at its own resolution.

    Args:
        predictor: The checkpoint.
        examples: Annotated photos.
        progress: Show a bar.

    Returns:
        All measures.
    """
    evaluation = Evaluation(predictor.card.hierarchy, predictor.card.calibration)
    for example in tqdm(examples, unit="photo", disable=not progress):
        prediction = predictor.predict(example.photo)
        evaluation.add(prediction.scores, prediction.labels, example.label_map)
    return evaluation


def false_people(predictor: Predictor, photos: Iterable[Photo]) -> dict[str, float | None]:
    """Measure how often somebody is found where nobody is.

    Args:
        predictor: The checkpoint.
        photos: RGB, uint8 (H, W, 3); nobody is on them.

    Returns:
        `photos`: how many; `somebody`: share of them in which more than 1 % of the pixels are decoded to a person;
        `pixels`: mean share of pixels that are. None where there is none.
    """
    background = predictor.card.hierarchy.background
    shares = [float((predictor.predict(photo).labels != background).mean()) for photo in photos]
    return {
        "photos": len(shares),
        "somebody": float(np.mean(np.array(shares) > _SOMEBODY)) if shares else None,
        "pixels": float(np.mean(shares)) if shares else None,
    }


def squares_beside_people(examples: Iterable[Example], background: int) -> Iterator[Photo]:
    """Yield each photo's largest square that shows neither people nor void, unless it is under 96 pixels a side."""
    for example in examples:
        nobody = np.pad((example.label_map == background).astype(np.uint8), 1)
        # To the nearest pixel that does, by rows or columns.
        reach = cv2.distanceTransform(nobody, cv2.DIST_C, 3)[1:-1, 1:-1]
        row, column = np.unravel_index(reach.argmax(), reach.shape)
        arm = int(reach[row, column]) - 1
        if 2 * arm + 1 >= _LEAST_SIDE:
            yield example.photo[row - arm : row + arm + 1, column - arm : column + arm + 1]


def table(title: str, summary: dict[str, Any]) -> str:
    """Lay a summary of `Evaluation` out as Markdown tables."""
    heading = f"{title}: {summary['photos']} photos, photo resolution"
    return "\n\n".join([heading, *tables({title: summary}).values()])
