"""The tree-triplet loss: embeddings of pixels lie as far apart as their labels do in the tree.

It is that of Li et al., "Deep Hierarchical Semantic Segmentation", CVPR 2022 (arXiv 2203.14335). The paper's are the
head, dropped after training, the distance, which triplets there are, the margin, and the weight that rises while
training goes on. Where it leaves a choice, or was written for another set-up, this is ours:

- Background, which the paper's code leaves out, is a leaf beside the roots, under one more node on top of all. It is
  never the positive of a pixel of the tree: in a deep tree it would be nearer than a far part of the same person.
- The margin divides by the longest distance between two labels. That is 2 D for the paper's D, the tree's height,
  where all leaves lie equally deep under one root.
- Like the paper's code, a step takes some pixels of each label. Here they are drawn at random, each label gives equally
  many triplets, and all pairs of other labels that the paper's rule allows are used, the anchor's own label among them.
- Several processes do not exchange pixels: each draws triplets from its own part of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from hierseg.network.model import ModelError
from hierseg.tree import Hierarchy

_LEAST_MARGIN = 0.1


class Draw(NamedTuple):
    """Pixels that are drawn for triplets.

    Attributes:
        nodes: The node of each label that occurs, N for background: int64 (L,).
        pixels: Which pixels, all different, those of one label together: int64 (P,).
        anchors: For each label the places in `pixels` of its anchors, int64 (L, K).
        others: Likewise of the pixels that anchors are compared with, the k-th with the k-th: int64 (L, K).
        alone: Which labels have one pixel only, so that it would be compared with itself: bool (L,).
    """

    nodes: Tensor
    pixels: Tensor
    anchors: Tensor
    others: Tensor
    alone: Tensor


def tree_triplet(
    features: Tensor,
    labels: Tensor,
    hierarchy: Hierarchy,
    pixels: int = 200,
    generator: torch.Generator | None = None,
    project: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Tree-triplet loss of a batch.

    A triplet is an anchor, a positive and a negative pixel, where the anchor's label is nearer to the positive's than
    to the negative's. It costs what d(anchor, positive) - d(anchor, negative) + margin is above 0, with half the cosine
    distance as d, from 0 to 1, and the margin 0.1 + 0.5 m, where m in (0, 1] is how much nearer it is, as a share of
    the longest distance in the tree. The mean is taken over an anchor label's triplets, then over anchor labels.

    Args:
        features: Of each pixel, float (B, C, h, w).
        labels: Label maps at that resolution, uint8 (B, h, w). Void pixels are in no triplet.
        hierarchy: The tree.
        pixels: How many pixels of each label are drawn at most, and how many triplets of each three labels.
        generator: Draws them, on the CPU; None for PyTorch's own.
        project: Turns features (P, C) into embeddings (P, E); None to take them as they are. Only pixels that are drawn
            go through it, which for a head that looks at each pixel by itself is the same and far less work.

    Returns:
        A scalar, float32; 0 with gradients of 0 where there is no triplet.

    Raises:
        ValueError: The labels have another resolution than the features.
    """
    if labels.shape != (features.shape[0], *features.shape[2:]):
        raise ValueError(f"The labels are {tuple(labels.shape)} but the features {tuple(features.shape)}.")
    drawn = draw(labels, hierarchy, pixels, generator)
    taken = features.permute(0, 2, 3, 1).flatten(0, 2)[drawn.pixels]
    embeddings = taken if project is None else project(taken)
    with torch.autocast(features.device.type, enabled=False):
        return _loss(functional.normalize(embeddings.float()), drawn, hierarchy)


def draw(labels: Tensor, hierarchy: Hierarchy, pixels: int, generator: torch.Generator | None = None) -> Draw:
    """Draw pixels for triplets, at random and none twice.

    Args:
        labels: Label maps, uint8 (B, h, w).
        hierarchy: The tree.
        pixels: How many of each label at most, K. Labels that have fewer are gone through several times.
        generator: Draws them, on the CPU; None for PyTorch's own.

    Returns:
        The pixels, as numbers into the flattened label maps.
    """
    flat = labels.flatten()
    counts = flat.bincount(minlength=256).tolist()
    nodes, members = [], []
    for node, label in enumerate((*hierarchy.labels, hierarchy.background)):
        if counts[label]:
            of_label = (flat == label).nonzero().squeeze(1)
            nodes.append(node)
            members.append(of_label[torch.randperm(len(of_label), generator=generator)[:pixels].to(flat.device)])
    sizes = torch.tensor([len(chosen) for chosen in members], dtype=torch.int64)
    starts, turns = sizes.cumsum(0) - sizes, torch.arange(pixels)
    anchors, others = (starts[:, None] + (turns + ahead) % sizes[:, None] for ahead in (0, 1))
    return Draw(
        nodes=torch.tensor(nodes, dtype=torch.int64),
        pixels=torch.cat([flat.new_empty(0, dtype=torch.int64), *members]),
        anchors=anchors.to(flat.device),
        others=others.to(flat.device),
        alone=sizes == 1,
    )


