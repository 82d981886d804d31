"""Measures a checkpoint at photo resolution: `python -m train evaluate ftm`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from hierseg.checkpoint import Card
from hierseg.metrics import DatasetIoU, Evaluation
from hierseg.predictor import segment
from train.dataset import Example
from train.report import TABLES

THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)


def evaluate(
    model: nn.Module,
    card: Card,
    examples: Sequence[Example],
    input_size: int | None = None,
    flip: bool = True,
    second_look: bool = True,
    progress: bool = True,
) -> Evaluation:
    """Measure a network photo by photo, each at its own resolution.

    Args:
        model: The network.
        card: Its spec, tree and threshold.
        examples: Annotated photos.
        input_size: Longest side of the network's input; None for the spec's own.
        flip: As for `predictor.segment`.
        second_look: As for `predictor.segment`.
        progress: Show a bar.

    Returns:
        All measures.
    """
    evaluation = Evaluation(card.hierarchy)
    model.eval()
    for example in tqdm(examples, unit="photo", disable=not progress):
        prediction = segment(model, card, example.photo, input_size, flip, second_look)
        evaluation.add(prediction.scores, prediction.labels, example.label_map)
    return evaluation


@torch.inference_mode()
def choose_threshold(
    model: nn.Module, card: Card, examples: Iterable[Example], thresholds: Sequence[float] = THRESHOLDS
) -> float:
    """Return the decoding threshold with the highest data-set IoU, mean over levels.

    Use training photos: a threshold chosen on the photos that are reported would flatter the report.
    """
    meters = {threshold: DatasetIoU(card.hierarchy) for threshold in thresholds}
    model.eval()
    for example in examples:
        prediction = segment(model, card, example.photo)
        for threshold, meter in meters.items():
            meter.add(prediction.decoded(threshold).labels, example.label_map)
    return max(meters, key=lambda threshold: float(np.mean(list(meters[threshold].levels(False).values()))))


def table(title: str, summary: dict[str, Any]) -> str:
    """Lay a summary of `Evaluation` out as Markdown tables."""
    heading = f"{title}: {summary['photos']} photos, photo resolution"
    return "\n\n".join([heading, *(make({title: summary}) for make in TABLES.values())])
