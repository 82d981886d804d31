"""One training run, from a recipe to a checkpoint: `python -m train fit train/configs/bce.yaml`.

The same command runs on a CPU, on one GPU and, under `accelerate launch`, on many machines. Every random choice follows
from the recipe's seed and the step, so a run that was stopped goes on exactly where it was. A run's folder holds

    recipe.json         the recipe with every default filled in
    state.pt            weights, average, optimiser and step, with a checksum; read without unpickling objects. With a
                        tree-triplet loss also its projection head, which no checkpoint holds
    state.previous.pt   the state before: a run goes on from it where the newest is damaged
    last.safetensors    averaged weights after the newest epoch; photos of the validation list choose nothing
    log.jsonl           a line each validation
    batch-STEP.npz      the photos, label maps and ids of a batch whose loss was not a number
    tensorboard/        curves
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import pickle
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm import tqdm

from hierseg.losses import ACTIVATION_OF, LOSSES, reduce, soft_jaccard
from hierseg.losses.triplet import WithTriplet, rising
from hierseg.network import checkpoint, pretrained
from hierseg.network.activations import ACTIVATIONS
from hierseg.network.model import build, normalize
from hierseg.tree import Hierarchy
from train.augment import Augmenter
from train.batches import Batches, Crops
from train.calibrate import calibrate
from train.dataset import TrainingData, load_training_data
from train.distributed import mean_over_processes, share_batch_norm
from train.evaluate import evaluate, false_people
from train.processor import DenseGradients, keep_depthwise_in_float32
from train.recipe import TITLES, Optimizer, Recipe

_SEAL = hashlib.sha256().digest_size  # bytes of checksum behind a state
STATES = ("state.pt", "state.previous.pt")  # the newest first
WEIGHTS = "last.safetensors"
FILES = ("recipe.json", *STATES, WEIGHTS, "log.jsonl")


class TrainingError(RuntimeError):
    """Training cannot go on. The message says why and what was kept."""


def fit(recipe: Recipe, data: Path, run: Path, fresh: bool = False, stop_after: int | None = None) -> Path:
    """Train one checkpoint, or go on with a run that was stopped.

    Args:
        recipe: What to do.
        data: The data folder.
        run: The run's folder; made if it is not there.
        fresh: Start again although the folder holds a run.
        stop_after: Save the state and stop after this step; None to go on to the end.

    Returns:
        Path of the checkpoint.

    Raises:
        TrainingError: The folder holds a run of another recipe or only damaged states, or the loss is not a number.
        ModelError: The network cannot be built, or not with a tree-triplet loss.
        DataError: The data have faults.
    """
    AcceleratorState._reset_state()  # else a second run in one process could not have another precision
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="bf16" if recipe.mixed_precision and _has_bf16() else "no",
        dataloader_config=DataLoaderConfiguration(split_batches=True, even_batches=False),
        log_with="tensorboard",
        project_dir=str(run / "tensorboard"),
    )
    set_seed(recipe.seed)
    tree = recipe.tree()
    if accelerator.is_main_process:
        _claim(run, recipe, fresh)
    accelerator.wait_for_everyone()

    photos = load_training_data(data, recipe.data, tree, recipe.validation_photos)
    plan = Plan(photos, recipe)
    total_steps = recipe.epochs * plan.steps_per_epoch
    crops = _crops(photos, recipe, tree)
    model = _initial_model(recipe, crops, plan)
    card = checkpoint.Card(
        spec=recipe.model,
        hierarchy=tree,
        title=_title(recipe),
        record={"loss": recipe.loss, **_origin(recipe), "data": photos.record},
    )
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay), use_buffers=True)
    # Behind the network's weights, so that those are the same with it and without.
    triplet = recipe.triplet and WithTriplet(model, tree, recipe.triplet.channels, recipe.triplet.pixels)
    optimizer = _optimizer(model, recipe.optimizer, triplet.head if triplet else None)
    scheduler = LambdaLR(optimizer, _schedule(recipe.optimizer, total_steps))

    state = _read_state(run)
    step = 0
    if state is not None:
        if state.get("data", photos.record) != photos.record:
            raise TrainingError(
                f"{run} holds a run on other photos than those in {data}. Choose another folder; --fresh would delete "
                "that run and start anew."
            )
        step = state["step"]
        model.load_state_dict(state["model"])
        if triplet:
            triplet.head.load_state_dict(state["head"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])

    loader = DataLoader(crops, batch_sampler=plan.batches(step, total_steps), num_workers=1, prefetch_factor=8)
    if accelerator.num_processes > 1:
        share_batch_norm(model)
    # The scheduler is left out: prepared, it would step once per process.
    prepared, optimizer, loader = accelerator.prepare(triplet or model, optimizer, loader)
    average.to(accelerator.device)
    objective = Objective(recipe, tree, accelerator)
    accelerator.init_trackers("curves")

    def save_state() -> None:
        if accelerator.is_main_process:
            _write_state(
                run,
                {
                    "step": step,
                    "data": photos.record,
                    "model": model.state_dict(),
                    **({"head": triplet.head.state_dict()} if triplet else {}),
                    "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict(),
                },
            )

    progress = tqdm(
        total=total_steps, initial=step, unit="step", disable=not accelerator.is_main_process, mininterval=5
    )
    running: list[float] = []
    started = time.monotonic()
    _train_mode(model, recipe)
    for pictures, label_maps in loader:
        seed = (recipe.seed << 32) + step
        torch.manual_seed(seed)  # dropout, on every device, without a state to keep
        extra: Tensor | float = 0.0
        with accelerator.autocast(), DenseGradients():
            images = normalize(pictures, recipe.model).contiguous(memory_format=torch.channels_last)
            if recipe.triplet:
                logits, extra = prepared(images, label_maps, seed)
                extra = extra * recipe.triplet.weight * rising(step / total_steps)
            else:
                logits = prepared(images)
        loss = objective(logits, label_maps) + extra
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_((triplet or model).parameters(), 1.0)
        running.append(accelerator.reduce(loss.detach(), "mean").item())
        if not math.isfinite(running[-1] + float(norm)):  # before the weights take it in
            kept = run / f"batch-{step + 1}.npz"
            (batch,) = plan.batches(step, step + 1)
            if accelerator.is_main_process:
                _keep_batch(kept, crops, batch, plan.ids)
            raise TrainingError(
                f"Step {step + 1} has the loss {running[-1]} and the gradient norm {float(norm)} on "
                f"{', '.join(plan.ids[index] for index, _ in batch)}. Look at them in {kept}, lower the learning "
                f"rate or warm up longer. {run} keeps what was saved before."
            )
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        average.update_parameters(model)
        step += 1
        progress.update()
        progress.set_postfix(loss=f"{np.mean(running[-50:]):.4f}", refresh=False)
        if step % 20 == 0 or step % plan.steps_per_epoch == 0:
            accelerator.log({"loss": running[-1], "lr": scheduler.get_last_lr()[-1]}, step=step)

        if step % plan.steps_per_epoch == 0:
            if accelerator.is_main_process:
                found = _validate(average.module, card, photos)
                accelerator.log({f"iou/{name}": value for name, value in found["dataset_iou"]["levels"].items()}, step)
                epoch = step // plan.steps_per_epoch
                _log(run, epoch, running[-plan.steps_per_epoch :], found, time.monotonic() - started)
                checkpoint.save(run / WEIGHTS, average.module, card)
            save_state()
            accelerator.wait_for_everyone()
            _train_mode(model, recipe)
        if step == stop_after:
            save_state()
            break
    progress.close()
    accelerator.end_training()
    if step >= total_steps and accelerator.is_main_process and recipe.threshold_photos:
        model, card = checkpoint.load(run / WEIGHTS)  # as it is stored, in half precision
        checkpoint.save(run / WEIGHTS, model, calibrate(model, card, photos.annotated[: recipe.threshold_photos]))
    return run / WEIGHTS


def fit_stages(
    recipes: Sequence[Recipe], data: Path, run: Path, fresh: bool = False, stop_after: int | None = None
) -> Path:
    """Train the stages of a recipe one after the other, each from the weights of the one before.

    A recipe of one stage has its run in the folder itself, others in stage-1, stage-2 and so on below it. A stage whose
    folder holds a last.safetensors and no state is taken as done: so a run goes on on another machine.

    Args:
        recipes: The stages.
        data: The data folder.
        run: The run's folder.
        fresh: As for `fit`, for every stage.
        stop_after: As for `fit`, a step of the stage that is going on.

    Returns:
        Path of the checkpoint of the last stage that was trained.

    Raises:
        TrainingError: As for `fit`.
        DataError: As for `fit`.
    """
    weights: Path | None = None
    for number, recipe in enumerate(recipes, 1):
        folder = run if len(recipes) == 1 else run / f"stage-{number}"
        if weights is not None:
            recipe = dataclasses.replace(recipe, start_from=str(weights))
        weights = folder / WEIGHTS
        if not fresh and weights.is_file() and not any((folder / name).is_file() for name in STATES):
            continue
        fit(recipe, data, folder, fresh, stop_after)
        if stop_after is not None and (_read_state(folder) or {}).get("step") == stop_after:
            break
    assert weights is not None
    return weights


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


class Objective:
    """A recipe's loss on label maps."""

    def __init__(self, recipe: Recipe, tree: Hierarchy, accelerator: Accelerator) -> None:
        """Prepare the recipe's loss for a device."""
        self._loss = LOSSES[recipe.loss]
        self._activation = ACTIVATIONS[ACTIVATION_OF[recipe.loss]]
        self._by_node = ACTIVATION_OF[recipe.loss] == "sigmoid"
        self._recipe = recipe
        self._tree = tree
        self._processes = accelerator.num_processes
        self._membership = torch.from_numpy(tree.membership).to(accelerator.device)
        self._knowledge = torch.from_numpy(tree.knowledge).to(accelerator.device)
        weights = recipe.node_weights()
        self._weights = None if weights is None else weights.to(accelerator.device)

    def __call__(self, logits: Tensor, label_maps: Tensor) -> Tensor:
        """Return the loss of logits (B, N, H, W) against label maps, uint8 (B, H, W).

        The mean of the processes' losses is the loss of the whole batch, whatever each knows of its pixels.
        """
        labels = label_maps.long()
        targets, known = (table[labels].permute(0, 3, 1, 2) for table in (self._membership, self._knowledge))
        terms = self._loss(
            logits,
            targets,
            self._tree,
            gamma=self._recipe.gamma,
            valid=known,
            reduction="none",
            positive_weights=self._weights,
        )
        counts = known.sum((0, 2, 3)) if self._by_node else known.any(1).sum().view(1)
        if self._processes > 1:
            counts = mean_over_processes(counts.float())
        loss = reduce(terms, self._tree, self._recipe.reduction, counts)
        if self._recipe.jaccard:
            scores = self._activation(logits.float(), self._tree)
            loss = loss + self._recipe.jaccard * soft_jaccard(scores, targets, known, self._reduce_sums)
        return loss

    def _reduce_sums(self, sums: Tensor) -> Tensor:
        return mean_over_processes(sums) * self._processes if self._processes > 1 else sums


