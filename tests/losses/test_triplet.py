"""Tests of the tree-triplet loss: its value against plain loops, the pixels it draws, and the projection head."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from hierseg.losses.triplet import WithTriplet, draw, rising, tree_distances, tree_triplet
from hierseg.network.model import ModelError, ModelSpec, build
from hierseg.tree import Hierarchy
from tests.rounding import EPSILON
from tests.trees import hierarchies, label_maps, node_and_above


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def way_up(tree: Hierarchy, label: int) -> list[str]:
    """Return the names from a label's node up to the added node above all roots."""
    nodes = node_and_above(tree, tree.labels.index(label)) if label != tree.background else []
    return [*([tree.nodes[node] for node in nodes] or ["background"]), "top"]


def edges(tree: Hierarchy, first: int, second: int) -> int:
    up, other = way_up(tree, first), way_up(tree, second)
    return min(up.index(name) + other.index(name) for name in up if name in other)


def twin(
    features: Tensor, labels: Tensor, tree: Hierarchy, pixels: int, seed: int, margin: float | None = None
) -> float:
    """Compute the loss of the drawn pixels in loops over labels and triplets."""
    drawn = draw(labels, tree, pixels, generator(seed))
    known = [*tree.labels, tree.background]
    present = [known[node] for node in drawn.nodes.tolist()]
    longest = max(edges(tree, *pair) for pair in itertools.product(known, repeat=2))
    vectors = features.permute(0, 2, 3, 1).flatten(0, 2).double().numpy()

    def distance(first: Tensor, second: Tensor) -> float:
        one, other = vectors[drawn.pixels[first]], vectors[drawn.pixels[second]]
        lengths = max(float(np.linalg.norm(one)), 1e-12) * max(float(np.linalg.norm(other)), 1e-12)
        return (1 - float(one @ other) / lengths) / (2 if margin is None else 1)

    of_anchors = []
    for a, anchor in enumerate(present):
        of_triplets = []
        for (p, positive), (n, negative) in itertools.product(enumerate(present), repeat=2):
            nearer = edges(tree, anchor, negative) - edges(tree, anchor, positive)
            stranger = positive == tree.background != anchor
            itself = positive == anchor and int((labels == anchor).sum().clamp(max=pixels)) == 1
            if nearer <= 0 or stranger or itself:
                continue
            for k in range(pixels):
                near = distance(drawn.anchors[a, k], drawn.others[p, k])
                far = distance(drawn.anchors[a, k], drawn.others[n, k])
                apart = 0.1 + 0.5 * nearer / longest if margin is None else margin
                of_triplets.append(max(0.0, near - far + apart))
        if of_triplets:
            of_anchors.append(np.mean(of_triplets))
    return float(np.mean(of_anchors)) if of_anchors else 0.0


@given(st.data(), st.integers(1, 5), st.integers(0, 99), st.sampled_from([None, 0.1, 0.6]))
def test_the_loss_is_that_of_plain_loops(data: st.DataObject, pixels: int, seed: int, margin: float | None) -> None:
    tree = data.draw(hierarchies())
    labels = torch.from_numpy(data.draw(label_maps(tree, (2, 3, 4))))
    features = torch.randn(2, 5, 3, 4, generator=generator(seed))
    found = tree_triplet(features, labels, tree, pixels, generator(seed), margin=margin)
    # Some float32 steps on values of at most 3, and a mean.
    assert float(found) == pytest.approx(twin(features, labels, tree, pixels, seed, margin), abs=32 * EPSILON)


@given(hierarchies())
def test_distances_are_edges_to_the_first_node_that_both_ways_up_share(tree: Hierarchy) -> None:
    known = [*tree.labels, tree.background]
    expected = [[edges(tree, first, second) for second in known] for first in known]
    np.testing.assert_array_equal(tree_distances(tree), expected)


@given(st.data(), st.integers(1, 6), st.integers(0, 99))
def test_pixels_are_drawn_of_every_label_but_void_and_none_twice(data: st.DataObject, pixels: int, seed: int) -> None:
    tree = data.draw(hierarchies())
    labels = torch.from_numpy(data.draw(label_maps(tree, (2, 3, 4))))
    drawn = draw(labels, tree, pixels, generator(seed))
    known = torch.tensor([*tree.labels, tree.background])[drawn.nodes].tolist()
    assert sorted(known) == sorted(set(labels.flatten().tolist()) - {tree.void})
    assert len(set(drawn.pixels.tolist())) == len(drawn.pixels)
    flat = labels.flatten()
    for label, anchors, others, alone in zip(known, drawn.anchors, drawn.others, drawn.alone, strict=True):
        size = min(pixels, int((flat == label).sum()))
        assert set(flat[drawn.pixels[anchors]].tolist()) == {label}
        assert len(anchors) == len(others) == pixels
        assert len(set(anchors.tolist())) == len(set(others.tolist())) == size
        assert bool(alone) == (size == 1)
        assert alone or not (anchors == others).any()


