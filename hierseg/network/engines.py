"""Run a checkpoint's network with ONNX Runtime or PyTorch.

PyTorch is the reference and runs every checkpoint, on a processor or a graphics card. `python -m train export` writes
an ONNX file beside a checkpoint. On a processor, ONNX Runtime runs this file in half the time, and saves the seconds
that importing PyTorch takes.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from hierseg.decoding import Scores
from hierseg.network import checkpoint
from hierseg.network.activations import ACTIVATIONS
from hierseg.network.checkpoint import Card, CheckpointError
from hierseg.network.model import normalize

if TYPE_CHECKING:
    from torch import nn

EXPORTED = "onnx_sha256"  # key of a checkpoint's record: the SHA-256 of the ONNX file made from it


class Network(Protocol):
    """A network ready to run."""

    engine: str  # its name, for people to read

    def __call__(self, pictures: npt.NDArray[np.uint8]) -> Scores:
        """Return the node scores of letterboxed photos.

        Args:
            pictures: RGB, uint8 (B, H, W, 3), H and W multiples of `photo.STRIDE`.

        Returns:
            Scores, float32 (B, N, H, W), 0 to 1.
        """


class TorchNetwork:
    """A network that PyTorch runs."""

    def __init__(self, model: nn.Module, card: Card, device: str | None = None) -> None:
        """Prepare a network.

        Args:
            model: A module from normalised RGB to logits, in eval mode.
            card: Its spec and tree.
            device: The device to move it to; None to leave it where it is.
        """
        import torch

        self.engine = "PyTorch"
        self._model = model
        self._card = card
        if device is not None:
            model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in stubs

    def __call__(self, pictures: npt.NDArray[np.uint8]) -> Scores:
        """Return node scores, see `Network`."""
        import torch

        with torch.inference_mode():
            images = torch.from_numpy(pictures)
            weights = next(self._model.parameters(), images)  # photos go to the network's device
            images = normalize(images.to(weights.device).permute(0, 3, 1, 2), self._card.spec)
            logits = self._model(images.contiguous(memory_format=torch.channels_last))
            scores = ACTIVATIONS[self._card.spec.activation](logits, self._card.hierarchy)
            return np.asarray(scores.float().cpu().contiguous().numpy())


class OnnxNetwork:
    """A network that ONNX Runtime runs on the processor, in float32 like the reference."""

    engine = "ONNX Runtime"

    def __init__(self, path: Path, sha256: str) -> None:
        """Read an exported file.

        Args:
            path: The file.
            sha256: Its checksum, as recorded in the checkpoint.

        Raises:
            CheckpointError: The file cannot be read, or has another checksum.
        """
        import onnxruntime

        try:
            content = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise CheckpointError(
                f"{path} is damaged, or it was made from another checkpoint. Make it again: python -m train export."
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _threads()
        # Threads that spin while they wait would slow decoding down.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(self, pictures: npt.NDArray[np.uint8]) -> Scores:
        """Return node scores, see `Network`."""
        (scores,) = self._session.run(None, {"pictures": np.ascontiguousarray(pictures)})
        return np.asarray(scores)


def _threads() -> int:
    """Return how many threads a network may use: as many as PyTorch would; 0 leaves it to ONNX Runtime."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal():
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


@functools.cache
def _share_arena() -> None:
    """Let all networks of a process use the same memory: they run one after the other."""
    import onnxruntime

    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg({}))


def open_network(path: Path, device: str | None = None) -> Network:
    """Open a checkpoint's network with the fastest engine available.

    Args:
        path: A checkpoint.
        device: Device for PyTorch, such as "cpu" or "cuda". None takes the first that is available: PyTorch on a
            graphics card, ONNX Runtime with the exported file beside the checkpoint, PyTorch on the processor.

    Returns:
        The network.

    Raises:
        CheckpointError: A file is missing or damaged, or PyTorch is missing.
    """
    if device is None and _may_have_graphics_card():
        import torch

        device = "cuda" if torch.cuda.is_available() else None
    exported = path.with_suffix(".onnx")
    if device is None and exported.is_file():
        # A checkpoint without the key is newer than the ONNX file, which then holds other weights.
        sha256 = checkpoint.read_card(path).record.get(EXPORTED)
        if sha256 is not None:
            return OnnxNetwork(exported, sha256)
    if not _has_pytorch():
        raise CheckpointError(f"{path} needs PyTorch, which is not installed: pip install 'hierseg[torch]'.")
    model, card = checkpoint.load(path)
    return TorchNetwork(model, card, device or "cpu")


def _may_have_graphics_card() -> bool:
    """Tell whether to spend seconds on importing PyTorch, to ask it for a graphics card."""
    return _has_pytorch() and (bool(os.environ.get("SPACES_ZERO_GPU")) or shutil.which("nvidia-smi") is not None)


def _has_pytorch() -> bool:
    return importlib.util.find_spec("torch") is not None
