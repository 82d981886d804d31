"""Time that the tree loss and the loader add to a training step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from benchmarks.timing import Row, interleaved
from hierseg.losses import LOSSES
from hierseg.network.model import normalize
from hierseg.tree import Hierarchy
from train.dataset import load_training_data
from train.objective import Objective
from train.recipe import Recipe
from train.session import Plan, make_crops, make_model, make_optimizer

_RECIPES = Path(__file__).resolve().parent.parent / "train" / "configs"
_STEPS = 4  # per turn; one takes seconds


def rows(rounds: int, data: Path | None) -> list[Row]:
    """Measure; without photos, the loader is left out."""
    return [*_losses(rounds), *(_loader(data) if data else [])]


def _losses(rounds: int) -> list[Row]:
    """Measure on data like that of a training step: regions, not noise, and channels-last logits in bf16."""
    tree = Hierarchy.default()
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 7, (16, 8, 8), generator=random).repeat_interleave(28, 1).repeat_interleave(28, 2)
    targets = torch.from_numpy(tree.membership)[labels].permute(0, 3, 1, 2)
    valid = torch.ones(labels.shape, dtype=torch.bool)
    logits = torch.randn(16, 9, 224, 224, generator=random).to(torch.bfloat16, memory_format=torch.channels_last)
    logits.requires_grad_()
    weights = Recipe.stages_from_yaml(_RECIPES / "bce.yaml")[-1].node_weights()

    def step(name: str) -> None:
        logits.grad = None
        torch.autograd.backward(LOSSES[name](logits, targets, tree, valid=valid, positive_weights=weights))

    found = interleaved({name: partial(step, name) for name in LOSSES}, rounds)
    return [
        Row.at_most("exact tree-min against BCE, forward and backward", found["tree_min"] / found["bce"], 1.3),
        Row("exact focal tree-min against BCE", f"{found['focal_tree_min'] / found['bce']:.2f}x"),
        Row(
            "exact focal tree-min against focal loss without a tree", f"{found['focal_tree_min'] / found['focal']:.2f}x"
        ),
    ]


def _loader(data: Path) -> list[Row]:
    recipe = Recipe.stages_from_yaml(_RECIPES / "bce.yaml")[-1]
    tree = recipe.tree()
    photos = load_training_data(data, recipe.data, tree, validation_photos=1)
    plan, crops = Plan(photos, recipe), make_crops(photos, recipe, tree)
    model = make_model(recipe, crops, plan).train()
    optimizer = make_optimizer(model, recipe.optimizer)
    objective = Objective(recipe, tree, Accelerator(cpu=True))
    loader = iter(DataLoader(crops, batch_sampler=plan.batches(0, 10_000), num_workers=1, prefetch_factor=8))
    ready = cycle([next(loader) for _ in range(4)])

    def step(photos: torch.Tensor, label_maps: torch.Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(normalize(photos, recipe.model).contiguous(memory_format=torch.channels_last))
        torch.autograd.backward(objective(logits, label_maps))
        optimizer.step()
        optimizer.zero_grad()

    calls: dict[str, Callable[[], object]] = {
        "with": lambda: step(*next(loader)),
        "without": lambda: step(*next(ready)),
    }
    # Several steps per turn, as the loader works ahead while steps without it run.
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(3):
        for name, call in calls.items():
            found[name].append(interleaved({name: call}, _STEPS)[name])
    taken = {name: float(np.median(values)) for name, values in found.items()}
    return [
        Row(f"training, {recipe.crop.size} px crops", f"{recipe.batch_size / taken['with']:.1f} photos per second"),
        Row.at_most("time that the loader adds to a step", taken["with"] / taken["without"] - 1, 0.05, "{:.0%}"),
    ]
