"""A training run in memory: what a recipe makes of data, network and optimiser, and one step of it."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from hierseg.losses import TITLE_OF
from hierseg.losses.triplet import WithTriplet, rising
from hierseg.network import checkpoint, pretrained
from hierseg.network.model import build, normalize
from hierseg.tree import Hierarchy
from train.augment import Augmenter
from train.batches import Batches, Crops
from train.dataset import TrainingData
from train.distributed import share_batch_norm
from train.knowledge import Knowledge
from train.objective import Objective
from train.processor import DenseGradients, keep_depthwise_in_float32
from train.recipe import Optimizer, Recipe
from train.run_folder import TrainingError, write_state


class Plan:
    """Which photos a run's steps show.

    Attributes:
        ids: Of the photos of all sources, one source after another, for people to read.
        steps_per_epoch: As many as its crops fill batches.
    """

    def __init__(self, photos: TrainingData, recipe: Recipe) -> None:
        """Plan a recipe's steps.

        Raises:
            TrainingError: The photos do not fill one batch.
        """
        self.ids = [example.id for examples in photos.examples for example in examples]
        self.steps_per_epoch = len(self.ids) // recipe.batch_size
        if not self.steps_per_epoch:
            raise TrainingError(f"{len(self.ids)} photos do not fill one batch of {recipe.batch_size}.")
        self._photos = [len(examples) for examples in photos.examples]
        self._recipe = recipe

    def batches(self, first_step: int, last_step: int) -> Batches:
        """Return the batches of steps first_step to last_step - 1."""
        shares = [source.share for source in self._recipe.data]
        return Batches(self._photos, shares, self._recipe.batch_size, first_step, last_step, self._recipe.seed)


class Session:
    """A run in memory: all that a step changes, and all that it needs.

    Attributes:
        step: How many steps were taken.
    """

    def __init__(
        self,
        recipe: Recipe,
        photos: TrainingData,
        run: Path,
        accelerator: Accelerator,
        state: dict[str, Any] | None,
        workers: int = 1,
    ) -> None:
        """Set a run up at its first step, or where a state left it."""
        self.recipe, self.photos, self.run, self.accelerator = recipe, photos, run, accelerator
        set_seed(recipe.seed)
        tree = recipe.tree()
        self.plan = Plan(photos, recipe)
        self.total_steps = recipe.epochs * self.plan.steps_per_epoch
        self.crops = make_crops(photos, recipe, tree)
        self.model = make_model(recipe, self.crops, self.plan)
        if accelerator.device.type == "cpu":
            keep_depthwise_in_float32(self.model)
        self.card = checkpoint.Card(
            spec=recipe.model,
            hierarchy=tree,
            title=_title(recipe),
            inference=recipe.inference,
            record={"loss": recipe.loss, **_origin(recipe), "data": photos.record},
        )
        averaging = get_ema_multi_avg_fn(recipe.ema_decay)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(self.model, multi_avg_fn=averaging, use_buffers=True)
        # Behind the network's weights, so that those are the same with it and without.
        triplet = recipe.triplet
        self.triplet = (
            WithTriplet(self.model, tree, triplet.channels, triplet.pixels, triplet.features, triplet.margin)
            if triplet
            else None
        )
        self.optimizer = make_optimizer(self.model, recipe.optimizer, self.triplet.head if self.triplet else None)
        self.scheduler = LambdaLR(self.optimizer, _schedule(recipe.optimizer, self.total_steps))
        self.step = 0
        if state is not None:
            self._restore(state)
        self.objective = Objective(recipe, tree, accelerator)
        self._prepare(workers)

    def _restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        if self.triplet:
            self.triplet.head.load_state_dict(state["head"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])

    def _prepare(self, workers: int) -> None:
        """Bring everything to the device, and over several processes."""
        batches = self.plan.batches(self.step, self.total_steps)
        if workers > 1:
            cv2.setNumThreads(1)  # or each worker would use all cores; said in them, it may wait for ever
        loader = DataLoader(
            self.crops,
            batch_sampler=batches,
            num_workers=workers,
            prefetch_factor=8,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        if self.accelerator.num_processes > 1:
            share_batch_norm(self.model)
        # The scheduler is left out: prepared, it would step once per process.
        self.prepared, self.optimizer, self.loader = self.accelerator.prepare(
            self.triplet or self.model, self.optimizer, loader
        )
        self.average.to(self.accelerator.device)
        self.accelerator.init_trackers("curves")

    def take_step(self, pictures: Tensor, label_maps: Tensor) -> Tensor:
        """Train on one batch.

        Args:
            pictures: RGB, uint8 (B, 3, H, W).
            label_maps: uint8 (B, H, W).

        Returns:
            The loss and the norm of its gradient, (2,), on the device.
        """
        seed = (self.recipe.seed << 32) + self.step
        torch.manual_seed(seed)  # dropout, on every device, without a state to keep
        extra: Tensor | float = 0.0
        dense = DenseGradients() if self.accelerator.device.type == "cpu" else contextlib.nullcontext()
        with self.accelerator.autocast(), dense:
            images = normalize(pictures, self.recipe.model).contiguous(memory_format=torch.channels_last)
            if self.recipe.triplet:
                logits, extra = self.prepared(images, label_maps, seed)
                extra = extra * self.recipe.triplet.weight * rising(self.step / self.total_steps)
            else:
                logits = self.prepared(images)
        loss = self.objective(logits, label_maps) + extra
        self.accelerator.backward(loss)
        longest = self.recipe.optimizer.clip or math.inf
        norm = self.accelerator.clip_grad_norm_((self.triplet or self.model).parameters(), longest)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        self.average.update_parameters(self.model)
        self.step += 1
        return torch.stack([loss.detach().float(), torch.as_tensor(norm, device=loss.device).float()])

    def save_state(self) -> None:
        """Write what `fit` resumes from."""
        if self.accelerator.is_main_process:
            state = {
                "step": self.step,
                "data": self.photos.record,
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
            }
            if self.triplet:
                state["head"] = self.triplet.head.state_dict()
            write_state(self.run, state)


def make_crops(photos: TrainingData, recipe: Recipe, tree: Hierarchy) -> Crops:
    """Return the crops of a recipe's photos."""
    examples = [example for own in photos.examples for example in own]
    of_sources = Knowledge.of(tree, recipe.data).numbers
    numbers = [labels for labels, own in zip(of_sources, photos.examples, strict=True) for _ in own]
    shows_people = [not source.nobody for source, own in zip(photos.sources, photos.examples, strict=True) for _ in own]
    augmenter = Augmenter(recipe.crop, recipe.augment, tree.background, tree.void)
    return Crops(examples, augmenter, recipe.augment.paste, np.flatnonzero(shows_people).tolist(), numbers)