def _loss(embeddings: Tensor, drawn: Draw, hierarchy: Hierarchy) -> Tensor:
    """Return the loss of drawn pixels' embeddings of length 1, (P, E)."""
    psi = torch.from_numpy(tree_distances(hierarchy))
    between = psi[drawn.nodes][:, drawn.nodes]
    nearer = between[:, None, :] - between[:, :, None]  # of anchor, positive and negative label
    same = torch.eye(len(drawn.nodes), dtype=torch.bool)
    own = same & ~drawn.alone[:, None]
    allowed = (own | (~same & (drawn.nodes != len(hierarchy))))[:, :, None] & (nearer > 0)
    anchor, positive, negative = allowed.nonzero().unbind(1)
    if not len(anchor):
        return embeddings.sum() * 0  # not a constant: every process must have a gradient for every parameter
    similar = torch.einsum("ake,bke->abk", embeddings[drawn.anchors], embeddings[drawn.others])
    distance = (1 - similar) / 2
    margin = _LEAST_MARGIN + 0.5 * nearer[allowed] / psi.max()
    device = embeddings.device
    costs = functional.relu(distance[anchor, positive] - distance[anchor, negative] + margin.to(device)[:, None])
    counts = anchor.bincount()
    weights = 1 / (counts[anchor] * counts.count_nonzero())  # each anchor label counts the same
    return (costs.mean(1) * weights.to(device)).sum()


def tree_distances(hierarchy: Hierarchy) -> npt.NDArray[np.int64]:
    """Return the number of edges between nodes, (N + 1, N + 1), with one more node on top of all roots.

    The last row and column are background's, a leaf beside the roots.
    """
    above = np.zeros((len(hierarchy) + 1,) * 2, np.int64)
    above[:-1, :-1] = hierarchy.ancestors
    above[-1, -1] = 1
    shared = above @ above.T
    depths = shared.diagonal()
    return np.asarray(depths[:, None] + depths - 2 * shared)


def rising(progress: float) -> float:
    """Return the loss's weight as a share of its last one: half a cosine from 0 at the start, 0, to 1 at the end, 1."""
    return (1 - math.cos(math.pi * progress)) / 2


class WithTriplet(nn.Module):
    """A network with the projection head beside it that the tree-triplet loss needs while it trains.

    Attributes:
        network: The network, whose parameters keep their names; it is used alone after training.
        head: Two 1x1 convolutions with a ReLU between, on what the network's decoder hands to its segmentation head.
    """

    def __init__(self, network: nn.Module, hierarchy: Hierarchy, channels: int = 256, pixels: int = 200) -> None:
        """Put a head of random weights beside a network.

        Args:
            network: Of `hierseg.network.model.build`.
            hierarchy: The tree.
            channels: Of the embeddings.
            pixels: As for `tree_triplet`.

        Raises:
            ModelError: The network has no segmentation head that begins with a convolution.
        """
        super().__init__()
        layers = getattr(network, "segmentation_head", nn.Identity()).modules()
        first = next((layer for layer in layers if not list(layer.children())), None)
        if not isinstance(first, nn.Conv2d):
            raise ModelError(
                f"The tree-triplet loss needs a network with a decoder whose output goes into a convolution that makes "
                f"the scores; {type(network).__name__} has none. Take another architecture or leave triplet out."
            )
        self.network = network
        # 1x1 convolutions of single pixels.
        self.head = nn.Sequential(
            nn.Linear(first.in_channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels)
        )
        self._hierarchy = hierarchy
        self._pixels = pixels

    def forward(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return logits (B, N, H, W) and the tree-triplet loss of images (B, 3, H, W) with labels, uint8 (B, H, W)."""
        kept: list[Tensor] = []
        before_scores = self.network.get_submodule("segmentation_head")
        hook = before_scores.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
        try:
            logits = self.network(images)
        finally:
            hook.remove()
        (features,) = kept
        small = functional.interpolate(labels[:, None], features.shape[2:], mode="nearest-exact")[:, 0]
        generator = torch.Generator().manual_seed(seed)
        return logits, tree_triplet(features, small, self._hierarchy, self._pixels, generator, self.head)
