"""The predecessor's evaluation, so that its published figures can be compared with ours.

Photos and masks are padded with zeros, scaled so that their shorter side has 224 pixels, and cropped to the square in
the middle. The padding should make a square, but its arguments are passed in the wrong order: a wide photo is padded at
the right and bottom, not at the top and bottom; a tall one at the left and top, not at the left and right. The crop
then cuts off part of the photo: an eighth of one of 500 x 375 pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from hierseg.decoding import best_paths, decode_rounding
from hierseg.metrics import count, level_means, predecessor_iou, stack
from hierseg.photo import Photo
from hierseg.predictor import Predictor
from hierseg.tree import UInt8Map
from train.dataset import Example

SIDE = 224


def measure(predictor: Predictor, examples: Iterable[Example]) -> dict[str, Any]:
    """Measure a checkpoint as the predecessor measured its own.

    The network sees the square once. In each pixel, scores on the best path are rounded at 0.5 and all others are 0;
    `metrics.predecessor_iou` describes the rest.

    Args:
        predictor: The checkpoint.
        examples: Annotated photos.

    Returns:
        `photos`, and the mean IoU of `levels` and `nodes` by name.
    """
    tree, photos = predictor.card.hierarchy, []
    for example in tqdm(examples, unit="photo", mininterval=5):
        photo, label_map = square(example.photo, example.label_map)
        (scores,) = predictor.network(photo[None])
        on_path = np.moveaxis(tree.ancestors[best_paths(scores, tree).leaves], -1, 0)
        photos.append(count({"predecessor": decode_rounding(scores, tree) & on_path}, label_map, tree))
    ious = predecessor_iou(stack(photos), "predecessor").mean(axis=0)
    return {
        "photos": len(photos),
        "levels": {level: float(value) for level, value in level_means(ious, tree).items()},
        "nodes": dict(zip(tree.nodes, ious.tolist(), strict=False)),
    }


def square(photo: Photo, label_map: UInt8Map) -> tuple[Photo, UInt8Map]:
    """Prepare a photo as the predecessor does.

    The photo is scaled with antialiasing, as in its library since 2023; masks by nearest neighbour.

    Args:
        photo: RGB, uint8 (H, W, 3).
        label_map: Labels, uint8 (H, W).

    Returns:
        Both at 224 x 224 pixels. Padding is 0: black, and background in the predecessor's label maps.
    """
    colors = _scaled(_padded(torch.tensor(photo).permute(2, 0, 1)), mode="bilinear", antialias=True)
    labels = _scaled(_padded(torch.tensor(label_map)[None]), mode="nearest")
    return _middle(colors).permute(1, 2, 0).numpy(), _middle(labels)[0].numpy()


def _padded(channels: Tensor) -> Tensor:
    """Pad (C, H, W) by amounts that would make a square in the right order."""
    height, width = channels.shape[1:]
    side = max(height, width)
    beside, above = (side - width) // 2, (side - height) // 2
    return functional.pad(channels, (beside, above, beside, above))  # pad expects left, right, top, bottom


def _scaled(channels: Tensor, **how: Any) -> Tensor:
    height, width = channels.shape[1:]
    short = min(height, width)
    size = (SIDE * height // short, SIDE * width // short)
    return functional.interpolate(channels[None].float(), size, **how)[0].round().to(torch.uint8)


def _middle(channels: Tensor) -> Tensor:
    top, left = (round((side - SIDE) / 2) for side in channels.shape[1:])
    return channels[:, top : top + SIDE, left : left + SIDE]