def _has_bf16() -> bool:
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return torch.cpu.is_available() and bool(torch.cpu._is_avx512_bf16_supported())


def _claim(run: Path, recipe: Recipe, fresh: bool) -> None:
    """Make the run's folder, or check that it holds this recipe's run."""
    record = run / "recipe.json"
    values = recipe.to_dict()
    if recipe.start_from:  # by its content, so that a run may be moved with the weights it starts from
        values["start_from"] = hashlib.sha256(Path(recipe.start_from).read_bytes()).hexdigest()
    content = json.dumps(values, indent=1)
    unwanted = [path for name in FILES for path in run.glob(f".{name}.*")]  # of a process killed while it wrote
    if fresh:
        unwanted += [*(run / name for name in FILES), *run.glob("batch-*.npz")]
    for path in unwanted:
        path.unlink(missing_ok=True)
    if fresh:
        shutil.rmtree(run / "tensorboard", ignore_errors=True)
    if record.is_file() and record.read_text(encoding="utf-8") != content:
        raise TrainingError(
            f"{run} holds a run of another recipe. Choose another folder; --fresh would delete that run and start anew."
        )
    checkpoint.write_atomically(record, content.encode())


def _crops(photos: TrainingData, recipe: Recipe, tree: Hierarchy) -> Crops:
    examples = [example for own in photos.examples for example in own]
    shows_people = [not source.nobody for source, own in zip(photos.sources, photos.examples, strict=True) for _ in own]
    augmenter = Augmenter(recipe.crop, recipe.augment, tree.background, tree.void)
    return Crops(examples, augmenter, recipe.augment.paste, np.flatnonzero(shows_people).tolist())


