"""Two real processes against one, and shared batch norm against torch's own."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from timm.layers.norm_act import BatchNormAct2d
from torch import nn

from hierseg.network import checkpoint
from hierseg.network.model import ModelSpec
from tests import REPOSITORY
from tests.data import write_dataset
from train.distributed import share_batch_norm
from train.fit import fit
from train.recipe import Augment, Crop, Optimizer, Recipe

pytestmark = pytest.mark.slow


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A group with only this process."""
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, BatchNormAct2d])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_alone_it_is_torchs_batch_norm(group: None, kind: type[nn.BatchNorm2d], momentum: float | None) -> None:
    torch.manual_seed(0)
    own, shared = kind(3, momentum=momentum), kind(3, momentum=momentum)
    for norm in (own, shared):
        torch.manual_seed(1)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    share_batch_norm(shared)
    for _ in range(3):
        features = (5 + 3 * torch.randn(2, 3, 4, 5)).requires_grad_()
        twin = features.detach().clone().requires_grad_()
        upstream = torch.randn(2, 3, 4, 5)
        own(features).backward(upstream)
        shared(twin).backward(upstream)
        torch.testing.assert_close(twin.grad, features.grad, atol=1e-5, rtol=1e-4)
    for (name, value), other in zip(own.state_dict().items(), shared.state_dict().values(), strict=True):
        torch.testing.assert_close(other, value, msg=name)
    for first, second in zip(own.parameters(), shared.parameters(), strict=True):
        torch.testing.assert_close(second.grad, first.grad, atol=1e-5, rtol=1e-4)
    sample = torch.randn(1, 3, 2, 2)
    torch.testing.assert_close(shared.eval()(sample), own.eval()(sample))


def test_two_processes_train_as_one(tiny_spec: ModelSpec, tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", train=8, val=2)
    for number in range(0, 8, 3):  # labels that stop higher, so that processes know different numbers of pixels
        mask = data / "gt_masks" / f"train_{number}.png"
        label_map = np.array(Image.open(mask))
        label_map[label_map > 0] = 8 if number else 7
        Image.fromarray(label_map).save(mask)
    recipe = Recipe(
        loss="focal_tree_min",
        positive_weights={"head": 2.0},
        jaccard=0.5,
        model=tiny_spec,
        pretrained=False,
        mixed_precision=False,  # bfloat16 would round tiny differences up
        crop=Crop(size=64, scale=(0.9, 1.6)),  # reaches over the photo's edge, so that valid pixels differ
        augment=Augment(),
        optimizer=Optimizer(lr=3e-3, encoder_lr=1e-3),
        epochs=4,
        batch_size=4,
        threshold_photos=0,
    )
    fit(recipe, data, tmp_path / "one")
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.to_dict()), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(port)),
        *("--module", "train", "fit", str(file), "--data", str(data), "--run", str(tmp_path / "two")),
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(launch, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

    one, two = (
        [json.loads(line)["loss"] for line in (tmp_path / run / "log.jsonl").read_text().splitlines()]
        for run in ("one", "two")
    )
    assert len(one) == 4 and one[-1] < one[0]
    assert two[0] == pytest.approx(one[0], rel=1e-5)
    # Adam amplifies rounding, which depends on the order of sums: in 8 steps, differences between processors or
    # numbers of threads grow to 3e-4.
    assert two == pytest.approx(one, rel=5e-3)
    weights = [checkpoint.load(tmp_path / run / "last.safetensors")[0].state_dict() for run in ("one", "two")]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name].float(), value.float(), atol=2e-2, rtol=5e-2, msg=name)
    # The same run with half the batch is another one: the comparison can fail.
    fit(dataclasses.replace(recipe, batch_size=2), data, tmp_path / "half")
    half = [json.loads(line)["loss"] for line in (tmp_path / "half" / "log.jsonl").read_text().splitlines()]
    assert half != pytest.approx(one, rel=1e-2)
