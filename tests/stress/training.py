"""Training that is killed again and again ends with the same weights as uninterrupted training."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch

import train.run_folder
import train.session
from hierseg import files
from hierseg.network.model import ModelSpec
from tests.data import write_dataset
from tests.networks import tiny_recipe
from train.fit import fit
from train.recipe import Recipe

pytestmark = pytest.mark.timeout(3600)  # a minute of computing, which a busy machine makes long

KILLS = 20
PHOTOS, BATCH = 10, 4
EPOCHS = 45


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), train=PHOTOS, val=2)


@pytest.fixture(scope="module")
def recipe(tiny_spec: ModelSpec) -> Recipe:
    return tiny_recipe(tiny_spec, epochs=EPOCHS, batch_size=BATCH)


@pytest.fixture(scope="module")
def server() -> ForkServerContext:
    """Starts processes that have imported all modules and share no memory with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["train.fit"])
    return context


def train_and_tell(recipe: Recipe, data: Path, run: Path, told: Connection, stop: tuple[str, int] | None) -> None:
    """Train in a separate process, report every step, and pause in the middle of a save on request.

    Args:
        recipe: As for `fit`.
        data: As for `fit`.
        run: As for `fit`.
        told: Gets b"step" before each step and b"stop" at the pause.
        stop: Name and number of the call of `os.fsync` or `os.replace` for a state before which to pause.
    """
    os.setsid()  # so that the loader's process can be killed with it
    os.environ["TQDM_DISABLE"] = "1"
    torch.set_num_threads(1)
    normalize, write, calls = train.session.normalize, files.write_atomically, 0

    def telling(photos: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
        told.send_bytes(b"step")
        return normalize(photos, spec)

    def standing(path: Path, payload: bytes, keep: Path | None = None) -> None:
        if stop is None or path.name != "state.pt":
            return write(path, payload, keep)
        name, number = stop
        real: Callable[..., None] = getattr(os, name)

        def count(*arguments: object) -> None:
            nonlocal calls
            calls += 1
            if calls == number:
                told.send_bytes(b"stop")
                signal.pause()
            real(*arguments)

        setattr(os, name, count)
        try:
            return write(path, payload, keep)
        finally:
            setattr(os, name, real)

    train.session.normalize = telling
    files.write_atomically = standing
    fit(recipe, data, run)


def train_until(
    server: ForkServerContext, recipe: Recipe, data: Path, run: Path, steps: int, stop: tuple[str, int] | None = None
) -> int | None:
    """Train in a process, kill it after some steps or at the pause, and return its exit code."""
    told, telling = server.Pipe(duplex=False)
    process = server.Process(target=train_and_tell, args=(recipe, data, run, telling, stop))
    process.start()
    telling.close()
    try:
        while steps and told.recv_bytes() == b"step":
            steps -= 1
        os.killpg(process.pid or 0, signal.SIGKILL)
    except EOFError:  # it came to its end
        pass
    process.join()
    return process.exitcode


def assert_same_end(first: Path, second: Path) -> None:
    states = [train.run_folder.read_state(folder) for folder in (first, second)]
    assert all(state is not None and state["step"] == EPOCHS * (PHOTOS // BATCH) for state in states)
    for state in states:
        assert state is not None
    weights = [state["model"] | state["average"] for state in states if state is not None]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    assert (first / "last.safetensors").read_bytes() == (second / "last.safetensors").read_bytes()
    assert {path.name for path in first.iterdir()} == {path.name for path in second.iterdir()}


@pytest.fixture(scope="module")
def undisturbed(
    server: ForkServerContext, recipe: Recipe, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    run = tmp_path_factory.mktemp("undisturbed")
    assert train_until(server, recipe, data, run, steps=10**6) == 0
    return run


def test_training_killed_twenty_times_at_random_steps_ends_with_the_same_weights(
    server: ForkServerContext, recipe: Recipe, data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    chance = random.Random(6)
    for _ in range(KILLS):
        assert train_until(server, recipe, data, tmp_path, steps=chance.randint(1, 4)) == -signal.SIGKILL
    assert train_until(server, recipe, data, tmp_path, steps=10**6) == 0
    assert_same_end(tmp_path, undisturbed)


def test_training_killed_in_the_middle_of_saves_ends_with_the_same_weights(
    server: ForkServerContext, recipe: Recipe, data: Path, undisturbed: Path, tmp_path: Path
) -> None:
    # The first save of a run renames once, every other twice: the old state goes, the new one comes.
    for stop in (("fsync", 1), ("replace", 1), ("fsync", 2), ("replace", 2), ("replace", 3), ("replace", 4)):
        assert train_until(server, recipe, data, tmp_path, 10**6, stop) == -signal.SIGKILL
        assert list(tmp_path.glob(".state.pt.*"))  # the save was under way
    assert train_until(server, recipe, data, tmp_path, steps=10**6) == 0
    assert_same_end(tmp_path, undisturbed)
