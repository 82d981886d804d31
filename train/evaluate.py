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
    """Lay a summary of `Evaluation` out as a Markdown table with a row a level and a row a node."""
    dataset, seed = summary["dataset_iou"], summary["seed_iou"]
    lines = [
        f"{title}: {summary['photos']} photos, photo resolution",
        "",
        "| | data-set IoU | with background | seed's IoU |",
        "|---|---|---|---|",
    ]
    for level, value in dataset["levels"].items():
        background = dataset["levels_with_background"][level]
        lines.append(f"| **{level}** | {value:.3f} | {background:.3f} | {seed['levels'][level]:.3f} |")
    lines += [f"| {node} | {value:.3f} | | {seed['nodes'][node]:.3f} |" for node, value in dataset["nodes"].items()]
    lines.append(f"| background | {dataset['background']:.3f} | | |")
    lines += ["", f"| data-set IoU by share of person | photos | {' | '.join(dataset['levels'])} |"]
    lines.append("|---|---" + "|---" * len(dataset["levels"]) + "|")
    for size, part in summary["by_person_size"].items():
        values = " | ".join(f"{value:.3f}" for value in part["levels"].values())
        lines.append(f"| {size} | {part['photos']} | {values} |")
    lines += [
        "",
        "Expected calibration error, all pixels and those called person: "
        + ", ".join(
            f"{level} {everywhere:.3f} / {summary['calibration_error']['person_pixels'][level]:.3f}"
            for level, everywhere in summary["calibration_error"]["all_pixels"].items()
        ),
    ]
    violations = summary["violations"]
    lines += ["", f"Pixels that break the tree: raw {violations['raw']:.4%}, decoded {violations['decoded']:.4%}"]
    return "\n".join(lines)
