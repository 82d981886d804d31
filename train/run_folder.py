"""The files of a training run, each written atomically: recipe, state, weights, log and batches that failed.

recipe.json         the recipe with every default filled in
state.pt            weights, average, optimiser and step, with a checksum; read without unpickling objects. With a
tree-triplet loss also its projection head, which no checkpoint holds
state.previous.pt   the state before: a run resumes from it if the newest is damaged
last.safetensors    averaged weights at the newest validation; no epoch is chosen on validation photos
log.jsonl           one line per validation
batch-STEP.npz      the photos, label maps and ids of a batch whose loss was not a number
tensorboard/        curves
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import pickle
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from hierseg import files
from hierseg.errors import UserError
from train.batches import Crops
from train.recipe import Recipe

_SEAL = hashlib.sha256().digest_size  # bytes of the checksum at the end of a state
STATES = ("state.pt", "state.previous.pt")  # the newest first
WEIGHTS = "last.safetensors"
FILES = ("recipe.json", *STATES, WEIGHTS, "log.jsonl")


class TrainingError(UserError):
    """Training cannot continue. The message says why and what was kept."""


def claim(run: Path, recipe: Recipe, fresh: bool) -> None:
    """Create the run's folder, or check that it holds this recipe's run.

    Args:
        run: The folder.
        recipe: The recipe.
        fresh: Delete the run in the folder first.

    Raises:
        TrainingError: The folder holds a run of another recipe.
    """
    record = run / "recipe.json"
    values = recipe.to_dict()
    if recipe.start_from:  # by its content, so that a run may be moved with the weights it starts from
        values["start_from"] = hashlib.sha256(Path(recipe.start_from).read_bytes()).hexdigest()
    content = json.dumps(values, indent=1)
    unwanted = [path for name in FILES for path in run.glob(f".{name}.*")]  # left by a killed process
    if fresh:
        unwanted += [*(run / name for name in FILES), *run.glob("batch-*.npz")]
    for path in unwanted:
        path.unlink(missing_ok=True)
    if fresh:
        shutil.rmtree(run / "tensorboard", ignore_errors=True)
    if record.is_file() and record.read_text(encoding="utf-8") != content:
        raise TrainingError(
            f"{run} holds a run of another recipe. Choose another folder; --fresh deletes that run and starts again."
        )
    files.write_atomically(record, content.encode())


def read_state(run: Path) -> dict[str, Any] | None:
    """Return the newest undamaged state, or None if none was saved.

    Raises:
        TrainingError: All states are damaged.
    """
    found = [run / name for name in STATES if (run / name).is_file()]
    for path in found:
        content = path.read_bytes()
        payload, seal = content[:-_SEAL], content[-_SEAL:]
        with contextlib.suppress(pickle.UnpicklingError):  # it holds more than weights and numbers
            if hashlib.sha256(payload).digest() == seal:
                return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
        tqdm.write(f"{path} is damaged and left out.", file=sys.stderr)
    if found:
        raise TrainingError(f"{run} holds no state that is sound. Start again with --fresh, or put a sound one there.")
    return None


def write_state(run: Path, state: dict[str, Any]) -> None:
    """Write a state for `read_state`, and keep the one before."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    newest, previous = (run / name for name in STATES)
    files.write_atomically(newest, payload + hashlib.sha256(payload).digest(), keep=previous)


def keep_batch(path: Path, crops: Crops, batch: list[tuple[int, int]], ids: Sequence[str]) -> None:
    """Save a batch for inspection: photos (B, 3, H, W), label maps (B, H, W), the ids and the crops' seeds.

    The label maps have the numbers of `train.knowledge`.
    """
    photos, label_maps = zip(*(crops[address] for address in batch), strict=True)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        photos=np.stack(photos),
        label_maps=np.stack(label_maps),
        ids=np.array([ids[index] for index, _ in batch]),
        seeds=np.array([seed for _, seed in batch]),
    )
    files.write_atomically(path, buffer.getvalue())


def log_epoch(run: Path, epoch: int, losses: list[float], summary: dict[str, Any], seconds: float) -> None:
    """Add an epoch's line to the log, and print its main figures."""
    line = {"epoch": epoch, "loss": float(np.mean(losses)), "seconds": round(seconds), **summary}
    path = run / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    # A run killed between this line and its state validates the same epoch again.
    lines = [*(old for old in lines if json.loads(old)["epoch"] < epoch), json.dumps(line)]
    files.write_atomically(path, ("\n".join(lines) + "\n").encode())
    found = summary["dataset_iou"]["levels"]
    levels = "  ".join(f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in found.items())
    nobody = f"  somebody {summary['nobody']['somebody']:.3f}" if "nobody" in summary else ""
    raw = f"raw {summary['violations']:.5f}"
    tqdm.write(f"epoch {epoch}  loss {line['loss']:.4f}  IoU {levels}  {raw}{nobody}")
