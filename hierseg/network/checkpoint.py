"""Save and load checkpoints: one safetensors file holds a trained network and everything needed to use and check it.

The metadata hold the model spec, the tree, the inference settings, the training record, a checksum of the weights and a
checksum of the metadata. Nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors

from hierseg import __version__
from hierseg.calibration import Calibration
from hierseg.errors import UserError
from hierseg.files import is_hidden, write_atomically
from hierseg.inference import Inference
from hierseg.network.model import ModelError, ModelSpec, build
from hierseg.risk import RiskControl
from hierseg.tree import Hierarchy, HierarchyError

if TYPE_CHECKING:  # PyTorch takes seconds to import; only weights need it, a card does not
    from torch import Tensor, nn

FORMAT = "hierseg-1"
_KEY = "hierseg"  # the one metadata key (safetensors would write several in random order); its value is JSON
_SEAL = "metadata_sha256"  # the key in that JSON for the checksum of all the rest


class CheckpointError(UserError):
    """A file is missing, damaged or not a hierseg checkpoint. The message says which and what to do."""


@dataclasses.dataclass(frozen=True)
class Card:
    """The description in a checkpoint's metadata.

    Attributes:
        spec: The network and its input.
        hierarchy: The tree whose nodes are the network's channels.
        title: Name that people see, for instance "Focal-Tree-Min".
        inference: Settings of inference, chosen for these weights.
        record: How it was trained: loss, recipe, data split and its hash, figures with their protocol.
        version: Version of the code that wrote it.
        calibration: Slope and intercept of each node, see `hierseg.calibration`; None if it is not calibrated.
        risk: The risks that it can promise, see `hierseg.risk`; None if they were not measured.
    """

    spec: ModelSpec
    hierarchy: Hierarchy
    title: str
    inference: Inference = dataclasses.field(default_factory=Inference)
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    version: str = __version__
    calibration: Calibration | None = None
    risk: RiskControl | None = None


def with_record(card: Card, **entries: Any) -> Card:
    """Return a card with entries added to its record."""
    return dataclasses.replace(card, record={**card.record, **entries})


def save(path: str | Path, model: nn.Module, card: Card) -> None:
    """Write a checkpoint atomically.

    Weights of two and more dimensions are stored in float16; vectors (biases, batch norm) stay float32.

    Args:
        path: Where to write.
        model: The network, built from `card.spec`.
        card: Its description.
    """
    _write(Path(path), {name: _stored(tensor) for name, tensor in model.state_dict().items()}, card)


def write_card(path: str | Path, card: Card) -> None:
    """Replace the card of a checkpoint; its weights do not change.

    Args:
        path: A file written by `save`.
        card: The new card.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    _write(Path(path), _tensors(Path(path), _content(Path(path))), card)


def load(path: str | Path) -> tuple[nn.Module, Card]:
    """Read a checkpoint, check it and build its network.

    Args:
        path: A file written by `save`.

    Returns:
        The network in eval mode with float32 weights, and its card.

    Raises:
        CheckpointError: The file is missing or damaged, or its weights do not fit its card.
    """
    path = Path(path)
    content = _content(path)
    card = _card(path, content)
    tensors = _tensors(path, content)
    try:
        model = build(card.spec)
    except ModelError as error:
        raise CheckpointError(f"{path}: {error}") from error
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not hold the weights of the {card.spec.architecture} it names.") from error
    return model.eval(), card


def read_card(path: str | Path) -> Card:
    """Read a checkpoint's card without loading its weights.

    Raises:
        CheckpointError: The file is missing or not a hierseg checkpoint.
    """
    return _card(Path(path), _content(Path(path)))


def available(folder: str | Path) -> dict[str, Path]:
    """Return the checkpoints in a folder by name (the file name without its ending), sorted, without hidden files."""
    found = sorted(Path(folder).glob("*.safetensors"))
    return {path.stem: path for path in found if path.is_file() and not is_hidden(Path(path.name))}


