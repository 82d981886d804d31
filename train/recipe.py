"""What a training run does, as data: a YAML file read into dataclasses that check every key and value."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.types import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from hierseg.errors import UserError
from hierseg.inference import Inference
from hierseg.losses import ACTIVATION_OF, LOSSES
from hierseg.network.model import ModelSpec
from hierseg.tree import Hierarchy

_CHECKED = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)  # strict: true and "3" are not numbers
Share = Annotated[float, Field(ge=0, le=1)]


class RecipeError(UserError):
    """A recipe is wrong. The message names the file, the stage and the key."""


@dataclass(frozen=True, config=_CHECKED)
class Source:
    """A folder of photos to train on."""

    folder: str = "."  # below the data folder that the command names; "." is that folder itself
    share: PositiveFloat = 1.0  # of all crops; the shares of all sources are divided by their sum
    nobody: bool = False  # its photos show nobody and have no masks: all of each is background
    # By inner node, what its label in these masks never shows, see `train.knowledge`: {upper: [head]} around shirts.
    never: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, config=_CHECKED)
class Crop:
    """Which square of a photo is trained on."""

    size: Annotated[PositiveInt, Field(multiple_of=32)] = 224  # side of the network's input in pixels
    # Range of the square's side as a share of the photo's longer side; above 1 leaves a margin.
    scale: tuple[PositiveFloat, float] = (0.4, 1.1)
    near_person: Share = 0.7  # of the squares: centred on a pixel of a person
    # Share of the squares that show nobody: cut beside the people of the photo, or a plain surface where they leave no
    # room. Without them a network that saw people only finds one everywhere.
    nobody: Share = 0.0


@dataclass(frozen=True, config=_CHECKED)
class Augment:
    """Random changes to a crop; each number is a probability unless it says otherwise."""

    flip: Share = 0.5  # mirror left and right
    rotate: NonNegativeFloat = 0.0  # largest turn in degrees, either way
    color: Share = 0.8  # change brightness, contrast, saturation and hue
    grey: Share = 0.05  # take the colour out
    blur: Share = 0.1  # blur or JPEG-compress
    paste: Share = 0.0  # paste the people of another photo's crop over it (Ghiasi et al., CVPR 2021, arXiv 2012.07177)


@dataclass(frozen=True, config=_CHECKED)
class Optimizer:
    """How weights move."""

    name: Literal["adamw", "adam"] = "adamw"
    lr: PositiveFloat = 2e-3  # peak learning rate of everything but the encoder
    encoder_lr: NonNegativeFloat = 5e-4  # peak of the encoder; 0 freezes it with its batch norm in eval mode
    weight_decay: NonNegativeFloat = 0.01  # on weights of two and more dimensions only
    schedule: Literal["one_cycle", "constant"] = "one_cycle"  # one_cycle: warm-up, then cosine to nearly 0
    warmup: Share = 0.1  # of all steps, in one_cycle
    clip: PositiveFloat | None = 1.0  # norm that a longer gradient is scaled down to; None leaves it as it is


@dataclass(frozen=True, config=_CHECKED)
class Triplet:
    """The tree-triplet loss beside the loss, see `hierseg.losses.triplet`."""

    weight: NonNegativeFloat = 0.5  # its factor at the end of the run; it rises from 0 by half a cosine
    pixels: PositiveInt = 200  # how many pixels of each label a step draws at most
    channels: PositiveInt = 256  # of the embeddings
    features: Literal["decoder", "encoder"] = "decoder"  # whose last ones the embeddings are made of
    margin: PositiveFloat | None = None  # a fixed one, between distances from 0 to 2; None for one that the tree gives


@dataclass(frozen=True, config=_CHECKED)
class Recipe:
    """One training run."""

    loss: str  # name of a function in `hierseg.losses`
    # Factors of losses that are added up, by name, `loss` among them: it says what makes scores of the logits that all
    # of them share. Empty for `loss` alone.
    loss_weights: dict[str, PositiveFloat] = dataclasses.field(default_factory=dict)
    gamma: NonNegativeFloat = 2.0  # focusing exponent of the focal losses
    reduction: Literal["node", "level"] = "node"  # see `hierseg.losses`
    # Factor on positive pixels of rare nodes, by node name; 1 for the rest.
    positive_weights: dict[str, NonNegativeFloat] = dataclasses.field(default_factory=dict)
    jaccard: NonNegativeFloat = 0.0  # weight of the region term, see `hierseg.losses.soft_jaccard`; 0 for none
    rmi: NonNegativeFloat = 0.0  # weight of another, see `hierseg.losses.region_mutual_information`; 0 for none
    triplet: Triplet | None = None  # the tree-triplet loss beside it
    # The folders of photos. The first one that has masks also has the validation list.
    data: Annotated[tuple[Source, ...], Field(min_length=1)] = (Source(),)
    hierarchy: str | None = None  # YAML file of the tree; None for the default tree
    # The network and its input when it is used. Its activation, if it is not named, is the loss's own.
    model: ModelSpec = dataclasses.field(default_factory=ModelSpec)
    inference: Inference = Inference()  # how the checkpoint is used; its threshold is chosen at the end, see calibrate
    pretrained: bool = True  # start from published weights in the encoder, see `hierseg.network.pretrained`
    # Checkpoint whose weights to start from instead, or only its encoder's where the decoder is another.
    start_from: str | None = None
    crop: Crop = Crop()
    augment: Augment = Augment()
    optimizer: Optimizer = Optimizer()
    epochs: PositiveInt = 8  # in each, as many crops are seen as there are training photos
    batch_size: PositiveInt = 16  # photos a step, over all processes
    validate_every: PositiveInt = 1  # epochs between two validations, where a run also saves what it goes on from
    ema_decay: Share = 0.995  # a step, of the moving average of weights that is validated and saved
    validation_photos: NonNegativeInt = 100  # of the validation list, to draw the curves; 0 for all
    threshold_photos: NonNegativeInt = 200  # of people, and as many of nobody, to choose threshold and calibration
    mixed_precision: bool = True  # use bfloat16 where the machine has it
    seed: NonNegativeInt = 0  # fixes weights, order and augmentation

    def __post_init__(self) -> None:
        """Check what the type of one field cannot; pydantic turns a ValueError into its own."""
        if self.loss not in LOSSES:
            raise ValueError(f"there is no loss {self.loss!r}; there are {', '.join(LOSSES)}.")
        if unknown := self.loss_weights.keys() - LOSSES.keys():
            raise ValueError(f"loss_weights: there is no loss {min(unknown)!r}; there are {', '.join(LOSSES)}.")
        if self.loss_weights and self.loss not in self.loss_weights:
            raise ValueError(f"loss_weights must name the loss {self.loss}, which makes the scores.")
        if self.model.activation != (wanted := ACTIVATION_OF[self.loss]):
            raise ValueError(f"the loss {self.loss} needs model.activation {wanted}, not {self.model.activation}.")
        if self.crop.scale[0] > self.crop.scale[1]:
            raise ValueError(f"crop.scale must rise, unlike {list(self.crop.scale)}.")
        if len({source.folder for source in self.data}) < len(self.data):
            raise ValueError("data names a folder twice.")
        if all(source.nobody for source in self.data):
            raise ValueError("data must name a folder with masks.")
        tree = self.tree()
        if self.model.classes != len(tree):
            raise ValueError(f"model.classes is {self.model.classes}, the tree has {len(tree)} nodes.")
        below = {
            node: {tree.nodes[each] for each in np.flatnonzero(tree.descendants[index]) if each != index}
            for index, node in enumerate(tree.nodes)
        }
        for name, absent in ((name, absent) for source in self.data for name, absent in source.never.items()):
            if not set(absent) <= below.get(name, set()):
                raise ValueError(f"never: the tree has no {name} with {', '.join(absent)} below it.")
            if self.triplet:
                raise ValueError("never cannot be used with the triplet loss, which knows no such labels.")
        if unknown := self.positive_weights.keys() - {*tree.nodes, *sum(tree.aliases, ())}:
            raise ValueError(f"positive_weights: the tree has no {min(unknown)}; it has {', '.join(tree.nodes)}.")

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
            content = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
            content = json.loads(json.dumps(content, default=str))
        except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
            raise RecipeError(f"{path} cannot be read: {error}") from error
        if not isinstance(content, Mapping):
            raise RecipeError(f"{path} must hold keys such as loss and epochs.")
        stages = content.get("stages", [{}])
        if not isinstance(stages, list) or not stages or not all(isinstance(stage, Mapping) for stage in stages):
            raise RecipeError(f"{path}: stages must be a list of mappings, not {stages!r}.")
        common = {key: value for key, value in content.items() if key != "stages"}
        return [
            Recipe.from_dict(_merged(common, stage), f"{path}: stage {number}" if "stages" in content else str(path))
            for number, stage in enumerate(stages, 1)
        ]

    @staticmethod
    def from_dict(content: Any, source: str) -> Recipe:
        """Build a recipe from plain values, such as `to_dict` returns.

        Args:
            content: The values.
            source: What to call them in messages.

        Raises:
            RecipeError: A key or value is wrong.
        """
        if isinstance(content, Mapping) and isinstance(model := content.get("model", {}), Mapping):
            own = ACTIVATION_OF.get(str(content.get("loss")), "sigmoid")
            content = {**content, "model": {"activation": own, **model}}
        try:
            return _RECIPE.validate_json(json.dumps(content))
        except ValidationError as error:
            raise RecipeError(f"{source}: {_sentence(error)}") from error

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
        values: dict[str, Any] = _RECIPE.dump_python(self, mode="json")
        # So that runs that are older than these keys go on.
        usual = _RECIPE.dump_python(Recipe("bce"), mode="json")
        for key in ("triplet", "jaccard", "data", "inference", "loss_weights", "rmi", "validate_every"):
            if values[key] == usual[key]:
                del values[key]
        for key, younger in (("optimizer", "clip"), ("triplet", "features"), ("triplet", "margin")):
            own = getattr(self, key)
            if own is not None and getattr(own, younger) == getattr(type(own)(), younger):
                del values[key][younger]
        for source in values.get("data", []):
            if not source["never"]:
                del source["never"]
        return values


class _Loader(yaml.SafeLoader):
    """Reads 1e-3 as a number; YAML 1.1 wants a point and a sign as well."""


_NUMBER = re.compile(r"[-+]?\d*\.?\d+[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))
_RECIPE = TypeAdapter(Recipe)


def _merged(common: Mapping[str, Any], stage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the common keys with a stage's own over them, one level into mappings that are not data of their own."""
    merged = dict(common)
    for key, value in stage.items():
        both = isinstance(value, Mapping) and isinstance(common.get(key), Mapping) and not key.endswith("_weights")
        merged[key] = {**common[key], **value} if both else value
    return merged


def _sentence(error: ValidationError) -> str:
    """Say one thing that is wrong, and where; a misspelt key before one that is therefore missing."""
    fault = min(error.errors(), key=lambda each: each["type"] != "unexpected_keyword_argument")
    key = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in fault["loc"])[1:] or "the recipe"
    match fault["type"]:
        case "value_error":
            return str(fault["ctx"]["error"])
        case "missing":
            return f"{key} is missing."
        case "unexpected_keyword_argument":
            return f"unknown key {key!r}; train/recipe.py lists all."
        case "dataclass_type" | "dict_type":
            words = "must be a mapping"
        case "tuple_type":
            words = "must be a list"
        case "too_short":
            words = "must have at least one entry"
        case "too_long":
            words = f"must have {fault['ctx']['max_length']} entries"
        case _:
            words = fault["msg"].replace("Input should", "must")
    return f"{key} {words}, not {fault['input']!r}."
