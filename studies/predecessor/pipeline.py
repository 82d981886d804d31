"""The predecessor's pipeline, rebuilt from its description with random weights.

A ResNet101 U-Net in float32 that ends in a sigmoid; the photo is padded to a square and shrunk to 224 px, and each
path's mean and each node's mask are computed in a loop. Our code opens the photo and draws masks, in the same time.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from hierseg.network import _torchvision  # noqa: F401  # before smp
from hierseg.photo import Photo, open_photo
from hierseg.tree import Hierarchy
from hierseg.visualize import overlay

import segmentation_models_pytorch as smp  # isort: skip

SIZE = 224


class Pipeline:
    """Turns the bytes of a photo into the photo with its masks drawn over it."""

    def __init__(self) -> None:
        """Build the network with random weights, which take the same time as trained ones."""
        self.tree = Hierarchy.default()
        self.network = smp.Unet("resnet101", encoder_weights=None, classes=len(self.tree), activation="sigmoid").eval()
        self.mean, self.std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

    @torch.inference_mode()
    def __call__(self, data: bytes) -> Photo:
        """Segment and draw one photo."""
        photo = open_photo(data)
        height, width = photo.shape[:2]
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        image = torch.from_numpy(photo).permute(2, 0, 1).float() / 255
        image = functional.pad(image, (left, side - width - left, top, side - height - top))
        image = functional.interpolate(image[None], (SIZE, SIZE), mode="bilinear", antialias=True)[0]
        scores = self.network(((image - self.mean) / self.std)[None])[0]
        paths = torch.stack([torch.stack([scores[node] for node in path]).mean(0) for path in self.tree.paths])
        best = paths.argmax(0)
        masks = torch.zeros_like(scores)
        for number, path in enumerate(self.tree.paths):
            for node in path:
                masks[node][(best == number) & (paths[number] > 0.5)] = 1
        masks = functional.interpolate(masks[None], (side, side))[0, :, top : top + height, left : left + width]
        labels = np.zeros((height, width), dtype=np.uint8)
        for node, label in enumerate(self.tree.labels):
            labels[masks[node].numpy() > 0] = label
        return overlay(photo, labels, self.tree)