def _initial_model(recipe: Recipe, crops: Crops, plan: Plan) -> nn.Module:
    model = build(recipe.model)
    if recipe.start_from:
        _start_from(model, recipe)
    elif recipe.pretrained:
        # Some published encoders come without the statistics that their batch norms need: those of the first crops.
        pictures = torch.stack([crops[address][0] for batch in plan.batches(0, 4) for address in batch])
        pretrained.load_encoder(model, recipe.model, images=normalize(pictures, recipe.model))
    keep_depthwise_in_float32(model)
    return model.to(memory_format=torch.channels_last)


def _title(recipe: Recipe) -> str:
    row = f"{recipe.loss}_triplet" if recipe.triplet else recipe.loss
    return TITLES.get(row, row)


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
    alike = (card.spec.architecture, card.spec.options) == (recipe.model.architecture, recipe.model.options)
    if not alike:
        weights = {name: tensor for name, tensor in weights.items() if name.startswith("encoder.")}
    model.load_state_dict(weights, strict=alike)


def _train_mode(model: nn.Module, recipe: Recipe) -> None:
    model.train()
    if recipe.optimizer.encoder_lr == 0:  # frozen: its batch norm must not drift either
        model.get_submodule("encoder").eval()


def _optimizer(model: nn.Module, plan: Optimizer, head: nn.Module | None = None) -> torch.optim.Optimizer:
    """Group parameters by learning rate and by whether weight decay acts on them; freeze what does not move."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in [*model.named_parameters(), *(head.named_parameters() if head else ())]:
        lr = plan.encoder_lr if name.startswith("encoder.") else plan.lr
        if lr == 0:
            parameter.requires_grad_(False)
            continue
        groups.setdefault((lr, plan.weight_decay if parameter.ndim > 1 else 0.0), []).append(parameter)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[plan.name]
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


def _read_state(run: Path) -> dict[str, Any] | None:
    """Return the newest state that is sound, or None of a run that has saved none."""
    found = [run / name for name in STATES if (run / name).is_file()]
    for path in found:
        content = path.read_bytes()
        payload, seal = content[:-_SEAL], content[-_SEAL:]
        with contextlib.suppress(pickle.UnpicklingError):  # what holds anything but weights and numbers
            if hashlib.sha256(payload).digest() == seal:
                return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
        tqdm.write(f"{path} is damaged and left out.", file=sys.stderr)
    if found:
        raise TrainingError(f"{run} holds no state that is sound. Start again with --fresh, or put a sound one there.")
    return None


def _write_state(run: Path, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    newest, previous = (run / name for name in STATES)
    checkpoint.write_atomically(newest, payload + hashlib.sha256(payload).digest(), keep=previous)


def _keep_batch(path: Path, crops: Crops, batch: list[tuple[int, int]], ids: Sequence[str]) -> None:
    """Keep a batch for a person to look at: photos (B, 3, H, W), label maps (B, H, W), the ids and the crops' seeds."""
    photos, label_maps = zip(*(crops[address] for address in batch), strict=True)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        photos=np.stack(photos),
        label_maps=np.stack(label_maps),
        ids=np.array([ids[index] for index, _ in batch]),
        seeds=np.array([seed for _, seed in batch]),
    )
    checkpoint.write_atomically(path, buffer.getvalue())


