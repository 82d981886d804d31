"""A SegFormer whose edges follow the photo's: `architecture: GuidedSegformer` in a recipe.

SegFormer computes logits at a quarter of the input's size and enlarges them bilinearly, so edges are blurred. Here they
are enlarged to half the size by a guided filter: in each neighbourhood of 3 by 3 cells, a node's logits are fitted by
least squares as a linear function of the photo's red, green and blue, and the functions, enlarged bilinearly, are
applied to the photo at half its size. It needs no weights, so weights of a Segformer fit.

Sources: He, Sun and Tang, "Guided image filtering", TPAMI 2013; applied at a coarse size: He and Sun, "Fast guided
filter", 2015, arXiv 1505.00996.
"""

from __future__ import annotations

from hierseg.network import _torchvision  # noqa: F401  # must come before smp

import segmentation_models_pytorch as smp  # isort: skip
import torch
from torch import Tensor
from torch.nn import functional

_FLAT = 1e-3  # variance of normalised colours, -1 to 1, below which there is no edge: a deviation of four grey levels


class GuidedSegformer(smp.Segformer):  # type: ignore[misc]  # smp has no types
    """SegFormer with guided enlarging."""

    def __init__(self, **options: object) -> None:
        """Build the network; options as for `segmentation_models_pytorch.Segformer`."""
        super().__init__(**options, upsampling=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, N, H, W) of normalised RGB (B, 3, H, W)."""
        return guided(super().forward(images), images)


def guided(logits: Tensor, images: Tensor) -> Tensor:
    """Enlarge logits along the edges of the images that they belong to.

    Args:
        logits: At a quarter of the images' size, (B, N, H / 4, W / 4).
        images: Normalised RGB, (B, 3, H, W), H and W multiples of 4.

    Returns:
        Logits, float32 (B, N, H, W).
    """
    with torch.autocast(logits.device.type, enabled=False):  # bfloat16 has too few digits for variances
        logits, half = logits.float(), functional.avg_pool2d(images.float(), 2)
        slopes, offset = _fit(functional.avg_pool2d(half, 2), logits)
        red, green, blue, offset = _enlarged(_mean(torch.cat([slopes.flatten(1, 2), offset], 1))).chunk(4, 1)
        return _enlarged(red * half[:, :1] + green * half[:, 1:2] + blue * half[:, 2:] + offset)


def _fit(colours: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Fit logits (B, N, h, w) by colours (B, 3, h, w) around each cell: slopes (B, 3, N, h, w), offset (B, N, h, w)."""
    red, green, blue = colours.unsqueeze(2).unbind(1)  # each (B, 1, h, w)
    products = (red * red, red * green, red * blue, green * green, green * blue, blue * blue)
    means = _mean(torch.cat([colours, logits, *products, red * logits, green * logits, blue * logits], 1))
    nodes = logits.shape[1]
    of_colours, mean, of_products, red_logits, green_logits, blue_logits = torch.split(
        means, [3, nodes, 6, nodes, nodes, nodes], 1
    )
    red, green, blue = of_colours.unsqueeze(2).unbind(1)
    rr, rg, rb, gg, gb, bb = of_products.unsqueeze(2).unbind(1)
    # The symmetric matrix of the colours' covariances, and its inverse by cofactors.
    rr, gg, bb = rr - red * red + _FLAT, gg - green * green + _FLAT, bb - blue * blue + _FLAT
    rg, rb, gb = rg - red * green, rb - red * blue, gb - green * blue
    cofactors = (gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg)
    determinant = rr * cofactors[0] + rg * cofactors[1] + rb * cofactors[2]
    inverse_rr, inverse_rg, inverse_rb = (cofactor / determinant for cofactor in cofactors)
    inverse_gg = (rr * bb - rb * rb) / determinant
    inverse_gb = (rg * rb - rr * gb) / determinant
    inverse_bb = (rr * gg - rg * rg) / determinant
    # Covariances of colours and logits.
    r, g, b = red_logits - red * mean, green_logits - green * mean, blue_logits - blue * mean
    slopes = torch.stack(
        (
            inverse_rr * r + inverse_rg * g + inverse_rb * b,
            inverse_rg * r + inverse_gg * g + inverse_gb * b,
            inverse_rb * r + inverse_gb * g + inverse_bb * b,
        ),
        1,
    )
    return slopes, mean - slopes[:, 0] * red - slopes[:, 1] * green - slopes[:, 2] * blue


def _mean(maps: Tensor) -> Tensor:
    """Return the mean of 3 by 3 neighbours; a map goes on beyond its edges as it is there."""
    padded = functional.pad(maps, (1, 1, 1, 1), mode="replicate")
    rows = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]  # in ONNX Runtime, faster than pooling
    return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9


def _enlarged(maps: Tensor) -> Tensor:
    return functional.interpolate(maps, scale_factor=2, mode="bilinear")
