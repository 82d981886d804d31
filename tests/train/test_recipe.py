"""Tests of train.recipe: what a recipe file may say, and how it is refused."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from hierseg.tree import Hierarchy
from tests import REPOSITORY
from train.recipe import Recipe, RecipeError, Source, Triplet

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


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_config_is_a_recipe(path: Path) -> None:
    for recipe in Recipe.stages_from_yaml(path):
        assert recipe.model.classes == len(recipe.tree())


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


def test_the_predecessors_recipe_is_its_set_up() -> None:
    recipe = Recipe.from_yaml(PREDECESSOR)
    assert (recipe.model.architecture, recipe.model.encoder, recipe.model.input_size) == ("Unet", "resnet101", 224)
    assert (recipe.model.mean, recipe.model.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (recipe.crop.size, recipe.crop.scale, recipe.crop.near_person) == (224, (1.0, 1.0), 0)
    assert (recipe.optimizer.name, recipe.optimizer.lr, recipe.optimizer.schedule) == ("adam", 0.01, "constant")
    assert (recipe.optimizer.encoder_lr, recipe.optimizer.weight_decay, recipe.ema_decay) == (0, 0, 0)
    assert (recipe.loss, recipe.reduction, recipe.epochs) == ("focal_tree_min", "node", 40)


def test_the_grids_recipe_treats_all_losses_alike() -> None:
    recipe = Recipe.from_yaml(GRID)
    assert recipe.node_weights() is None
    assert recipe.threshold_photos == 0  # the sweep chooses them, for every decoding
    assert recipe.optimizer.schedule == "one_cycle"
    # So little of the weights before training is left in the average that is measured.
    assert recipe.ema_decay ** (recipe.epochs * 2826 // recipe.batch_size) < 1e-3


def test_what_is_not_said_is_the_default(tmp_path: Path) -> None:
    assert Recipe.from_yaml(write(tmp_path, {"loss": "bce"})) == Recipe(loss="bce")


def test_values_are_read_as_their_types(tmp_path: Path) -> None:
    recipe = Recipe.from_yaml(write(tmp_path, SMALL))
    assert recipe.crop.scale == (0.5, 1.0)
    assert isinstance(recipe.crop.scale[1], float)
    assert recipe.model.mean == (0.4, 0.5, 0.6)
    assert recipe.model.options == {"decoder_channels": [8, 8]}


@pytest.mark.parametrize("path", [*SHIPPED, None], ids=lambda path: path.name if path else "small")
def test_to_dict_goes_through_yaml_and_back(path: Path | None, tmp_path: Path) -> None:
    for recipe in Recipe.stages_from_yaml(path or write(tmp_path, SMALL)):
        assert Recipe.from_yaml(write(tmp_path, recipe.to_dict())) == recipe


def test_triplets_are_off_unless_named_and_then_have_the_papers_values(tmp_path: Path) -> None:
    assert "triplet" not in Recipe(loss="bce").to_dict()  # so that older runs go on
    recipe = Recipe.from_yaml(write(tmp_path, {"loss": "bce", "triplet": {}}))
    assert recipe.triplet == Triplet(weight=0.5, pixels=200, channels=256)
    assert Recipe.from_yaml(write(tmp_path, {"loss": "bce", "triplet": None})) == Recipe(loss="bce")


def test_sources_are_read_and_the_only_one_is_the_data_folder_itself(tmp_path: Path) -> None:
    assert "data" not in Recipe(loss="bce").to_dict()  # so that older runs go on
    named = [{"folder": "people", "share": 3}, {"folder": "extra/nobody", "nobody": True}]
    recipe = Recipe.from_yaml(write(tmp_path, {"loss": "bce", "data": named}))
    assert recipe.data == (Source("people", 3.0), Source("extra/nobody", 1.0, nobody=True))
    assert Recipe.from_yaml(write(tmp_path, recipe.to_dict())) == recipe


@pytest.mark.parametrize(("text", "number"), [("1e-3", 1e-3), ("2E-4", 2e-4), ("1e2", 100.0), ("1.0e-3", 1e-3)])
def test_numbers_with_an_exponent_need_no_point(text: str, number: float, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"loss: bce\noptimizer:\n  lr: {text}\n", encoding="utf-8")
    assert Recipe.from_yaml(path).optimizer.lr == number


def test_the_activation_is_the_losss_own_unless_it_is_named(tmp_path: Path) -> None:
    recipe = Recipe.from_yaml(write(tmp_path, {"loss": "leaf_cross_entropy"}))
    assert recipe.model.activation == "leaf_softmax"
    with pytest.raises(RecipeError, match="is for scores of the activation leaf_softmax"):
        Recipe.from_yaml(write(tmp_path, {"loss": "leaf_cross_entropy", "model": {"activation": "sigmoid"}}))


def test_positive_weights_lie_at_their_nodes(tmp_path: Path) -> None:
    tree = Hierarchy.default()
    weights = Recipe.from_yaml(write(tmp_path, SMALL)).node_weights()
    assert weights is not None
    expected = {"head": 2.0, "lower_arm": 3.5}  # low_hand is the data set's name of lower_arm
    assert dict(zip(tree.nodes, weights.tolist(), strict=True)) == {
        name: expected.get(name, 1.0) for name in tree.nodes
    }
    assert Recipe(loss="bce").node_weights() is None


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("lose", "bce", "'lose'"),
        ("model.encodre", "resnet18", "'encodre'"),
        ("optimizer.momentum", 0.9, "'momentum'"),
        ("loss", "dice", "'dice'"),
        ("loss", 3, "loss"),
        ("epochs", 2.5, "epochs"),
        ("epochs", True, "epochs"),
        ("epochs", 0, "epochs"),
        ("batch_size", -1, "batch_size"),
        ("pretrained", 1, "pretrained"),
        ("start_from", 7, "start_from"),
        ("gamma", "two", "gamma"),
        ("gamma", -1, "gamma"),
        ("ema_decay", 1.5, "ema_decay"),
        ("reduction", "pixel", "reduction"),
        ("crop", [64], "crop"),
        ("crop.size", 100, "crop.size"),
        ("crop.size", 0, "crop.size"),
        ("crop.scale", 0.5, "crop: scale"),
        ("crop.scale", [0.5], "crop: scale"),
        ("crop.scale", [0.5, "wide"], "crop: scale"),
        ("crop.scale", [1.0, 0.5], "crop.scale"),
        ("crop.near_person", 2, "crop.near_person"),
        ("augment.flip", -0.1, "augment.flip"),
        ("optimizer.name", "sgd", "optimizer: name"),
        ("optimizer.schedule", ["constant"], "optimizer: schedule"),
        ("optimizer.lr", 0, "optimizer.lr"),
        ("optimizer.encoder_lr", -1e-3, "optimizer.encoder_lr"),
        ("model.classes", 8, "model.classes"),
        ("model.activation", 3, "model: activation"),
        ("model.mean", [0.5, 0.5], "model: mean"),
        ("triplet", 0.5, "triplet"),
        ("triplet.margin", 0.1, "triplet: unknown key 'margin'"),
        ("triplet.pixels", 2.5, "triplet: pixels"),
        ("triplet.pixels", 0, "triplet.pixels"),
        ("triplet.channels", -1, "triplet.channels"),
        ("triplet.weight", -0.5, "triplet.weight"),
        ("jaccard", -0.5, "jaccard"),
        ("data", [], "data must name"),
        ("data", "pascal-part", "data must be a list"),
        ("data", [{"folder": "a", "weight": 1}], "data[0]: unknown key 'weight'"),
        ("data", [{"folder": "a"}, {"folder": "b", "share": 0}], "share in data must be above 0"),
        ("data", [{"folder": "a"}, {"folder": "b", "share": float("nan")}], "data[1]: share must be a finite number"),
        ("optimizer.lr", float("nan"), "optimizer: lr must be a finite number"),
        ("optimizer.lr", "fast", "optimizer: lr must be of type float"),
        ("optimizer.weight_decay", -0.1, "optimizer.weight_decay"),
        ("gamma", float("nan"), "gamma must be a finite number"),
        ("gamma", float("inf"), "gamma must be a finite number"),
        ("augment.rotate", -5, "augment.rotate"),
        ("validation_photos", -5, "validation_photos"),
        ("threshold_photos", -1, "threshold_photos"),
        ("seed", -1, "seed"),
        ("positive_weights.head", -2.0, "positive_weights.head"),
        ("positive_weights.head", float("nan"), "positive_weights.head must be a finite number"),
        ("data", [{"folder": "a"}, {"folder": "a"}], "data names a folder twice"),
        ("data", [{"folder": "a", "nobody": True}], "data must name a folder with masks"),
        ("positive_weights", ["head"], "positive_weights"),
        ("positive_weights.head", "much", "positive_weights.head"),
        ("positive_weights.tail", 2.0, "positive_weights: There is no node 'tail'"),
    ],
)
def test_a_fault_is_refused_with_file_and_key(key: str, value: Any, named: str, tmp_path: Path) -> None:
    path = write(tmp_path, changed(key, value))
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(path)
    assert str(path) in str(caught.value)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("loss", "activation", "wanted"),
    [
        ("bce", "leaf_softmax", "sigmoid"),
        ("level_cross_entropy", "sigmoid", "level_softmax"),
        ("leaf_cross_entropy", "level_softmax", "leaf_softmax"),
    ],
)
def test_a_loss_that_does_not_fit_the_activation_is_refused(
    loss: str, activation: str, wanted: str, tmp_path: Path
) -> None:
    path = write(tmp_path, {**SMALL, "loss": loss, "model": {**SMALL["model"], "activation": activation}})
    with pytest.raises(
        RecipeError, match=f"the loss {loss} is for scores of the activation {wanted}; .* {activation}"
    ) as caught:
        Recipe.from_yaml(path)
    assert str(path) in str(caught.value)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, {"epochs": 3})
    with pytest.raises(RecipeError, match="'loss' is missing") as caught:
        Recipe.from_yaml(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", ["loss: [bce", "- loss", "just words", "", "loss: !!python/object:object {}"])
def test_a_file_that_holds_no_recipe_is_named(content: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    for path in (tmp_path / "none.yaml", binary):
        with pytest.raises(RecipeError) as caught:
            Recipe.from_yaml(path)
        assert str(path) in str(caught.value)


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


@pytest.mark.parametrize(
    ("stages", "named"),
    [
        ([], "must be a list of mappings"),
        ({"epochs": 3}, "must be a list of mappings"),
        ([3], "must be a list of mappings"),
        ([{}, {"epoch": 3}], "stage 2: unknown key 'epoch'"),
        ([{"crop": {"size": 100}}], "stage 1: crop.size"),
        ([{"stages": [{}]}], "stage 1: unknown key 'stages'"),
    ],
)
def test_wrong_stages_are_refused(stages: Any, named: str, tmp_path: Path) -> None:
    path = write(tmp_path, {**SMALL, "stages": stages})
    with pytest.raises(RecipeError, match=named) as caught:
        Recipe.stages_from_yaml(path)
    assert str(path) in str(caught.value)
