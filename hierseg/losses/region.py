"""Region losses, to add to a pixel loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

_SIDE = 3  # of a neighbourhood and of what is pooled into one of its places, in pixels
_LEAST_VARIANCE = 1e-3  # added to covariances, so that they can be inverted


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
    _check(scores, targets, valid)
    pixels = (0, 2, 3)
    known = valid.to(torch.promote_types(scores.dtype, torch.float32))
    truth = targets * known
    sums = torch.stack([(scores * truth).sum(pixels), (scores * known).sum(pixels), truth.sum(pixels)])
    both, found, there = sums if reduce_sums is None else reduce_sums(sums)
    losses = 1 - (both + 1) / (found + there - both + 1)
    held = there > 0
    mean: Tensor = (losses * held).sum() / held.sum().clamp(min=1)
    return mean


def region_mutual_information(scores: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Region mutual information loss (RMI; Zhao et al., NeurIPS 2019, arXiv 1910.12037), a region term.

    A pixel stands for its neighbourhood: the d = 9 values of a square of 3 x 3. Over the squares of an image, those of
    a node's targets are vectors Y and those of its scores vectors P. With S the sums of products of deviations from the
    mean, the loss is, but for constants, the paper's bound on the mutual information of Y and P, negated, over d:

        M = S(Y, Y) - S(Y, P) (S(P, P) + e)^-1 S(P, Y),  loss = log det(M + e) / 2 d

    The paper's are the bound, its division by d and the choice of 3 x 3. As in the code that Li et al. (CVPR 2022)
    published for this data set are: first to pool targets and scores, each to the highest of 3 x 3; sums, not means, in
    S; e = .001 times the unit matrix; and to add up nodes. Its factor 1/2 on all of it is left to the caller.

    Args:
        scores: Node scores, float (B, N, H, W), 0 to 1.
        targets: Node masks, bool or 0/1 numbers, same shape.
        valid: Of which nodes of each pixel it is known whether they are on, bool, same shape; elsewhere scores and
            targets count as 0.

    Returns:
        The mean over images, summed over nodes; a scalar, float32. It may be negative.

    Raises:
        ValueError: The shapes differ, or images have a side of less than 7 pixels.
    """
    _check(scores, targets, valid)
    if min(scores.shape[2:]) < 2 * _SIDE + 1:
        raise ValueError(f"Region mutual information needs at least 7 by 7 pixels, not {tuple(scores.shape[2:])}.")
    of_targets, of_scores = (_deviations(each * valid) for each in (targets, scores))
    least = _LEAST_VARIANCE * torch.eye(_SIDE**2, dtype=torch.float64, device=scores.device)
    both = of_targets @ of_scores.mT
    explained = both @ torch.linalg.solve(of_scores @ of_scores.mT + least, both.mT)
    rest = of_targets @ of_targets.mT - explained
    halves = torch.linalg.cholesky(rest + least).diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return (halves / _SIDE**2).mean(0).sum().float()


def _deviations(values: Tensor) -> Tensor:
    """Return the neighbourhoods of values (B, N, H, W), less their mean: float64 (B, N, 9, P)."""
    pooled = functional.max_pool2d(values.float(), _SIDE, padding=_SIDE // 2)
    squares = functional.unfold(pooled.flatten(0, 1).unsqueeze(1), _SIDE).unflatten(0, values.shape[:2]).double()
    return squares - squares.mean(-1, keepdim=True)


def _check(scores: Tensor, targets: Tensor, valid: Tensor) -> None:
    if not scores.shape == targets.shape == valid.shape:
        raise ValueError(
            f"Scores are {tuple(scores.shape)}, targets {tuple(targets.shape)} and the valid mask {tuple(valid.shape)}."
        )
