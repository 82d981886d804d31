"""Find the risks that a checkpoint can promise, and what keeping them costs: `python -m train risk leaf`.

By conformal risk control (Angelopoulos, Bates, Fisch, Lei and Schuster, ICLR 2024, theorem 1): a photo's loss is the
share of its pixels called a person that have a wrong name. It never rises with the certainty, since all ancestors of a
right node are right. If n photos are exchangeable with future ones, the least certainty with

    n / (n + 1) * mean loss + 1 / (n + 1) <= risk

keeps the risk on average over future photos. Training photos are not exchangeable with future ones, so validation
photos are used: sorted by the SHA-256 of their ids, the first 200 choose the certainties, and the result is measured on
the others. No other figure depends on these certainties: `train evaluate` decodes without one.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from hierseg.decoding import best_paths
from hierseg.metrics import Values, ratio
from hierseg.network.checkpoint import Card
from hierseg.predictor import Prediction, Predictor
from hierseg.risk import RISKS, Promise, RiskControl
from hierseg.tree import Hierarchy, UInt8Map
from train.dataset import Example, split_hash

CERTAINTIES = (np.arange(101) / 100).astype(np.float32)  # candidates; the page distinguishes hundredths


def split(ids: Sequence[str], photos: int) -> tuple[list[str], list[str]]:
    """Return `photos` ids to choose certainties on, and all others; the order of `ids` does not matter."""
    shuffled = sorted(ids, key=lambda name: hashlib.sha256(name.encode()).digest())
    return shuffled[:photos], shuffled[photos:]


def control_risk(predictor: Predictor, chosen: Sequence[Example], others: Sequence[Example]) -> Card:
    """Find the certainties that keep risks.

    Args:
        predictor: The checkpoint.
        chosen: Annotated photos to choose certainties on; one or more.
        others: Annotated photos to measure the result on; one or more.

    Returns:
        The card with the promises.
    """
    losses, _ = outcomes(predictor, chosen)
    held_out, stops = outcomes(predictor, others)
    stops = stops[~np.isnan(stops).any(axis=(1, 2))]  # of photos in which a person was found
    promises = []
    for one_in in RISKS:
        number = least(losses, 1 / one_in)
        if number is not None:
            stopped = (stops[..., number].sum(axis=0) / max(1, len(stops))).tolist()
            promises.append(
                Promise(
                    one_in,
                    number / 100,
                    float(held_out[:, number].mean()),
                    dict(zip(predictor.card.hierarchy.level_names, stopped, strict=True)),
                )
            )
    ids, other_ids = ([example.id for example in examples] for examples in (chosen, others))
    risk = RiskControl(
        tuple(promises), predictor.inference, len(ids), split_hash(ids), len(other_ids), split_hash(other_ids)
    )
    return dataclasses.replace(predictor.card, risk=risk)


def least(losses: Values, risk: float) -> int | None:
    """Return the index of the least certainty that keeps a risk; None if none does.

    Args:
        losses: Losses of n photos at each certainty, (n, C), 0 to 1.
        risk: The risk, 0 to 1.
    """
    photos = len(losses)
    kept = (losses.sum(axis=0) + 1) / (photos + 1) <= risk
    return int(kept.argmax()) if kept.any() else None


def outcomes(predictor: Predictor, examples: Iterable[Example]) -> tuple[Values, Values]:
    """Return the `outcome` of n photos, (n, C) and (n, D, C)."""
    found = [
        outcome(predictor.predict(example.photo), example.label_map)
        for example in tqdm(examples, unit="photo", disable=None)
    ]
    wrong, stops = zip(*found, strict=True)
    return np.stack(wrong), np.stack(stops)


def outcome(prediction: Prediction, truth: UInt8Map) -> tuple[Values, Values]:
    """Return wrong names and stops in a photo at each of C certainties.

    A pixel called a person counts if the truth tells whether its leaf is right; then it tells this for all ancestors.

    Args:
        prediction: A prediction of the photo, to be decoded at its own threshold.
        truth: Labels, uint8 (H, W).

    Returns:
        Share of these pixels with a wrong name, (C,), 0 if there are no pixels; and the share that stop at each of D
        depths, (D, C), nan if there are no pixels. Every leaf counts as being at the greatest depth.
    """
    tree = prediction.hierarchy
    mistakes, depths, lone = _first_mistakes(tree), len(tree.level_names), np.array(tree.depths) == 0
    # Histograms of pixels: at how many certainties, from the lowest, they have a wrong name or reach a depth.
    wrong = np.zeros(len(CERTAINTIES) + 1)
    come = np.zeros((depths + 1, len(CERTAINTIES) + 1))
    for rows, scores in prediction.strips():
        paths = best_paths(scores, tree, prediction.calibration)
        labels = truth[rows]
        counted = (paths.confidence > prediction.threshold) & tree.knowledge[labels, paths.leaves]
        certain = np.minimum.accumulate(paths.scores[1:, counted], axis=0)  # below this a pixel reaches the depth
        come_at = np.full((depths + 1, certain.shape[1]), len(CERTAINTIES))  # a root at all certainties,
        come_at[1:-1] = np.maximum(1, np.searchsorted(CERTAINTIES, certain))  # a leaf at least at 0
        come_at[1:-1, lone[paths.leaves[counted]]] = len(CERTAINTIES)  # also one that is a root
        come_at[-1] = 0  # and nothing beyond
        wrong_at = np.take_along_axis(come_at, mistakes[labels, paths.leaves][counted][None], axis=0)[0]
        wrong += np.bincount(wrong_at, minlength=len(wrong))
        for own, numbers in zip(come, come_at, strict=True):
            own += np.bincount(numbers, minlength=len(own))
    pixels = wrong.sum()
    stops = -np.diff(_more(come), axis=0)
    return np.nan_to_num(ratio(_more(wrong), pixels)), ratio(stops, np.full_like(stops, pixels))


def _more(histogram: Values) -> Values:
    """Return the numbers of pixels with more than 0, 1, ... certainties, from a histogram over certainties."""
    return histogram[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:]


def _first_mistakes(tree: Hierarchy) -> npt.NDArray[np.int64]:
    """Return, for a true label and a leaf, the first depth at which the leaf's path is wrong; D if it is right."""
    depths = len(tree.level_names)
    table = np.full((256, len(tree)), depths)
    for leaf in tree.leaves:
        path = [*tree.lineages[leaf], *[leaf] * depths][:depths]
        mistaken = (tree.knowledge & ~tree.membership)[:, path]
        table[:, leaf] = np.where(mistaken.any(axis=1), mistaken.argmax(axis=1), depths)
    return table