def _log(run: Path, epoch: int, losses: list[float], summary: dict[str, Any], seconds: float) -> None:
    line = {"epoch": epoch, "loss": float(np.mean(losses)), "seconds": round(seconds), **summary}
    path = run / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    # A run killed between this line and its state validates the same epoch again.
    lines = [*lines[: epoch - 1], json.dumps(line)]
    checkpoint.write_atomically(path, ("\n".join(lines) + "\n").encode())
    found = summary["dataset_iou"]["levels"]
    levels = "  ".join(f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in found.items())
    nobody = f"  somebody {summary['nobody']['somebody']:.3f}" if "nobody" in summary else ""
    raw = f"raw {summary['violations']['raw']:.5f}"
    tqdm.write(f"epoch {epoch}  loss {line['loss']:.4f}  IoU {levels}  {raw}{nobody}")


def _validate(model: nn.Module, card: checkpoint.Card, photos: TrainingData) -> dict[str, Any]:
    """Measure what draws the curves, with one pass a photo: what is wanted is how the epochs compare."""
    passes = {"flip": False, "second_look": False}
    summary = evaluate(model, card, photos.validation, **passes, progress=False).summary()
    if photos.nobody:
        summary["nobody"] = false_people(model, card, (example.photo for example in photos.nobody), **passes)
    return summary
