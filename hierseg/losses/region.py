"""A region loss, to add to a pixel loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def soft_jaccard(
    scores: Tensor, targets: Tensor, valid: Tensor, reduce_sums: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Soft Jaccard loss (Rahman and Wang, ISVC 2016).

    With scores s and targets t of a node, summed over all pixels of the batch where the node is known,

        1 - (sum(s t) + 1) / (sum(s + t - s t) + 1)

    averaged over the nodes that occur in the batch.

    Args:
        scores: Node scores, float (B, N, H, W), 0 to 1.
        targets: Node masks, bool or 0/1 numbers, same shape.
        valid: True where the target is known, bool, same shape.
        reduce_sums: Adds up sums (3, N) over all processes, with a gradient; None for a single process.

    Returns:
        A scalar, at least float32; 0 with gradients of 0 if no node occurs in the batch.

    Raises:
        ValueError: The shapes differ.
    """
    if not scores.shape == targets.shape == valid.shape:
        raise ValueError(
            f"Scores are {tuple(scores.shape)}, targets {tuple(targets.shape)} and the valid mask {tuple(valid.shape)}."
        )
    pixels = (0, 2, 3)
    known = valid.to(torch.promote_types(scores.dtype, torch.float32))
    truth = targets * known
    sums = torch.stack([(scores * truth).sum(pixels), (scores * known).sum(pixels), truth.sum(pixels)])
    both, found, there = sums if reduce_sums is None else reduce_sums(sums)
    losses = 1 - (both + 1) / (found + there - both + 1)
    held = there > 0
    mean: Tensor = (losses * held).sum() / held.sum().clamp(min=1)
    return mean