def make_model(recipe: Recipe, crops: Crops, plan: Plan) -> nn.Module:
    """Return a recipe's network with the weights that it starts from."""
    model = build(recipe.model)
    if recipe.start_from:
        _start_from(model, recipe)
    elif recipe.pretrained:
        # Some published encoders come without the statistics that their batch norms need: those of the first crops.
        pictures = torch.stack([crops[address][0] for batch in plan.batches(0, 4) for address in batch])
        pretrained.load_encoder(model, recipe.model, images=normalize(pictures, recipe.model))
    return model.to(memory_format=torch.channels_last)  # type: ignore[no-any-return,call-overload]


def _title(recipe: Recipe) -> str:
    titles = [TITLE_OF[name] for name in recipe.loss_weights or [recipe.loss]]
    return " + ".join([*titles, *(["RMI"] if recipe.rmi else []), *(["triplet"] if recipe.triplet else [])])


def _origin(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe and, under `started_from`, that of the weights it starts from; no folder of this machine."""
    if not recipe.start_from:
        return {"recipe": recipe.to_dict()}
    path = Path(recipe.start_from)
    before = checkpoint.read_card(path).record
    return {
        "recipe": dataclasses.replace(recipe, start_from=path.name).to_dict(),
        "started_from": {key: before[key] for key in ("recipe", "started_from") if key in before},
    }


def _start_from(model: nn.Module, recipe: Recipe) -> None:
    """Load the weights of another checkpoint: all of them, or its encoder's under another decoder."""
    other, card = checkpoint.load(recipe.start_from or "")
    if card.hierarchy.nodes != recipe.tree().nodes:
        raise TrainingError(f"{recipe.start_from} was trained on another tree.")
    if card.spec.encoder != recipe.model.encoder:
        raise TrainingError(
            f"{recipe.start_from} has the encoder {card.spec.encoder}, the recipe {recipe.model.encoder}. A run can "
            "start from weights of the same encoder only."
        )
    weights = other.state_dict()
    alike = _shapes(weights) == _shapes(model.state_dict())
    if not alike:
        weights = {name: tensor for name, tensor in weights.items() if name.startswith("encoder.")}
    model.load_state_dict(weights, strict=alike)


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in weights.items()}


def make_optimizer(model: nn.Module, plan: Optimizer, head: nn.Module | None = None) -> torch.optim.Optimizer:
    """Group parameters by learning rate and by whether weight decay acts on them; freeze what does not move."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in [*model.named_parameters(), *(head.named_parameters() if head else ())]:
        lr = plan.encoder_lr if name.startswith("encoder.") else plan.lr
        if lr == 0:
            parameter.requires_grad_(False)
            continue
        groups.setdefault((lr, plan.weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    kind = torch.optim.AdamW if plan.name == "adamw" else torch.optim.Adam
    return kind([{"params": members, "lr": lr, "weight_decay": decay} for (lr, decay), members in groups.items()])


def _schedule(plan: Optimizer, total_steps: int) -> Any:
    """Return the factor on the learning rate of each step."""
    warmup = max(1, round(plan.warmup * total_steps))

    def factor(step: int) -> float:
        if plan.schedule == "constant":
            return 1.0
        if step < warmup:
            return 0.04 + 0.96 * step / warmup
        done = (step - warmup) / max(1, total_steps - warmup)
        return 0.001 + 0.999 * (1 + math.cos(math.pi * min(1.0, done))) / 2

    return factor
