"""The tree-triplet loss: the nearer two labels are in the tree, the nearer the embeddings of their pixels.

It is that of Li et al., "Deep Hierarchical Semantic Segmentation", CVPR 2022 (arXiv 2203.14335). From the paper come
the head (dropped after training), the distance, the rule for triplets, the margin and the weight that rises during
training. Where the paper leaves a choice or assumes another set-up, these are our choices:

- Background, which the paper's code leaves out, is a leaf beside the roots, under one added node above all. It is never
  a positive for a pixel of the tree: in a deep tree it would be nearer than a distant part of the same person.
- The margin divides by the longest distance between two labels. If all leaves are equally deep under one root, this is
  2 D, with D the height of the tree in the paper.
- As in the paper's code, a step uses some pixels of each label. Here they are drawn at random, each three labels give
  the same number of triplets, and all positive and negative labels that the paper's rule allows are used, including
  the anchor's own label as the positive.
- Processes do not exchange pixels: each draws triplets from its own part of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from hierseg.network.model import ModelError
from hierseg.tree import Hierarchy

_LEAST_MARGIN = 0.1


class Draw(NamedTuple):
    """Pixels drawn for triplets.

    Attributes:
        nodes: The node of each label that occurs, N for background: int64 (L,).
        pixels: Indices of the pixels, all different, grouped by label: int64 (P,).
        anchors: For each label, the indices in `pixels` of its anchors: int64 (L, K).
        others: For each label, the indices in `pixels` of positives and negatives; the k-th anchor meets the k-th:
            int64 (L, K).
        alone: True for a label with a single pixel, which would meet itself: bool (L,).
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
    margin: float | None = None,
) -> Tensor:
    """Tree-triplet loss of a batch.

    A triplet is an anchor a, a positive p and a negative n, three pixels with psi(a, p) < psi(a, n), where psi is the
    distance of their labels in the tree. Its loss is

        max(0, d(a, p) - d(a, n) + 0.1 + 0.5 * (psi(a, n) - psi(a, p)) / max(psi))

    where d is half the cosine distance of embeddings, 0 to 1. The mean is over the triplets of each anchor label, then
    over anchor labels.

    Args:
        features: Features of each pixel, float (B, C, h, w).
        labels: Label maps at that resolution, uint8 (B, h, w). Void pixels are in no triplet.
        hierarchy: The tree.
        pixels: Most pixels to draw per label, and the number of triplets for each three labels.
        generator: Random generator on the CPU; None for PyTorch's default.
        project: Turns features (P, C) into embeddings (P, E); None to use the features. It gets only the drawn pixels,
            which saves work and changes nothing if the head treats each pixel separately.
        margin: A fixed margin, with the cosine distance itself, 0 to 2, as d; None for the margin above.

    Returns:
        A scalar, float32; 0 with gradients of 0 if there is no triplet.

    Raises:
        ValueError: Labels and features differ in resolution.
    """
    if labels.shape != (features.shape[0], *features.shape[2:]):
        raise ValueError(f"The labels are {tuple(labels.shape)} but the features {tuple(features.shape)}.")
    drawn = draw(labels, hierarchy, pixels, generator)
    taken = features.permute(0, 2, 3, 1).flatten(0, 2)[drawn.pixels]
    embeddings = taken if project is None else project(taken)
    with torch.autocast(features.device.type, enabled=False):
        return _loss(functional.normalize(embeddings.float()), drawn, hierarchy, margin)


