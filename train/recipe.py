"""What a training run does, as data: a YAML file read into dataclasses in which an unknown key is an error."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
import yaml

from hierseg.errors import UserError
from hierseg.losses import ACTIVATION_OF, LOSSES
from hierseg.network.model import ModelSpec
from hierseg.tree import Hierarchy, HierarchyError

_SCIENTIFIC = re.compile(r"[+-]?\d+[eE][+-]?\d+")


class RecipeError(UserError):
    """A recipe is wrong. The message names the file and the key."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A folder of photos to train on.

    Attributes:
        folder: Below the data folder that the command names; "." is that folder itself.
        share: Share of all crops that it gives; the shares of all sources are divided by their sum.
        nobody: Its photos show nobody and have no masks: all of each is background.
    """

    folder: str = "."
    share: float = 1.0
    nobody: bool = False


@dataclasses.dataclass(frozen=True)
class Crop:
    """Which square of a photo is trained on.

    Attributes:
        size: Side of the network's input in pixels.
        scale: Range of the square's side as a share of the photo's longer side; above 1 leaves a margin.
        near_person: Share of the squares that are centred on a pixel of a person.
        nobody: Share of the squares that show nobody: cut beside the people of the photo, or a plain surface where
            they leave no room. Without them a network that saw people only finds one everywhere.
    """

    size: int = 224
    scale: tuple[float, float] = (0.4, 1.1)
    near_person: float = 0.7
    nobody: float = 0.0


@dataclasses.dataclass(frozen=True)
class Augment:
    """Random changes to a crop; each number is a probability unless it says otherwise.

    Attributes:
        flip: Mirror left and right.
        rotate: Largest turn in degrees, either way.
        color: Change brightness, contrast, saturation and hue.
        grey: Take the colour out.
        blur: Blur or JPEG-compress.
        paste: Paste the people of another photo's crop over it (Ghiasi et al., CVPR 2021, arXiv 2012.07177).
    """

    flip: float = 0.5
    rotate: float = 0.0
    color: float = 0.8
    grey: float = 0.05
    blur: float = 0.1
    paste: float = 0.0


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How weights move.

    Attributes:
        name: "adamw" or "adam".
        lr: Peak learning rate of everything but the encoder.
        encoder_lr: Peak learning rate of the encoder; 0 freezes it with its batch norm in eval mode.
        weight_decay: On weights of two and more dimensions only.
        schedule: "one_cycle" (warm-up, then cosine to nearly 0) or "constant".
        warmup: Share of all steps spent warming up in "one_cycle".
    """

    name: Literal["adamw", "adam"] = "adamw"
    lr: float = 2e-3
    encoder_lr: float = 5e-4
    weight_decay: float = 0.01
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    warmup: float = 0.1


