"""How long a visitor waits for one photo, compared with the predecessor's pipeline."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import torch
from PIL import Image

from benchmarks.server import serving
from benchmarks.timing import Row, interleaved
from hierseg.decoding import decode
from hierseg.network import checkpoint
from hierseg.network.engines import Network, TorchNetwork, open_network
from hierseg.page import payload
from hierseg.photo import Photo, open_photo
from hierseg.predictor import Predictor, predict_all
from hierseg.tree import Hierarchy
from hierseg.visualize import encoded, overlay
from studies.predecessor.pipeline import Pipeline

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "astronaut.jpg"
NAMES = ("bce", "ftm", "leaf")


def photo_of(megapixels: float) -> bytes:
    """Return an example photo as a 4:3 JPEG of this many megapixels."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    return encoded(Image.open(EXAMPLE).convert("RGB").resize((height * 4 // 3, height)), "JPEG", quality=90)


def rows(rounds: int) -> list[Row]:
    """Measure, timing each call `rounds` times."""
    predictors = {name: Predictor(name) for name in NAMES}
    predecessor = Pipeline()
    return [
        *_pipelines(rounds, predictors, predecessor),
        *_sizes(rounds, predictors),
        *_stages(rounds, predictors["bce"]),
        *_engines(rounds),
    ]


def masks(predictors: dict[str, Predictor], data: bytes) -> list[Photo]:
    """Return a photo, given as bytes, with the parts from each checkpoint drawn over it."""
    pixels = open_photo(data)
    return [overlay(pixels, each.labels, each.hierarchy) for each in predict_all(predictors, pixels).values()]


def _pipelines(rounds: int, predictors: dict[str, Predictor], predecessor: Pipeline) -> list[Row]:
    data = photo_of(0.5)
    one = {"bce": predictors["bce"]}
    quick = predictors["bce"].using(zoom=None)
    calls: dict[str, Callable[[], object]] = {
        "predecessor": partial(predecessor, data),
        "224": partial(masks, {"bce": quick.using(input_size=224)}, data),
        "one": partial(masks, one, data),
        "three": partial(masks, predictors, data),
        "plain": partial(masks, {"bce": quick}, data),
    }
    found = interleaved(calls, rounds)
    unit = found["predecessor"]
    return [
        Row("predecessor's pipeline, 0.5 MP (the unit of the next four)", f"1x = {unit * 1000:.0f} ms"),
        Row.at_least("one checkpoint, 224 px, one pass", unit / found["224"], 10),
        Row("one checkpoint, 384 px, without zoom", f"{unit / found['plain']:.1f}x"),
        Row.at_least("one checkpoint, as the page runs it: 384 px and zoom", unit / found["one"], 6),
        Row.at_least("three checkpoints, as the page runs them", unit / found["three"], 1),
    ]


def _sizes(rounds: int, predictors: dict[str, Predictor]) -> list[Row]:
    photos = {size: photo_of(size) for size in (0.2, 1, 4, 12)}
    with serving() as server, contextlib.closing(HTTPConnection(urlsplit(server.address).netloc)) as connection:

        def send(photo: bytes) -> bytes:
            connection.request("POST", "/photo", photo)
            return connection.getresponse().read()

        # Separate rotations: a network's threads spin for a while after use, and would slow the other process down.
        pages = interleaved({size: partial(send, photo) for size, photo in photos.items()}, rounds)
        answers = {"library": partial(_shown, predictors, photos[1]), "page": partial(send, photos[1])}
        found = interleaved(answers, rounds)
    overlays = interleaved({size: partial(masks, predictors, photo) for size, photo in photos.items()}, rounds)
    return [
        Row("three checkpoints on the page, 1 MP, to the answer's last byte", f"1x = {pages[1] * 1000:.0f} ms"),
        *(Row(f"the same, {size} MP", f"{pages[size] / pages[1]:.2f}x") for size in (0.2, 4)),
        Row.at_most("the same, 12 MP", pages[12] / pages[1], 3),
        Row.at_most(
            "the page, 1 MP, relative to predict_all and payload in the library", found["page"] / found["library"], 1.5
        ),
        Row("three checkpoints in the library, 1 MP, overlays at full size", f"1x = {overlays[1] * 1000:.0f} ms"),
        *(Row(f"the same, {size} MP", f"{overlays[size] / overlays[1]:.2f}x") for size in (0.2, 4, 12)),
    ]


def _shown(predictors: dict[str, Predictor], photo: bytes) -> bytes:
    shown = payload.shrink(open_photo(photo))
    return payload.scene(shown, predictors, predict_all(predictors, shown))


def _stages(rounds: int, predictor: Predictor) -> list[Row]:
    pixels = open_photo(photo_of(1))
    prediction = predictor.using(zoom=None).predict(pixels)
    labels, tree = prediction.labels, prediction.hierarchy
    canvas = prediction.whole.letterbox.apply(pixels, (128, 128, 128))
    reference = Predictor(predictor.name, "cpu").network
    pictures = canvas[None]
    scores = prediction.scores

    def decoded() -> object:
        prediction._decoded.clear()
        return prediction.decoded()

    found = interleaved(
        {
            "network": partial(predictor.network, pictures),
            "reference": partial(reference, pictures),
            "decode": decoded,
            "overlay": partial(overlay, pixels, labels, tree),
            "arrays": partial(decode, scores[:, :200, :200], tree),
            "loop": partial(_decoded_in_a_loop, scores[:, :200, :200], tree),
        },
        rounds,
    )
    after = found["decode"] + found["overlay"]
    return [
        Row.at_most("decoding and overlay at 1 MP, relative to the network", after / found["network"], 0.2, "{:.0%}"),
        Row("the same, relative to the network in PyTorch", f"{after / found['reference']:.0%}"),
        Row("decoding 200 by 200 pixels in a Python loop", f"{found['loop'] / found['arrays']:.0f}x the time"),
    ]


def _engines(rounds: int) -> list[Row]:
    path = checkpoint.find("bce")
    model, card = checkpoint.load(path)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 256, 320, 3), dtype=np.uint8)

    def in_bfloat16(network: Network) -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return network(pictures)

    plain, last = TorchNetwork(model, card), TorchNetwork(checkpoint.load(path)[0], card, "cpu")
    exported = open_network(path)
    found = interleaved(
        {
            "ONNX Runtime, float32": partial(exported, pictures),
            "PyTorch, float32": partial(plain, pictures),
            "PyTorch, float32, channels last": partial(last, pictures),
            "PyTorch, bfloat16, channels last": partial(in_bfloat16, last),
        },
        rounds,
    )
    unit = found["ONNX Runtime, float32"]
    return [Row(f"network alone, {name}", f"{seconds / unit:.2f}x the time") for name, seconds in found.items()]


def _decoded_in_a_loop(scores: np.ndarray, tree: Hierarchy) -> np.ndarray:
    labels = np.full(scores.shape[1:], tree.background, dtype=np.uint8)
    for row in range(scores.shape[1]):
        for column in range(scores.shape[2]):
            means = [sum(scores[node, row, column] for node in path) / len(path) for path in tree.paths]
            best = max(range(len(means)), key=means.__getitem__)
            if means[best] > 0.5:
                labels[row, column] = tree.labels[tree.leaves[best]]
    return labels