@pytest.mark.parametrize("label", ["background", "void", "torso"])
def test_a_batch_of_one_label_or_none_costs_nothing_with_a_gradient_of_zero(label: str, tree: Hierarchy) -> None:
    number = {"background": tree.background, "void": tree.void}.get(label)
    labels = torch.full((2, 4, 4), tree.labels[tree.index(label)] if number is None else number, dtype=torch.uint8)
    features = torch.randn(2, 3, 4, 4, generator=generator()).requires_grad_()
    head = nn.Linear(3, 5)
    loss = tree_triplet(features, labels, tree, project=head)
    loss.backward()
    assert float(loss.detach()) == 0
    for tensor in (features, *head.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.count_nonzero() == 0


def test_labels_of_another_resolution_are_refused(tree: Hierarchy) -> None:
    with pytest.raises(ValueError, match=r"\(1, 8, 8\) but the features \(1, 3, 4, 4\)"):
        tree_triplet(torch.zeros(1, 3, 4, 4), torch.zeros(1, 8, 8, dtype=torch.uint8), tree)


def test_the_weight_rises_as_in_the_papers_code() -> None:
    steps = 60_000
    for step in (0, 1, 7_000, 30_000, 59_999, steps):
        assert 0.5 * rising(step / steps) == pytest.approx((1 + math.cos((step - steps) / steps * math.pi)) / 4)
    assert (rising(0), rising(1)) == (0, 1)


@pytest.fixture
def network(tiny_spec: ModelSpec) -> nn.Module:
    torch.manual_seed(0)
    return build(tiny_spec).eval()


@pytest.mark.parametrize("part", ["decoder", "encoder"])
@pytest.mark.parametrize("architecture", ["Unet", "Segformer"])
def test_the_head_is_two_convolutions_of_the_last_features_of_decoder_or_encoder(
    architecture: str, part: str, tiny_spec: ModelSpec, tree: Hierarchy
) -> None:
    torch.manual_seed(0)
    network = build(ModelSpec(architecture=architecture, encoder=tiny_spec.encoder)).eval()
    images = torch.randn(2, 3, 64, 64)
    labels = torch.randint(7, (2, 16, 16)).to(torch.uint8).repeat_interleave(4, 1).repeat_interleave(4, 2)
    both = WithTriplet(network, tree, channels=6, pixels=9, features=part)
    logits, loss = both(images, labels, 5)
    assert torch.equal(logits, network(images))

    features = network.encoder(images)
    features = network.decoder(features) if part == "decoder" else features[-1]
    first, _, second = both.head
    hidden = functional.conv2d(features, first.weight[:, :, None, None], first.bias).relu()
    embeddings = functional.conv2d(hidden, second.weight[:, :, None, None], second.bias)
    ratio = 64 // features.shape[2]
    small = labels[:, ratio // 2 :: ratio, ratio // 2 :: ratio]
    expected = tree_triplet(embeddings, small, tree, 9, generator(5))
    torch.testing.assert_close(loss, expected)
    assert embeddings.shape[1] == 6

    loss.backward()
    gradients = {name: parameter.grad for name, parameter in both.named_parameters()}
    reached = {name.split(".")[1] for name, gradient in gradients.items() if gradient is not None}
    assert {"encoder", part} <= reached
    assert all(parameter.grad is not None for parameter in both.head.parameters())
    assert "segmentation_head" not in reached


def test_in_half_precision_the_loss_is_still_a_float32(network: nn.Module, tree: Hierarchy) -> None:
    both = WithTriplet(network, tree)
    images, labels = torch.randn(2, 3, 64, 64), torch.randint(7, (2, 64, 64)).to(torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        _, loss = both(images, labels, 5)
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(both(images, labels, 5)[1].detach()), abs=0.01)


def test_a_network_that_makes_scores_otherwise_is_refused(network: nn.Module, tree: Hierarchy) -> None:
    network.segmentation_head = nn.Identity()
    for other in (network, nn.Conv2d(3, 9, 1)):
        with pytest.raises(ModelError, match="Choose another architecture or leave triplet out"):
            WithTriplet(other, tree)