@dataclasses.dataclass(frozen=True)
class Triplet:
    """The tree-triplet loss beside the loss, see `hierseg.losses.triplet`.

    Attributes:
        weight: Its factor at the end of the run; it rises from 0 by half a cosine.
        pixels: How many pixels of each label a step draws at most.
        channels: Of the embeddings.
    """

    weight: float = 0.5
    pixels: int = 200
    channels: int = 256


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        loss: Name of a function in `hierseg.losses`.
        gamma: Focusing exponent of the focal losses.
        reduction: "node" or "level", see `hierseg.losses`.
        positive_weights: Factor on positive pixels of rare nodes, by node name; 1 for the rest.
        jaccard: Weight of the region term beside the loss, see `hierseg.losses.soft_jaccard`; 0 for none.
        triplet: The tree-triplet loss beside it; None for none.
        data: The folders of photos. The first one that has masks also has the validation list.
        hierarchy: YAML file of the tree; None for the default tree.
        model: The network and its input when it is used. Its activation, if it is not named, is the loss's own.
        pretrained: Start from published weights in the encoder, see `hierseg.network.pretrained`.
        start_from: Checkpoint whose weights to start from instead, or only its encoder's where the decoder is another;
            None otherwise.
        crop: What is cut from the photos.
        augment: Random changes.
        optimizer: How weights move.
        epochs: In each, as many crops are seen as there are training photos.
        batch_size: Photos a step, over all processes.
        ema_decay: Decay of the moving average of weights that is validated and saved, a step.
        validation_photos: How many photos of the validation list draw the curves; 0 for all. They choose nothing.
        threshold_photos: How many training photos choose the decoding threshold and calibrate the scores; 0 for none.
        mixed_precision: Use bfloat16 where the machine has it.
        seed: Fixes weights, order and augmentation.
    """

    loss: str
    gamma: float = 2.0
    reduction: Literal["node", "level"] = "node"
    positive_weights: dict[str, float] = dataclasses.field(default_factory=dict)
    jaccard: float = 0.0
    triplet: Triplet | None = None
    data: tuple[Source, ...] = (Source(),)
    hierarchy: str | None = None
    model: ModelSpec = dataclasses.field(default_factory=ModelSpec)
    pretrained: bool = True
    start_from: str | None = None
    crop: Crop = dataclasses.field(default_factory=Crop)
    augment: Augment = dataclasses.field(default_factory=Augment)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    epochs: int = 8
    batch_size: int = 16
    ema_decay: float = 0.995
    validation_photos: int = 100
    threshold_photos: int = 200
    mixed_precision: bool = True
    seed: int = 0

    @staticmethod
    def from_yaml(path: str | Path) -> Recipe:
        """Read a recipe of one stage.

        Raises:
            RecipeError: The file cannot be read, a key or value is wrong, or it has several stages.
        """
        recipes = Recipe.stages_from_yaml(path)
        if len(recipes) > 1:
            raise RecipeError(f"{path} has {len(recipes)} stages where one is wanted.")
        return recipes[0]

    @staticmethod
    def stages_from_yaml(path: str | Path) -> list[Recipe]:
        """Read a recipe that may have stages.

        Under the key `stages` stands a list with what is different in each; within crop, augment, optimizer, triplet
        and model, keys that are not named stay. Each stage but the first starts from the weights of the one before.

        Raises:
            RecipeError: The file cannot be read, or a key or value is wrong.
        """
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RecipeError(f"{path} cannot be read: {error}") from error
        if not isinstance(content, Mapping):
            raise RecipeError(f"{path} must hold keys such as loss and epochs.")
        stages = content.get("stages", [{}])
        if not isinstance(stages, list) or not stages or not all(isinstance(stage, Mapping) for stage in stages):
            raise RecipeError(f"{path}: stages must be a list of mappings, not {stages!r}.")
        common = {key: value for key, value in content.items() if key != "stages"}
        recipes = []
        for number, stage in enumerate(stages, 1):
            source = str(path) if "stages" not in content else f"{path}: stage {number}"
            recipes.append(Recipe.from_dict(_merged(common, stage), source))
        return recipes

    @staticmethod
    def from_dict(content: Any, source: str) -> Recipe:
        """Build a recipe from plain values, such as `to_dict` returns.

        Args:
            content: The values.
            source: What to call them in messages.

        Raises:
            RecipeError: A key or value is wrong.
        """
        recipe: Recipe = _build(Recipe, _with_activation(content), source)
        recipe.check(source)
        return recipe

    def check(self, source: str) -> None:
        """Check what types alone cannot.

        Raises:
            RecipeError: A value makes no sense.
        """
        if self.loss not in LOSSES:
            raise RecipeError(f"{source}: there is no loss {self.loss!r}; there are {', '.join(LOSSES)}.")
        if self.model.activation != (wanted := ACTIVATION_OF[self.loss]):
            raise RecipeError(
                f"{source}: the loss {self.loss} is for scores of the activation {wanted}; model.activation is "
                f"{self.model.activation}."
            )
        if self.crop.size % 32 or self.crop.size < 32:
            raise RecipeError(f"{source}: crop.size must be a multiple of 32, not {self.crop.size}.")
        if not 0 < self.crop.scale[0] <= self.crop.scale[1]:
            raise RecipeError(f"{source}: crop.scale must rise from above 0, not {list(self.crop.scale)}.")
        if not self.data:
            raise RecipeError(f"{source}: data must name at least one folder.")
        if len({entry.folder for entry in self.data}) < len(self.data):
            raise RecipeError(f"{source}: data names a folder twice.")
        if not all(0 < entry.share < math.inf for entry in self.data):
            raise RecipeError(f"{source}: each share in data must be above 0.")
        if all(entry.nobody for entry in self.data):
            raise RecipeError(f"{source}: data must name a folder with masks.")
        if min(self.epochs, self.batch_size) < 1:
            raise RecipeError(f"{source}: epochs and batch_size must be at least 1.")
        if self.optimizer.lr <= 0:
            raise RecipeError(f"{source}: optimizer.lr must be above 0, not {self.optimizer.lr}.")
        least_0: dict[str, float] = {
            "gamma": self.gamma,
            "jaccard": self.jaccard,
            "augment.rotate": self.augment.rotate,
            "optimizer.encoder_lr": self.optimizer.encoder_lr,
            "optimizer.weight_decay": self.optimizer.weight_decay,
            "validation_photos": self.validation_photos,
            "threshold_photos": self.threshold_photos,
            "seed": self.seed,
            **{f"positive_weights.{name}": weight for name, weight in self.positive_weights.items()},
        }
        if self.triplet:
            if min(self.triplet.pixels, self.triplet.channels) < 1:
                raise RecipeError(f"{source}: triplet.pixels and triplet.channels must be at least 1.")
            least_0["triplet.weight"] = self.triplet.weight
        for key, value in least_0.items():
            if value < 0:
                raise RecipeError(f"{source}: {key} must be at least 0, not {value}.")
        self._check_shares(source)
        tree = self.tree()
        if self.model.classes != len(tree):
            raise RecipeError(f"{source}: model.classes is {self.model.classes}, the tree has {len(tree)} nodes.")
        for name in self.positive_weights:
            try:
                tree.index(name)
            except HierarchyError as error:
                raise RecipeError(f"{source}: positive_weights: {error}") from error

    def _check_shares(self, source: str) -> None:
        shares = {
            "ema_decay": self.ema_decay,
            "crop.near_person": self.crop.near_person,
            "crop.nobody": self.crop.nobody,
            "optimizer.warmup": self.optimizer.warmup,
            **{f"augment.{key}": getattr(self.augment, key) for key in ("flip", "color", "grey", "blur", "paste")},
        }
        for key, value in shares.items():
            if not 0 <= value <= 1:
                raise RecipeError(f"{source}: {key} must lie between 0 and 1, not {value}.")

    def tree(self) -> Hierarchy:
        """Return the tree that the recipe names."""
        return Hierarchy.from_yaml(self.hierarchy) if self.hierarchy else Hierarchy.default()

    def node_weights(self) -> torch.Tensor | None:
        """Return `positive_weights` as a tensor (N,), or None if all are 1."""
        if not self.positive_weights:
            return None
        tree = self.tree()
        weights = torch.ones(len(tree))
        for name, weight in self.positive_weights.items():
            weights[tree.index(name)] = weight
        return weights

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for YAML and JSON, from which the same recipe is read."""
        values: dict[str, Any] = _plain(dataclasses.asdict(self))
        for key, default in (("triplet", None), ("jaccard", 0.0), ("data", [dataclasses.asdict(Source())])):
            if values[key] == default:
                del values[key]  # so that runs that are older than this key go on
        return values