def draw(labels: Tensor, hierarchy: Hierarchy, pixels: int, generator: torch.Generator | None = None) -> Draw:
    """Draw random pixels for triplets, without replacement.

    Args:
        labels: Label maps, uint8 (B, h, w).
        hierarchy: The tree.
        pixels: Most pixels per label, K. If a label has fewer, each serves several times as an anchor.
        generator: Random generator on the CPU; None for PyTorch's default.

    Returns:
        The pixels, as indices into the flattened label maps.
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


def _loss(embeddings: Tensor, drawn: Draw, hierarchy: Hierarchy, fixed: float | None) -> Tensor:
    """Return the loss for the drawn pixels' unit embeddings (P, E)."""
    psi = torch.from_numpy(tree_distances(hierarchy))
    between = psi[drawn.nodes][:, drawn.nodes]
    nearer = between[:, None, :] - between[:, :, None]  # by anchor, positive and negative label
    same = torch.eye(len(drawn.nodes), dtype=torch.bool)
    own = same & ~drawn.alone[:, None]
    allowed = (own | (~same & (drawn.nodes != len(hierarchy))))[:, :, None] & (nearer > 0)
    anchor, positive, negative = allowed.nonzero().unbind(1)
    if not len(anchor):
        return embeddings.sum() * 0  # not a constant: every process must have a gradient for every parameter
    similar = torch.einsum("ake,bke->abk", embeddings[drawn.anchors], embeddings[drawn.others])
    if fixed is None:
        distance, margin = (1 - similar) / 2, _LEAST_MARGIN + 0.5 * nearer[allowed] / psi.max()
    else:
        distance, margin = 1 - similar, torch.full((len(anchor),), fixed)
    device = embeddings.device
    costs = functional.relu(distance[anchor, positive] - distance[anchor, negative] + margin.to(device)[:, None])
    counts = anchor.bincount()
    weights = 1 / (counts[anchor] * counts.count_nonzero())  # each anchor label counts the same
    return (costs.mean(1) * weights.to(device)).sum()


def tree_distances(hierarchy: Hierarchy) -> npt.NDArray[np.int64]:
    """Return the number of edges between every two nodes, (N + 1, N + 1), with an added node above all roots.

    The last row and column are for background, a leaf beside the roots.
    """
    above = np.zeros((len(hierarchy) + 1,) * 2, np.int64)
    above[:-1, :-1] = hierarchy.ancestors
    above[-1, -1] = 1
    shared = above @ above.T
    depths = shared.diagonal()
    return np.asarray(depths[:, None] + depths - 2 * shared)


def rising(progress: float) -> float:
    """Return the share of the loss's final weight, 0 to 1, at a progress of 0 to 1: half a cosine."""
    return (1 - math.cos(math.pi * progress)) / 2


class WithTriplet(nn.Module):
    """A network with the projection head that the tree-triplet loss needs during training.

    Attributes:
        network: The network; its parameters keep their names. Only the network is used after training.
        head: Two 1x1 convolutions with a ReLU between, on the input of the network's segmentation head or on the last
            features of its encoder.
    """

    def __init__(
        self,
        network: nn.Module,
        hierarchy: Hierarchy,
        channels: int = 256,
        pixels: int = 200,
        features: str = "decoder",
        margin: float | None = None,
    ) -> None:
        """Add a head with random weights to a network.

        Args:
            network: From `hierseg.network.model.build`.
            hierarchy: The tree.
            channels: Channels of the embeddings.
            pixels: As for `tree_triplet`.
            features: Whose last features the head takes: "decoder", or "encoder" as in the paper's code.
            margin: As for `tree_triplet`.

        Raises:
            ModelError: The network has no segmentation head that begins with a convolution.
        """
        super().__init__()
        layers = getattr(network, "segmentation_head", nn.Identity()).modules()
        first = next((layer for layer in layers if not list(layer.children())), None)
        if not isinstance(first, nn.Conv2d):
            raise ModelError(
                f"The tree-triplet loss needs a segmentation head that begins with a convolution; "
                f"{type(network).__name__} has none. Choose another architecture or leave triplet out."
            )
        self.network = network
        encoder: Any = network.get_submodule("encoder")
        width = first.in_channels if features == "decoder" else encoder.out_channels[-1]
        # A linear layer on single pixels is a 1x1 convolution.
        self.head = nn.Sequential(nn.Linear(width, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels))
        self._hierarchy = hierarchy
        self._pixels = pixels
        self._features = features
        self._margin = margin

    def forward(self, images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return logits (B, N, H, W) and the tree-triplet loss of images (B, 3, H, W) with labels, uint8 (B, H, W)."""
        kept: list[Tensor] = []
        if self._features == "decoder":
            before_scores = self.network.get_submodule("segmentation_head")
            hook = before_scores.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
        else:
            encoder = self.network.get_submodule("encoder")
            hook = encoder.register_forward_hook(lambda _, inputs, outputs: kept.append(outputs[-1]))
        try:
            logits = self.network(images)
        finally:
            hook.remove()
        (features,) = kept
        small = functional.interpolate(labels[:, None], features.shape[2:], mode="nearest-exact")[:, 0]
        generator = torch.Generator().manual_seed(seed)
        loss = tree_triplet(features, small, self._hierarchy, self._pixels, generator, self.head, self._margin)
        return logits, loss
