"""What rounding may change: the last bits of float32 sums depend on processor, threads and shapes."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from hierseg.calibration import Calibration, calibrated
from hierseg.predictor import Prediction
from hierseg.tree import BoolMask, Hierarchy

EPSILON = float(np.finfo(np.float32).eps)
HAIR = 8 * EPSILON  # so far apart two scores may come out that are made of one network's output in other steps
APART = 2e-5  # and those of networks that another engine or process runs: sums of hundreds, layer after layer
TURNED = 1e-3  # share of a photo's pixels that may be decoded otherwise for that; see `assert_labels`


def firm(
    scores: npt.NDArray[np.float32],
    tree: Hierarchy,
    threshold: float,
    certainty: float = 0.0,
    hair: float = HAIR,
    calibration: Calibration | None = None,
) -> BoolMask:
    """Return the pixels whose decoding does not change if every score changes by at most `hair`.

    Args:
        scores: Node scores, float32 (N, H, W).
        tree: The tree.
        threshold: As for `decoding.decode`.
        certainty: As for `decoding.decode`.
        hair: How far scores may move.
        calibration: As for `decoding.decode`.

    Returns:
        Mask, bool (H, W). False where a score is so close to its threshold or rival that rounding decides.
    """
    of_paths = np.array([scores[list(path)].mean(axis=0, dtype=np.float64) for path in tree.paths])
    means = np.sort(of_paths, axis=0)
    best = means[-1]
    second = means[-2] if len(means) > 1 else np.full_like(best, -np.inf)
    somebody = best > threshold
    firm = (np.abs(best - threshold) > hair) & (~somebody | (best - second > 2 * hair))
    if certainty > 0:
        below, above = (calibrated(scores + np.float32(off), calibration) > certainty for off in (-hair, hair))
        followed = np.array([[node in path[1:] for path in tree.paths] for node in range(len(tree))])
        firm &= ~somebody | ~(followed[:, of_paths.argmax(axis=0)] & (below != above)).any(axis=0)
    return np.asarray(firm)


def assert_labels(
    found: npt.NDArray[np.uint8],
    prediction: Prediction,
    level: str | None = None,
    threshold: float | None = None,
    certainty: float = 0.0,
    hair: float = APART,
) -> None:
    """Check that labels are those of a prediction wherever rounding cannot change them, which is nearly everywhere.

    Args:
        found: Labels, uint8 (H, W).
        prediction: A prediction of the same photo by the same network, perhaps in another process.
        level: Name of their level; None for the leaves.
        threshold: As for `Prediction.decoded`.
        certainty: As for `Prediction.decoded`.
        hair: How far scores may move.
    """
    tree = prediction.hierarchy
    cut = prediction.threshold if threshold is None else threshold
    sure = firm(prediction.scores, tree, cut, certainty, hair, prediction.calibration)
    assert sure.mean() > 1 - TURNED
    expected = prediction.at_level(level or tree.level_names[-1], threshold, certainty)
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found[sure], expected[sure])


def assert_figures(found: str, expected: str, apart: float | None = None) -> None:
    """Check that two texts have the same words and whole numbers, and decimals that differ only by rounding.

    Args:
        found: A text.
        expected: Another.
        apart: How far decimals may lie apart; None for one in the last place, which is what another order of summing,
            or a pixel that turns, does to a figure.
    """
    decimal = r"(\d*\.\d+)"
    words, others = re.split(decimal, found), re.split(decimal, expected)
    assert words[::2] == others[::2]
    for one, other in zip(words[1::2], others[1::2], strict=True):
        most = 1.5 * 0.1 ** len(other.partition(".")[2]) if apart is None else apart
        assert abs(float(one) - float(other)) < most, (one, other)
