"""Guided enlarging is a least-squares fit in each neighbourhood, and keeps the edges of the photo."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from hierseg.network.guided import guided
from hierseg.network.model import ModelSpec, build

_FLAT = 1e-3


def _enlarged(maps: np.ndarray) -> np.ndarray:
    return functional.interpolate(torch.from_numpy(maps)[None], scale_factor=2, mode="bilinear")[0].numpy()


def _window(height: int, width: int, row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of a cell's nine neighbours, those outside moved to the edge."""
    rows, columns = np.meshgrid(np.arange(row - 1, row + 2), np.arange(column - 1, column + 2), indexing="ij")
    return rows.clip(0, height - 1).ravel(), columns.clip(0, width - 1).ravel()


def brute_force(logits: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Enlarge logits (N, h, w) along the edges of an image (3, 4h, 4w), a cell at a time, in double precision."""
    half = image.reshape(3, image.shape[1] // 2, 2, image.shape[2] // 2, 2).mean((2, 4))
    colours = half.reshape(3, half.shape[1] // 2, 2, half.shape[2] // 2, 2).mean((2, 4))
    nodes, height, width = logits.shape
    lines = np.zeros((4, nodes, height, width))  # three slopes and the offset
    for row in range(height):
        for column in range(width):
            window = _window(height, width, row, column)
            x, y = colours[:, *window], logits[:, *window]
            x_mean, y_mean = x.mean(1), y.mean(1)
            spread = (x - x_mean[:, None]) @ (x - x_mean[:, None]).T / 9 + _FLAT * np.eye(3)
            slopes = np.linalg.solve(spread, (x - x_mean[:, None]) @ (y - y_mean[:, None]).T / 9)
            lines[:, :, row, column] = [*slopes, y_mean - slopes.T @ x_mean]
    means = np.zeros_like(lines)
    for row in range(height):
        for column in range(width):
            means[:, :, row, column] = lines[:, :, *_window(height, width, row, column)].mean(-1)
    large = _enlarged(means.reshape(4 * nodes, height, width)).reshape(4, nodes, 2 * height, 2 * width)
    return _enlarged((large[:3] * half[:, None]).sum(0) + large[3])


@pytest.mark.parametrize("seed", range(4))
def test_it_is_a_least_squares_fit_in_each_neighbourhood(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 7, 2)
    image = random.uniform(-1, 1, (3, 4 * height, 4 * width))
    image[:, : 2 * height] *= random.choice([0, 0.01, 1])  # flat, faint and strong edges
    logits = random.normal(0, 5, (3, height, width))
    found = guided(torch.from_numpy(logits)[None].float(), torch.from_numpy(image)[None].float())[0]
    np.testing.assert_allclose(found, brute_force(logits, image), rtol=1e-3, atol=1e-3)


def test_logits_without_edges_and_photos_without_edges_stay_as_they_are() -> None:
    random = torch.Generator().manual_seed(0)
    photo = torch.rand(2, 3, 32, 48, generator=random) * 2 - 1
    constant = torch.randn(2, 9, 1, 1, generator=random).expand(2, 9, 8, 12)
    torch.testing.assert_close(guided(constant, photo), constant[:, :, :1, :1].expand(2, 9, 32, 48), atol=1e-4, rtol=0)
    # Where the photo has no edge, what is left is a mean over neighbours of neighbours, the same for all nodes.
    logits = torch.randn(1, 1, 8, 12, generator=random)
    flat = guided(torch.cat([logits, 3 * logits + 1], 1), torch.full((1, 3, 32, 48), 0.3))
    torch.testing.assert_close(flat[:, 1], 3 * flat[:, 0] + 1, atol=1e-4, rtol=0)


def test_an_edge_between_cells_is_put_where_the_photo_has_it() -> None:
    photo = torch.full((1, 3, 32, 32), -0.5)
    photo[..., 18:] = 0.5  # no multiple of 4: a cell is cut in two
    logits = torch.full((1, 1, 8, 8), -3.0)
    logits[..., 5:] = 3.0
    logits[..., 4] = 0.0  # half of its columns lie beyond the edge
    found = guided(logits, photo)[0, 0]
    blurred = functional.interpolate(logits, scale_factor=4, mode="bilinear")[0, 0]
    assert (found[:, :17] < 0).all() and (found[:, 19:] > 0).all()
    assert found[:, 19].mean() - found[:, 16].mean() > 2 * (blurred[:, 19].mean() - blurred[:, 16].mean())


def test_weights_of_a_segformer_fit_and_gradients_reach_them_all() -> None:
    options = {"decoder_segmentation_channels": 8}
    plain = build(ModelSpec("Segformer", "tu-test_efficientnet", options=options))
    network = build(ModelSpec("GuidedSegformer", "tu-test_efficientnet", options=options))
    network.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(images)
    assert logits.dtype == torch.float32
    logits.square().mean().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())
