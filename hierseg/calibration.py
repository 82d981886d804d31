"""Scores that mean what they say: of all pixels shown as a head with a confidence of .8, four in five are one.

Each node has a slope and an intercept on the logits of its scores (Platt, 1999), fitted once on training photos by
`python -m train calibrate` and kept in the checkpoint. Paths and background are decoded from the scores as they are;
what people read as a confidence is calibrated, and so is what decoding compares with a certainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # a checkpoint's card needs no OpenCV
    from hierseg.decoding import Scores

Calibration = tuple[tuple[float, float], ...]  # for each node the slope and the intercept
_SUREST = 12.0  # largest logit that is told from one beyond it; a score of .999994


def logits(scores: Scores) -> Scores:
    """Return the logits of scores, limited to -12 to 12, same shape and type."""
    least = np.float32(1 / (1 + np.exp(_SUREST)))
    clipped = np.clip(scores, least, 1 - least)
    return np.asarray(np.log(clipped / (1 - clipped)))  # one logarithm; NumPy's log1p takes several times as long


def calibrated(scores: Scores, calibration: Sequence[tuple[float, float]] | None) -> Scores:
    """Return scores that can be read as probabilities.

    Args:
        scores: Of all nodes, float32 (N, ...), 0 to 1.
        calibration: Slope and intercept of each node, N pairs; None leaves the scores as they are.

    Returns:
        1 / (1 + exp(-(slope * logit + intercept))), float32, same shape.

    Raises:
        ValueError: There are not as many pairs as nodes.
    """
    if calibration is None:
        return scores
    slopes, intercepts = lines(calibration, len(scores)).reshape(2, -1, *(1,) * (scores.ndim - 1))
    return on_lines(scores, slopes, intercepts)


def lines(calibration: Sequence[tuple[float, float]], nodes: int) -> Scores:
    """Return the slopes and the intercepts of a calibration, float32 (2, N).

    Raises:
        ValueError: They are not of so many nodes.
    """
    if len(calibration) != nodes:
        raise ValueError(f"There are {len(calibration)} pairs for the scores of {nodes} nodes.")
    return np.array(calibration, np.float32).T


def on_lines(scores: Scores, slopes: Scores, intercepts: Scores) -> Scores:
    """Return scores calibrated by a slope and an intercept each, float32; shapes are broadcast."""
    return np.asarray(1 / (1 + np.exp(-(slopes * logits(scores) + intercepts))), np.float32)