def default_folder() -> Path:
    """Return the folder of the published checkpoints: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "checkpoints"
    return inside if inside.is_dir() else package.parent / "checkpoints"


def find(name_or_path: str | Path) -> Path:
    """Find a checkpoint by its name, such as "ftm", or by its path.

    Raises:
        CheckpointError: There is none; the message lists all by name.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    folder = default_folder()
    known = available(folder)
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    listed = ", ".join(known) or f"none in {folder}"
    raise CheckpointError(f"There is no checkpoint {str(name_or_path)!r}. Checkpoints by name: {listed}.")


def _content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist.")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
        content = json.loads(metadata.get(_KEY, "null"))
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not a safetensors file, or it is damaged. Old .pt files must be converted first."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is a safetensors file, but not a hierseg checkpoint of format {FORMAT}.")
    if content.pop(_SEAL, None) != _seal(content):
        raise CheckpointError(f"{path} is damaged: its metadata do not match their checksum. Fetch it again.")
    return content


def _tensors(path: Path, content: dict[str, Any]) -> dict[str, Tensor]:
    import safetensors.torch

    try:
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:  # KeyError: a type unknown to PyTorch
        raise CheckpointError(f"{path} is damaged. Fetch it again.") from error
    if _digest(tensors) != content.get("sha256"):
        raise CheckpointError(f"{path} is damaged: its weights do not match their checksum. Fetch it again.")
    return tensors


def _write(path: Path, tensors: dict[str, Tensor], card: Card) -> None:
    import safetensors.torch

    content = {
        "format": FORMAT,
        "spec": card.spec.to_dict(),
        "hierarchy": card.hierarchy.to_dict(),
        "title": card.title,
        "inference": dataclasses.asdict(card.inference),
        **({"calibration": card.calibration} if card.calibration else {}),
        **({"risk": dataclasses.asdict(card.risk)} if card.risk else {}),
        "record": card.record,
        "version": card.version,
        "sha256": _digest(tensors),
    }
    content[_SEAL] = _seal(content)
    write_atomically(path, safetensors.torch.save(tensors, metadata={_KEY: json.dumps(content)}))


def _card(path: Path, content: dict[str, Any]) -> Card:
    try:
        card = Card(
            spec=ModelSpec.from_dict(content["spec"]),
            hierarchy=Hierarchy.from_dict(content["hierarchy"], source=str(path)),
            title=str(content["title"]),
            # Files from before 2026-11-26 have only a threshold.
            inference=Inference.from_dict(content.get("inference") or {"threshold": content["threshold"]}),
            calibration=_calibration(content.get("calibration")),
            risk=RiskControl.from_dict(content["risk"]) if content.get("risk") is not None else None,
            record=dict(content["record"]),
            version=str(content["version"]),
        )
    except (ModelError, HierarchyError) as error:
        raise CheckpointError(f"{path} has invalid metadata: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path} has invalid metadata. Fetch it again.") from error
    if card.calibration and len(card.calibration) != len(card.hierarchy):
        raise CheckpointError(f"{path} has invalid metadata: it calibrates other nodes. Fetch it again.")
    if card.spec.classes != len(card.hierarchy):
        raise CheckpointError(f"{path} has {card.spec.classes} channels for a tree of {len(card.hierarchy)} nodes.")
    return card


def _calibration(values: Any) -> Calibration | None:
    pairs = None if values is None else tuple((float(slope), float(intercept)) for slope, intercept in values)
    if pairs and not all(math.isfinite(slope + intercept) and slope >= 0 for slope, intercept in pairs):
        raise ValueError("a calibration must have finite numbers, and slopes of at least 0")
    return pairs


def _seal(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _stored(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.ndim > 1 and tensor.is_floating_point() else tensor


def _digest(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of all tensors; their order in the file does not matter."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
