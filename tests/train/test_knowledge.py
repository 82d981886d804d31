"""Tests of train.knowledge: labels of a source that rule nodes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import assume, given
from hypothesis import strategies as st

from hierseg.losses import LOSSES
from hierseg.tree import Hierarchy
from tests.data import BACKGROUND, VOID, draw_person
from tests.trees import hierarchies, is_leaf, node_and_below
from train.augment import Augmenter
from train.batches import Crops
from train.dataset import Example, TrainingData
from train.knowledge import Knowledge
from train.objective import Objective
from train.recipe import Augment, Crop, Recipe, Source
from train.session import make_crops

CLOTHES = {"folder": "clothes", "never": {"upper": ["head"]}}


@given(tree=hierarchies(), data=st.data())
def test_a_number_knows_what_its_label_knows_and_what_it_never_shows(tree: Hierarchy, data: st.DataObject) -> None:
    inner = [node for node in range(len(tree)) if not is_leaf(tree, node)]
    assume(inner)
    node = data.draw(st.sampled_from(inner))
    below = [other for other in node_and_below(tree, node) if other != node]
    absent = data.draw(st.lists(st.sampled_from(below), unique=True))
    never = {tree.nodes[node]: tuple(tree.nodes[other] for other in absent)}
    labels = Knowledge.of(tree, (Source("plain"), Source("clothes", never=never)))

    plain, clothes = labels.numbers
    label = tree.labels[node]
    assert plain.tolist() == [*range(256)]
    assert np.flatnonzero(clothes != plain).tolist() == [label]
    assert clothes[label] not in {*tree.labels, tree.background, tree.void}
    off = {other for each in absent for other in node_and_below(tree, each)}
    for other in range(len(tree)):
        assert labels.membership[clothes[label], other] == tree.membership[label, other]
        assert labels.knowledge[clothes[label], other] == (tree.knowledge[label, other] or other in off)
    for known in (*tree.labels, tree.background, tree.void):
        assert (labels.membership[known] == tree.membership[known]).all()
        assert (labels.knowledge[known] == tree.knowledge[known]).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_pushes_down_what_a_label_rules_out(loss: str, tree: Hierarchy) -> None:
    upper, head, torso = (tree.index(name) for name in ("upper", "head", "torso"))
    recipe = Recipe.from_dict({"loss": loss, "data": [CLOTHES]}, "a test")
    number = int(Knowledge.of(tree, recipe.data).numbers[0][tree.labels[upper]])
    slopes = {}
    for label in (tree.labels[upper], number):
        logits = torch.zeros(1, len(tree), 2, 3, requires_grad=True)
        label_maps = torch.full((1, 2, 3), label, dtype=torch.uint8)
        value = Objective(recipe, tree, Accelerator(cpu=True))(logits, label_maps)
        (slopes[label],) = torch.autograd.grad(value, logits)
    assert (slopes[number][:, head] > 0).all()
    assert (slopes[tree.labels[upper]][:, head] <= 0).all()
    assert (slopes[number][:, torso] <= 0).all()


def test_a_run_gives_the_crops_of_each_source_its_numbers(tree: Hierarchy) -> None:
    upper = tree.labels[tree.index("upper")]
    photo, label_map = draw_person(96, 72, seed=0)
    person = Example("shirt", photo, np.where(label_map == BACKGROUND, BACKGROUND, upper).astype(np.uint8))
    content = {"loss": "bce", "data": [{"folder": "parts"}, CLOTHES], "crop": {"size": 64, "near_person": 1}}
    recipe = Recipe.from_dict(content, "a test")
    photos = TrainingData(Path(), recipe.data, ([person], [person]), [], [], {})
    crops, number = make_crops(photos, recipe, tree), Knowledge.of(tree, recipe.data).numbers[1][upper]
    for seed in range(5):
        seen = [set(crops[source, seed][1].flatten().tolist()) - {BACKGROUND, VOID} for source in (0, 1)]
        assert seen == [{upper}, {number}]


def test_crops_have_the_numbers_of_their_source_and_pasted_people_keep_theirs() -> None:
    people = [Example(str(seed), *draw_person(96, 72, seed=seed)) for seed in range(2)]
    still = Augmenter(Crop(64), Augment(flip=0, color=0, grey=0, blur=0), BACKGROUND, VOID)
    labels = np.arange(256, dtype=np.uint8)
    raised = np.where((labels == BACKGROUND) | (labels == VOID), labels, labels + 100).astype(np.uint8)
    for paste in (0.0, 1.0):
        plain = Crops(people, still, paste, guests=[1])
        numbered = Crops(people, still, paste, guests=[1], numbers=[labels, raised])
        seen = set()
        for seed in range(8):
            (photo, before), (same, after) = plain[0, seed], numbered[0, seed]
            assert torch.equal(photo, same)
            seen |= set((after - before).flatten().tolist())
            assert torch.equal(numbered[1, seed][1], torch.from_numpy(raised)[plain[1, seed][1].long()])
        assert seen == ({0, 100} if paste else {0})