def _with_activation(content: Any) -> Any:
    """Return a recipe's values with the activation that its loss is for, unless they name one."""
    if not isinstance(content, Mapping) or content.get("loss") not in ACTIVATION_OF:
        return content
    model = content.get("model", {})
    if not isinstance(model, Mapping) or "activation" in model:
        return content
    return {**content, "model": {**model, "activation": ACTIVATION_OF[content["loss"]]}}


def _merged(common: Mapping[str, Any], stage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the common keys with a stage's own over them, one level into mappings that are not data of their own."""
    merged = dict(common)
    for key, value in stage.items():
        both = isinstance(value, Mapping) and isinstance(common.get(key), Mapping) and key != "positive_weights"
        merged[key] = {**common[key], **value} if both else value
    return merged


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _build(kind: type, content: Any, where: str) -> Any:
    """Build a dataclass from a mapping, checking each key and type."""
    if not isinstance(content, Mapping):
        raise RecipeError(f"{where} must be a mapping, not {content!r}.")
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = get_type_hints(kind)
    for key in content:
        if key not in fields:
            raise RecipeError(f"{where}: unknown key {key!r}; there are {', '.join(fields)}.")
    for name, field in fields.items():
        if name not in content and field.default is field.default_factory is dataclasses.MISSING:
            raise RecipeError(f"{where}: the key {name!r} is missing.")
    return kind(**{key: _value(hints[key], value, f"{where}: {key}") for key, value in content.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, where)  # type: ignore[arg-type]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value not in arguments:
            raise RecipeError(f"{where} must be one of {', '.join(map(str, arguments))}, not {value!r}.")
        return value
    if origin is tuple and arguments[-1] is Ellipsis:
        if not isinstance(value, (list, tuple)):
            raise RecipeError(f"{where} must be a list, not {value!r}.")
        return tuple(_value(arguments[0], entry, f"{where}[{number}]") for number, entry in enumerate(value))
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or len(value) != len(arguments):
            raise RecipeError(f"{where} must be a list of {len(arguments)} numbers, not {value!r}.")
        return tuple(_value(kind, entry, where) for kind, entry in zip(arguments, value, strict=True))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise RecipeError(f"{where} must be a mapping, not {value!r}.")
        return {str(key): _value(arguments[1], entry, f"{where}.{key}") for key, entry in value.items()}
    if type(None) in arguments:
        return None if value is None else _value(arguments[0], value, where)
    if hint is float and isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
        value = float(value)  # 1e-3 without a point is a text in YAML 1.1
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise RecipeError(f"{where} must be a finite number, not {value!r}.")
    if hint is not Any and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise RecipeError(f"{where} must be of type {hint.__name__}, not {value!r}.")
    return value
