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
    """Region mutual information loss (RMI; Zhao et al., NeurIPS 2019, arXiv 1910.12037).

    Each 3 x 3 square of pixels gives a vector of d = 9 targets and one of 9 scores. For a node's targets T and scores P
    in an image, let S(A, B) be the sum over squares of products of deviations from the mean. With

        M = S(T, T) - S(T, P) (S(P, P) + e)^-1 S(P, T)

    the loss is log det(M + e) / (2 d): up to a constant, minus the paper's lower bound on the mutual information of T
    and P, divided by d. The rest follows the code that Li et al. (CVPR 2022) published for PASCAL-Person-Part: targets
    and scores are max-pooled over 3 x 3 pixels first; S is a sum, not a mean; e is 0.001 times the unit matrix; losses
    are added over nodes. That code halves the result, this function does not.

    Args:
        scores: Node scores, float (B, N, H, W), 0 to 1.
        targets: Node masks, bool or 0/1 numbers, same shape.
        valid: True where the target is known, bool, same shape; elsewhere scores and targets count as 0.

    Returns:
        A scalar, float32: the mean over images, summed over nodes. It may be negative.

    Raises:
        ValueError: The shapes differ, or an image has fewer than 7 by 7 pixels.
    """
    _check(scores, targets, valid)
    if min(scores.shape[2:]) < 2 * _SIDE + 1:
        raise ValueError(f"Region mutual information needs at least 7 by 7 pixels, not {tuple(scores.shape[2:])}.")
    of_targets, of_scores = (_deviations(each * valid) for each in (targets, scores))
    least = _LEAST_VARIANCE * torch.eye(_SIDE**2, dtype=torch.float64, device=scores.device)
    both = of_targets.mT @ of_scores
    explained = both @ torch.linalg.solve(of_scores.mT @ of_scores + least, both.mT)
    rest = of_targets.mT @ of_targets - explained
    halves = torch.linalg.cholesky(rest + least).diagonal(dim1=-2, dim2=-1).log().sum(-1)
    loss: Tensor = (halves / _SIDE**2).mean(0).sum().float()
    return loss


def _deviations(values: Tensor) -> Tensor:
    """Return the neighbourhoods of values (B, N, H, W), less their mean: float64 (B, N, P, 9)."""
    pooled = functional.max_pool2d(values.float(), _SIDE, padding=_SIDE // 2).double()
    squares = pooled.unfold(2, _SIDE, 1).unfold(3, _SIDE, 1)  # views; functional.unfold takes ten times as long
    squares = squares.flatten(4).flatten(2, 3)
    return squares - squares.mean(-2, keepdim=True)


def _check(scores: Tensor, targets: Tensor, valid: Tensor) -> None:
    if not scores.shape == targets.shape == valid.shape:
        raise ValueError(
            f"Scores are {tuple(scores.shape)}, targets {tuple(targets.shape)} and the valid mask {tuple(valid.shape)}."
        )
