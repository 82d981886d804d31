"""Tests of train.recipe: what a recipe file may say, and how it is refused."""

from __future__ import annotations

import copy
import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from hierseg.inference import Inference, Zoom
from hierseg.losses import ACTIVATION_OF
from hierseg.tree import Hierarchy
from tests import REPOSITORY
from train.recipe import Optimizer, Recipe, RecipeError, Source, Triplet

CONFIGS = REPOSITORY / "train" / "configs"
GRID = REPOSITORY / "studies" / "losses" / "grid.yaml"
PREDECESSOR = REPOSITORY / "studies" / "predecessor" / "resnet101.yaml"
SHIPPED = [*sorted(CONFIGS.iterdir()), GRID, PREDECESSOR]
SMALL: dict[str, Any] = {
    "loss": "bce",
    "model": {"encoder": "tu-test_efficientnet", "mean": [0.4, 0.5, 0.6], "options": {"decoder_channels": [8, 8]}},
    "crop": {"size": 64, "scale": [0.5, 1]},
    "optimizer": {"name": "adam", "lr": 0.01},
    "positive_weights": {"head": 2, "low_hand": 3.5},
    "triplet": {"weight": 1},
}


def write(folder: Path, content: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def changed(key: str, value: Any) -> dict[str, Any]:
    """Return SMALL with the value at a dotted key replaced."""
    content = copy.deepcopy(SMALL)
    *path, last = key.split(".")
    inner = content
    for step in path:
        inner = inner.setdefault(step, {})
    inner[last] = value
    return content


def statements(path: Path) -> list[str]:
    lines = (line.split("#")[0].rstrip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


@pytest.mark.parametrize(
    ("name", "loss", "activation"),
    [("ftm", "focal_tree_min", "sigmoid"), ("leaf", "leaf_cross_entropy", "leaf_softmax")],
)
def test_the_checkpoints_recipes_differ_in_the_loss_alone(name: str, loss: str, activation: str) -> None:
    bce, other = CONFIGS / "bce.yaml", CONFIGS / f"{name}.yaml"
    pairs = list(zip(statements(bce), statements(other), strict=True))
    assert [pair for pair in pairs if pair[0] != pair[1]] == [("loss: bce", f"loss: {loss}")]
    stages = [
        dataclasses.replace(stage, loss=loss, model=dataclasses.replace(stage.model, activation=activation))
        for stage in Recipe.stages_from_yaml(bce)
    ]
    assert stages == Recipe.stages_from_yaml(other)


def test_the_grids_recipe_treats_all_losses_alike() -> None:
    recipe = Recipe.from_yaml(GRID)
    assert recipe.node_weights() is None
    assert recipe.threshold_photos == 0  # the sweep chooses them, for every decoding
    assert recipe.optimizer.schedule == "one_cycle"
    # So little of the weights before training is left in the average that is measured.
    assert recipe.ema_decay ** (recipe.epochs * 2826 // recipe.batch_size) < 1e-3


@pytest.mark.parametrize("path", [*SHIPPED, None], ids=lambda path: path.name if path else "small")
def test_every_recipe_that_is_shipped_is_one_and_goes_through_yaml_and_back(path: Path | None, tmp_path: Path) -> None:
    for recipe in Recipe.stages_from_yaml(path or write(tmp_path, SMALL)):
        assert Recipe.from_yaml(write(tmp_path, recipe.to_dict())) == recipe
        assert recipe.model.classes == len(recipe.tree())
        assert {type(share) for share in (*recipe.crop.scale, *recipe.model.mean)} == {float}


def test_keys_that_are_younger_than_stored_runs_are_written_only_where_they_say_something(tmp_path: Path) -> None:
    plain = Recipe(loss="bce", triplet=Triplet()).to_dict()
    assert not {"jaccard", "rmi", "loss_weights", "data", "validate_every", "inference"} & plain.keys()
    assert "triplet" not in Recipe(loss="bce").to_dict()
    assert "clip" not in plain["optimizer"] and plain["triplet"].keys() == {"weight", "pixels", "channels"}
    changes = {"optimizer": {"clip": None}, "rmi": 0.5, "loss_weights": {"bce": 9, "tree_min": 1}}
    triplet = {"features": "encoder", "margin": 0.6}
    recipe = Recipe.from_yaml(write(tmp_path, {"loss": "bce", "triplet": triplet, **changes}))
    assert recipe.optimizer == Optimizer(clip=None) and recipe.triplet == Triplet(features="encoder", margin=0.6)
    assert Recipe.from_yaml(write(tmp_path, recipe.to_dict())) == recipe


def test_triplets_are_off_unless_named_and_then_have_the_papers_values(tmp_path: Path) -> None:
    recipe = Recipe.from_yaml(write(tmp_path, {"loss": "bce", "triplet": {}}))
    assert recipe.triplet == Triplet(weight=0.5, pixels=200, channels=256)
    assert Recipe.from_yaml(write(tmp_path, {"loss": "bce", "triplet": None})) == Recipe(loss="bce")


def test_sources_are_read_and_the_only_one_is_the_data_folder_itself(tmp_path: Path) -> None:
    clothes = {"folder": "clothes", "never": {"upper": ["head"]}}
    named = [{"folder": "people", "share": 3}, {"folder": "extra/nobody", "nobody": True}, clothes]
    recipe = Recipe.from_yaml(write(tmp_path, {"loss": "bce", "data": named}))
    assert recipe.data == (
        Source("people", 3.0),
        Source("extra/nobody", 1.0, nobody=True),
        Source("clothes", never={"upper": ("head",)}),
    )
    assert "never" not in recipe.to_dict()["data"][0]  # so that older runs go on
    assert Recipe.from_yaml(write(tmp_path, recipe.to_dict())) == recipe


def test_a_recipe_says_how_its_checkpoint_is_used(tmp_path: Path) -> None:
    used = {"mirror_size": 384, "zoom": {"largest": 0.8}}
    recipe = Recipe.from_yaml(write(tmp_path, {"loss": "bce", "inference": used}))
    assert recipe.inference == Inference(mirror_size=384, zoom=Zoom(largest=0.8))
    assert Recipe.from_yaml(write(tmp_path, recipe.to_dict())) == recipe
    for wrong in ({"mirror_size": "384"}, {"mirrored": True}, {"zoom": {"window": 1}}, {"threshold": 2}):
        with pytest.raises(RecipeError, match=r"inference|threshold"):
            Recipe.from_yaml(write(tmp_path, {"loss": "bce", "inference": wrong}))


@pytest.mark.parametrize("text", ["1e-3", "2E-4", "+1e2", ".5e1", "1.5e-3"])
def test_numbers_with_an_exponent_need_neither_point_nor_sign(text: str, tmp_path: Path) -> None:
    assert Recipe.from_yaml(write(tmp_path, f"loss: bce\noptimizer: {{lr: {text}}}\n")).optimizer.lr == float(text)


@pytest.mark.parametrize("loss", ACTIVATION_OF)
def test_the_activation_is_the_losss_own_unless_it_is_named(loss: str, tmp_path: Path) -> None:
    assert Recipe.from_yaml(write(tmp_path, {"loss": loss})).model.activation == ACTIVATION_OF[loss]


def test_positive_weights_lie_at_their_nodes(tmp_path: Path) -> None:
    tree = Hierarchy.default()
    weights = Recipe.from_yaml(write(tmp_path, SMALL)).node_weights()
    assert weights is not None
    expected = dict.fromkeys(tree.nodes, 1.0) | {"head": 2.0, "lower_arm": 3.5}  # which the data set calls low_hand
    assert dict(zip(tree.nodes, weights.tolist(), strict=True)) == expected
    assert Recipe(loss="bce").node_weights() is None


NAN, INFINITE = float("nan"), float("inf")
FAULTS = [
    ("lose", "bce", "unknown key 'lose'"),
    ("model.encodre", "resnet18", "unknown key 'model.encodre'"),
    ("data", [{"folder": "a", "weight": 1}], "unknown key 'data[0].weight'"),
    ("loss", "dice", "there is no loss 'dice'"),
    ("loss", 3, "loss must be a valid string, not 3"),
    ("reduction", "pixel", "reduction must be 'node' or 'level', not 'pixel'"),
    ("optimizer.schedule", ["constant"], "optimizer.schedule must be 'one_cycle' or 'constant', not ['constant']"),
    ("epochs", 2.5, "epochs must be a valid integer, not 2.5"),
    ("epochs", True, "epochs must be a valid integer, not True"),
    ("epochs", "3", "epochs must be a valid integer, not '3'"),
    ("model.classes", "9", "model.classes must be a valid integer, not '9'"),
    ("pretrained", 1, "pretrained must be a valid boolean, not 1"),
    ("gamma", True, "gamma must be a valid number, not True"),
    ("gamma", NAN, "gamma must be a finite number, not nan"),
    ("optimizer.lr", INFINITE, "optimizer.lr must be a finite number, not inf"),
    ("positive_weights.head", NAN, "positive_weights.head must be a finite number"),
    ("model.mean", [0.5, NAN, 0.5], "model.mean[1] must be a finite number"),
    ("epochs", 0, "epochs must be greater than 0, not 0"),
    ("data", [{"folder": "a", "share": 0}], "data[0].share must be greater than 0"),
    ("positive_weights.head", -1, "positive_weights.head must be greater than or equal to 0, not -1"),
    ("crop.near_person", 2, "crop.near_person must be less than or equal to 1, not 2"),
    ("crop", [64], "crop must be a mapping, not [64]"),
    ("positive_weights", ["head"], "positive_weights must be a mapping"),
    ("data", "pascal-part", "data must be a list, not 'pascal-part'"),
    ("data", [], "data must have at least one entry"),
    ("data", [{"folder": "a"}, {"folder": "a"}], "data names a folder twice"),
    ("data", [{"folder": "a", "nobody": True}], "data must name a folder with masks"),
    ("data", [{"never": {"upper": ["head", "foot"]}}], "never: the tree has no upper with head, foot below it"),
    ("data", [{"never": {"head": ["torso"]}}], "never: the tree has no head with torso below it"),
    ("data", [{"never": {"tail": ["head"]}}], "never: the tree has no tail with head below it"),
    ("data", [{"never": {"upper": ["head"]}}], "never cannot be used with the triplet loss"),
    ("data", [{"never": {"upper": "head"}}], "data[0].never.upper must be a list, not 'head'"),
    ("crop.size", 100, "crop.size must be a multiple of 32, not 100"),
    ("crop.scale", [0.5], "crop.scale[1] is missing"),
    ("crop.scale", [0.5, 1, 2], "crop.scale must have 2 entries"),
    ("crop.scale", [0.5, "wide"], "crop.scale[1] must be a valid number"),
    ("crop.scale", [1.0, 0.5], "crop.scale must rise"),
    ("model.classes", 8, "model.classes is 8, the tree has 9 nodes"),
    ("model.classes", 0, "A model's classes must be a whole number above 0, not 0"),
    ("model.activation", "leaf_softmax", "the loss bce needs model.activation sigmoid, not leaf_softmax"),
    ("positive_weights.tail", 2.0, "positive_weights: the tree has no tail"),
    ("loss_weights.dice", 2.0, "loss_weights: there is no loss 'dice'"),
    ("loss_weights", {"focal": 2.0}, "loss_weights must name the loss bce"),
    ("optimizer.clip", 0, "optimizer.clip must be greater than 0, not 0"),
    ("stages", [], "stages must be a list of mappings"),
    ("stages", {"epochs": 3}, "stages must be a list of mappings"),
    ("stages", [{}, {"epoch": 3}], "stage 2: unknown key 'epoch'"),
    ("stages", [{"crop": {"size": 100}}], "stage 1: crop.size must be"),
    ("stages", [{"stages": [{}]}], "stage 1: unknown key 'stages'"),
]


@pytest.mark.parametrize(("key", "value", "sentence"), FAULTS)
def test_a_fault_is_refused_with_file_and_key(key: str, value: Any, sentence: str, tmp_path: Path) -> None:
    path = write(tmp_path, changed(key, value))
    with pytest.raises(RecipeError, match=re.escape(f"{path}: {sentence}")):
        Recipe.stages_from_yaml(path)


NO_RECIPES = (b"loss: [bce", b"epochs: 3", b"- loss", b"just words", b"", b"&a [*a]", b"? [a, b]\n: c")


@pytest.mark.parametrize("content", [*NO_RECIPES, b"loss: !!python/object:object {}", b"\xff\xfe\x00\x81", None])
def test_a_file_that_holds_no_recipe_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match=re.escape(str(path))):
        Recipe.from_yaml(path)


def test_classes_follow_the_tree_that_the_recipe_names(tmp_path: Path) -> None:
    tree = tmp_path / "tree.yaml"
    tree.write_text("levels: [all]\ntree: [{name: cat, label: 1, color: '#102030'}]\n", encoding="utf-8")
    content = {"loss": "bce", "hierarchy": str(tree), "model": {"classes": 1}, "positive_weights": {"cat": 2.0}}
    assert Recipe.from_yaml(write(tmp_path, content)).tree().nodes == ("cat",)
    with pytest.raises(RecipeError, match="the tree has 1 nodes"):
        Recipe.from_yaml(write(tmp_path, {"loss": "bce", "hierarchy": str(tree)}))


def test_a_stage_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    changes = {"crop": {"size": 96}, "optimizer": {"lr": 0.5}, "positive_weights": {"torso": 2}}
    stages = [{"epochs": 3}, {**changes, "triplet": {"pixels": 9}}]
    first, second = Recipe.stages_from_yaml(write(tmp_path, {**SMALL, "stages": stages}))
    alone = Recipe.from_yaml(write(tmp_path, SMALL))
    assert first == dataclasses.replace(alone, epochs=3)
    assert second == dataclasses.replace(
        alone,
        crop=dataclasses.replace(alone.crop, size=96),
        optimizer=dataclasses.replace(alone.optimizer, lr=0.5),
        positive_weights={"torso": 2.0},  # data, so replaced as a whole
        triplet=Triplet(weight=1, pixels=9),
    )


def test_without_stages_there_is_one(tmp_path: Path) -> None:
    path = write(tmp_path, SMALL)
    assert Recipe.stages_from_yaml(path) == [Recipe.from_yaml(path)]
    path = write(tmp_path, {**SMALL, "stages": [{}, {}]})
    with pytest.raises(RecipeError, match="has 2 stages"):
        Recipe.from_yaml(path)
