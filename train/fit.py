"""One training run, from a recipe to a checkpoint: `python -m train fit train/configs/bce.yaml`.

The same command runs on a CPU, on one GPU and, under `accelerate launch`, on many machines. Every random choice depends
only on the recipe's seed and the step, so a stopped run resumes exactly. `train.run_folder` lists the files of a run.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from tqdm import tqdm

from hierseg.network import checkpoint
from hierseg.predictor import Predictor
from train.calibrate import calibrate
from train.dataset import TrainingData, load_training_data
from train.evaluate import evaluate, false_people
from train.recipe import Recipe
from train.run_folder import (
    STATES,
    WEIGHTS,
    TrainingError,
    claim,
    keep_batch,
    log_epoch,
    read_state,
)
from train.session import Plan, Session

_LOGGED = 20  # steps between points of the loss curve; the host waits for the device only there


def fit(
    recipe: Recipe,
    data: Path | TrainingData,
    run: Path,
    fresh: bool = False,
    stop_after: int | None = None,
    workers: int = 1,
) -> Path:
    """Train one checkpoint, or resume a stopped run.

    Args:
        recipe: The recipe.
        data: The data folder, or its photos from `load` for this recipe.
        run: The run's folder; created if needed.
        fresh: Delete the run in the folder and start again.
        stop_after: Save the state and stop after this step; None to train to the end.
        workers: Processes that prepare crops; more change nothing but the time.

    Returns:
        Path of the checkpoint.

    Raises:
        TrainingError: The folder holds a run of another recipe or only damaged states, or the loss is not a number.
        ModelError: The network cannot be built, or cannot be trained with the tree-triplet loss.
        DataError: The data have faults.
    """
    accelerator = _accelerator(recipe, run)
    if accelerator.is_main_process:
        claim(run, recipe, fresh)
    accelerator.wait_for_everyone()
    photos = data if isinstance(data, TrainingData) else load(recipe, data)
    state = read_state(run)
    if state is not None and state.get("data", photos.record) != photos.record:
        raise TrainingError(
            f"{run} holds a run on other photos than those in {photos.folder}. Choose another folder; --fresh deletes "
            "that run and starts again."
        )
    total_steps = recipe.epochs * Plan(photos, recipe).steps_per_epoch
    if state is not None and state["step"] >= total_steps and _is_calibrated(run, recipe):
        return run / WEIGHTS
    session = Session(recipe, photos, run, accelerator, state, workers)
    train_steps(session, stop_after)
    if session.step >= total_steps and accelerator.is_main_process and recipe.threshold_photos:
        stored = Predictor(run / WEIGHTS, "cpu")  # in half precision
        checkpoint.write_card(run / WEIGHTS, calibrate(stored, photos.to_calibrate(recipe.threshold_photos)))
    return run / WEIGHTS


def load(recipe: Recipe, data: Path) -> TrainingData:
    """Open the photos of a recipe; several runs on the same sources may share them.

    Raises:
        DataError: The data have faults.
    """
    return load_training_data(data, recipe.data, recipe.tree(), recipe.validation_photos)


def fit_stages(
    recipes: Sequence[Recipe],
    data: Path,
    run: Path,
    fresh: bool = False,
    stop_after: int | None = None,
    workers: int = 1,
) -> Path:
    """Train the stages of a recipe one after the other, each from the weights of the one before.

    A recipe of one stage runs in the folder itself, other recipes run in its folders stage-1, stage-2 and so on. A
    stage with a last.safetensors and no state counts as done, so that a run can continue on another machine.

    Args:
        recipes: The stages.
        data: The data folder.
        run: The run's folder.
        fresh: As for `fit`, for every stage.
        stop_after: As for `fit`, a step of the current stage.
        workers: As for `fit`.

    Returns:
        Path of the checkpoint of the last stage that was trained.

    Raises:
        TrainingError: As for `fit`.
        DataError: As for `fit`.
    """
    weights: Path | None = None
    photos: TrainingData | None = None
    sources: tuple[Any, ...] = ()
    for number, recipe in enumerate(recipes, 1):
        folder = run if len(recipes) == 1 else run / f"stage-{number}"
        if weights is not None:
            recipe = dataclasses.replace(recipe, start_from=str(weights))
        weights = folder / WEIGHTS
        if not fresh and weights.is_file() and not any((folder / name).is_file() for name in STATES):
            continue
        if photos is None or sources != (recipe.data, recipe.hierarchy, recipe.validation_photos):
            sources = (recipe.data, recipe.hierarchy, recipe.validation_photos)
            photos = load(recipe, data)
        fit(recipe, photos, folder, fresh, stop_after, workers)
        if stop_after is not None and (read_state(folder) or {}).get("step") == stop_after:
            break
    assert weights is not None
    return weights


def train_steps(session: Session, stop_after: int | None = None) -> None:
    """Train to the end, or to a step. Every `validate_every` epochs, and at the end, validate and save.

    Raises:
        TrainingError: The loss is not a number. Saved files are kept.
    """
    accelerator, epoch_steps = session.accelerator, session.plan.steps_per_epoch
    every = epoch_steps * session.recipe.validate_every
    losses: list[float] = []
    waiting: list[Tensor] = []  # losses and norms of steps that the host has not seen yet
    started = time.monotonic()
    _train_mode(session.model, session.recipe)
    with tqdm(
        total=session.total_steps,
        initial=session.step,
        unit="step",
        disable=not accelerator.is_main_process,
        mininterval=5,
    ) as progress:
        for pictures, label_maps in session.loader:
            waiting.append(session.take_step(pictures, label_maps))
            progress.update()
            validates = session.step % every == 0 or session.step == session.total_steps
            stops = session.step == stop_after
            if session.step % _LOGGED == 0 or validates or stops:
                losses += _seen(session, waiting)
                waiting.clear()
                progress.set_postfix(loss=f"{np.mean(losses[-50:]):.4f}", refresh=False)
                accelerator.log({"loss": losses[-1], "lr": session.scheduler.get_last_lr()[-1]}, step=session.step)
            if validates:
                if accelerator.is_main_process:
                    _end_epoch(session, losses[-epoch_steps:], time.monotonic() - started)
                session.save_state()
                accelerator.wait_for_everyone()
                _train_mode(session.model, session.recipe)
            if stops:
                session.save_state()
                break
    accelerator.end_training()


def _seen(session: Session, waiting: Sequence[Tensor]) -> list[float]:
    """Return the losses of the newest steps, averaged over processes.

    Raises:
        TrainingError: A loss or a gradient is not finite; the first such batch is saved and named.
    """
    found = session.accelerator.reduce(torch.stack(list(waiting)), "mean").tolist()
    first = session.step - len(found)
    for step, (loss, norm) in enumerate(found, first):
        if math.isfinite(loss + norm):
            continue
        plan, kept = session.plan, session.run / f"batch-{step + 1}.npz"
        (batch,) = plan.batches(step, step + 1)
        if session.accelerator.is_main_process:
            keep_batch(kept, session.crops, batch, plan.ids)
        raise TrainingError(
            f"Step {step + 1} has the loss {loss} and the gradient norm {norm} on "
            f"{', '.join(plan.ids[index] for index, _ in batch)}. Look at them in {kept}, lower the learning "
            f"rate or warm up longer. {session.run} keeps what was saved before."
        )
    return [loss for loss, _ in found]


def _end_epoch(session: Session, losses: list[float], seconds: float) -> None:
    """Validate, log and write the checkpoint."""
    found = validate(Predictor.of_model(session.average.module, session.card), session.photos)
    levels = found["dataset_iou"]["levels"]
    session.accelerator.log({f"iou/{name}": value for name, value in levels.items()}, session.step)
    log_epoch(session.run, session.step // session.plan.steps_per_epoch, losses, found, seconds)
    checkpoint.save(session.run / WEIGHTS, session.average.module, session.card)


def validate(predictor: Predictor, photos: TrainingData) -> dict[str, Any]:
    """Measure the validation photos with one pass per photo, which is enough to compare epochs.

    Args:
        predictor: The network.
        photos: The photos of a run.

    Returns:
        The summary of an `Evaluation`, with `nobody` from `false_people` if there are photos without people.
    """
    predictor = predictor.using(mirror=False, zoom=None)
    summary = evaluate(predictor, photos.validation, progress=False).summary()
    if photos.nobody:
        summary["nobody"] = false_people(predictor, (example.photo for example in photos.nobody))
    return summary


def _is_calibrated(run: Path, recipe: Recipe) -> bool:
    """Tell whether a run has its final checkpoint, given that all its steps are done."""
    weights = run / WEIGHTS
    return weights.is_file() and (not recipe.threshold_photos or checkpoint.read_card(weights).calibration is not None)


def _accelerator(recipe: Recipe, run: Path) -> Accelerator:
    AcceleratorState._reset_state()  # so that a second run in a process may have another precision
    return Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="bf16" if recipe.mixed_precision and _has_bf16() else "no",
        dataloader_config=DataLoaderConfiguration(split_batches=True, even_batches=False),
        log_with="tensorboard",
        project_dir=str(run / "tensorboard"),
    )


def _has_bf16() -> bool:
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return torch.cpu.is_available() and bool(torch.cpu._is_avx512_bf16_supported())


def _train_mode(model: nn.Module, recipe: Recipe) -> None:
    model.train()
    if recipe.optimizer.encoder_lr == 0:  # frozen: its batch norm must not drift either
        model.get_submodule("encoder").eval()
