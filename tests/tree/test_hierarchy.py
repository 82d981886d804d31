"""The default tree, properties of every tree, and error messages for broken files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hierseg.tree import Hierarchy, HierarchyError
from tests.trees import (
    hierarchies,
    is_leaf,
    label_maps,
    node_and_above,
    node_and_below,
    nodes_of_label,
    nodes_shown,
    tree_contents,
)

NODES = ("body", "upper", "lower", "head", "torso", "upper_arm", "lower_arm", "upper_leg", "lower_leg")


# The default tree


def test_the_default_tree_is_that_of_the_published_checkpoints_and_of_the_data_set(tree: Hierarchy) -> None:
    assert tree.nodes == NODES
    assert tree.parents == (-1, 0, 0, 1, 1, 1, 1, 2, 2)
    shown = {level: tuple(tree.nodes[node] for node in nodes) for level, nodes in tree.levels.items()}
    assert shown == {"body": NODES[:1], "upper-lower": NODES[1:3], "parts": NODES[3:]}
    numbers = {tree.nodes[leaf]: tree.labels[leaf] for leaf in tree.leaves}
    assert numbers == {"lower_arm": 1, "torso": 2, "lower_leg": 3, "head": 4, "upper_leg": 5, "upper_arm": 6}
    assert (tree.background, tree.void) == (0, 255)
    aliases = {"low_hand": "lower_arm", "up_hand": "upper_arm", "low_leg": "lower_leg", "up_leg": "upper_leg"}
    for alias, node in (aliases | {"upper_body": "upper", "lower_body": "lower"}).items():
        assert tree.index(alias) == NODES.index(node)
    assert len(set(tree.colors)) == len(tree)


# Every tree


@given(tree_contents())
def test_nodes_are_numbered_level_by_level_and_have_the_files_parents_and_labels(content: dict[str, Any]) -> None:
    tree, row = Hierarchy.from_dict(content), [(entry, -1) for entry in content["tree"]]
    for node in range(len(tree)):
        entry, parent = row.pop(0)
        assert (tree.nodes[node], tree.parents[node]) == (entry["name"], parent)
        assert tree.labels[node] == entry.get("label", tree.labels[node])
        row += [(child, node) for child in entry.get("children", [])]
    assert row == []


@given(hierarchies())
def test_inner_nodes_without_a_label_get_free_numbers(tree: Hierarchy) -> None:
    numbers = [*tree.labels, tree.background, tree.void]
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= number <= 255 for number in numbers)


def test_free_numbers_follow_the_highest_label_and_then_fill_the_gaps() -> None:
    leaves = [{"name": "low", "label": 2}, {"name": "high", "label": 254}]
    chain = [{"name": "a", "children": [{"name": "b", "children": leaves}]}]
    tree = Hierarchy.from_dict({"levels": ["1", "2", "3"], "tree": chain})
    assert tree.labels == (1, 3, 2, 254)
    lower = [{"name": "low", "label": 2}, {"name": "high", "label": 252}]
    tree = Hierarchy.from_dict({"levels": ["1", "2"], "tree": [{"name": "a", "children": lower}]})
    assert tree.labels == (253, 2, 252)


@given(tree=hierarchies())
def test_a_tree_survives_json_and_yaml(tmp_path_factory: pytest.TempPathFactory, tree: Hierarchy) -> None:
    assert Hierarchy.from_dict(json.loads(json.dumps(tree.to_dict()))) == tree
    path = tmp_path_factory.getbasetemp() / "round-trip.yaml"
    path.write_text(yaml.safe_dump(tree.to_dict(), sort_keys=False), encoding="utf-8")
    assert Hierarchy.from_yaml(path) == tree


@given(hierarchies())
def test_the_tables_of_relatives_are_those_of_plain_recursion(tree: Hierarchy) -> None:
    for node in range(len(tree)):
        assert set(np.flatnonzero(tree.ancestors[node])) == set(node_and_above(tree, node))
        assert set(np.flatnonzero(tree.descendants[node])) == set(node_and_below(tree, node))
        assert tree.lineages[node] == tuple(reversed(node_and_above(tree, node)))
        assert tree.depths[node] == len(node_and_above(tree, node)) - 1
        assert set(tree.children[node]) == {child for child in range(len(tree)) if tree.parents[child] == node}
    leaves = [node for node in range(len(tree)) if is_leaf(tree, node)]
    assert list(tree.leaves) == leaves
    assert list(tree.paths) == [tree.lineages[leaf] for leaf in leaves]


@given(hierarchies())
def test_a_level_shows_its_depth_and_the_leaves_above(tree: Hierarchy) -> None:
    assert [list(nodes) for nodes in tree.levels.values()] == [
        nodes_shown(tree, depth) for depth in range(len(tree.levels))
    ]


@given(hierarchies())
def test_each_name_and_alias_finds_its_node(tree: Hierarchy) -> None:
    for node in range(len(tree)):
        assert {tree.index(name) for name in (tree.nodes[node], *tree.aliases[node])} == {node}


def test_a_name_that_no_node_has_is_refused_with_the_names_there_are(tree: Hierarchy) -> None:
    with pytest.raises(HierarchyError, match=r"no node 'wing'.*body, upper, lower, head"):
        tree.index("wing")


# Label maps


@given(st.data())
def test_node_masks_are_those_of_a_loop_over_pixels(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    label_map = data.draw(label_maps(tree))
    expected = np.zeros((len(tree), *label_map.shape), dtype=bool)
    for row, column in np.ndindex(label_map.shape):
        expected[nodes_of_label(tree, label_map[row, column]), row, column] = True
    masks = tree.node_masks(label_map)
    assert masks.dtype == bool
    assert np.array_equal(masks, expected)


@given(st.data())
def test_labels_may_come_in_any_whole_number_type(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    label_map = data.draw(label_maps(tree))
    level = data.draw(st.sampled_from(tree.level_names))
    wide = label_map.astype(np.int64)
    assert np.array_equal(tree.node_masks(wide), tree.node_masks(label_map))
    assert np.array_equal(tree.at_level(wide, level), tree.at_level(label_map, level))
    assert tree.at_level(wide, level).dtype == np.uint8


@given(st.data())
def test_what_is_known_of_a_pixel_is_that_of_a_loop_over_pixels(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    label_map = data.draw(label_maps(tree))
    known = tree.known_masks(label_map)
    assert known.shape == (len(tree), *label_map.shape)
    for row, column in np.ndindex(label_map.shape):
        on = nodes_of_label(tree, label_map[row, column])
        for node in range(len(tree)):
            below_the_label = bool(on) and node != on[0] and on[0] in node_and_above(tree, node)
            expected = label_map[row, column] != tree.void and not below_the_label
            assert known[node, row, column] == expected


@given(st.data())
def test_at_level_is_that_of_a_loop_over_pixels(data: st.DataObject) -> None:
    tree = data.draw(hierarchies())
    label_map = data.draw(label_maps(tree))
    depth = data.draw(st.integers(0, len(tree.level_names) - 1))
    expected = label_map.copy()
    for pixel in np.ndindex(label_map.shape):
        down = nodes_of_label(tree, label_map[pixel])[::-1]
        if len(down) > depth:
            expected[pixel] = tree.labels[down[depth]]
    assert np.array_equal(tree.at_level(label_map, tree.level_names[depth]), expected)


def test_a_level_that_is_not_there_is_refused_with_the_levels_there_are(tree: Hierarchy) -> None:
    with pytest.raises(HierarchyError, match=r"no level 'fingers'.*body, upper-lower, parts"):
        tree.at_level(np.zeros((2, 2), np.uint8), "fingers")


@pytest.mark.parametrize("use", ["node_masks", "at_level", "check_labels"])
@pytest.mark.parametrize(
    "label_map", [np.array([[0, 99, 4, 17]], np.uint8), np.array([[0, 99, 4, 17]], np.int64)], ids=["uint8", "int64"]
)
def test_unknown_labels_in_a_map_are_named(tree: Hierarchy, use: str, label_map: np.ndarray) -> None:
    arguments = [label_map, "body"] if use == "at_level" else [label_map]
    with pytest.raises(HierarchyError, match=r"holds 17, 99; this tree has 0, 1, 2, .* 9 and 255 for void"):
        getattr(tree, use)(*arguments)


@pytest.mark.parametrize("label", [-1, 256, 511])
def test_a_label_that_would_wrap_around_is_unknown(tree: Hierarchy, label: int) -> None:
    with pytest.raises(HierarchyError, match=f"holds {label};"):
        tree.node_masks(np.array([[label]]))


@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_labels_that_are_no_whole_numbers_are_refused(tree: Hierarchy, dtype: type) -> None:
    with pytest.raises(HierarchyError, match=rf"whole numbers, not {np.dtype(dtype)}"):
        tree.node_masks(np.zeros((2, 2), dtype))


# Broken files

GOOD = """\
name: test
levels: [whole, part]
tree:
  - name: thing
    aliases: [object]
    children:
      - {name: left, label: 1, color: "#c03028"}
      - {name: right, label: 2}
"""
RIGHT = "{name: right, label: 2}"


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        pytest.param(
            RIGHT, f"{RIGHT}\n  - {{name: left, label: 3}}", 7, "'left' is in .* one parent", id="two parents"
        ),
        pytest.param(RIGHT, f"&it {RIGHT}\n  - *it", 8, "'right' is in .* one parent", id="two parents by anchor"),
        pytest.param("label: 2", "label: 1", 8, "label 1 of 'right' .* for 'left'", id="label twice"),
        pytest.param("label: 2", "label: 0", 8, "label 0 of 'right' .* 'background'", id="label of background"),
        pytest.param("label: 2", "label: 255", 8, "label 255 of 'right' .* 'void'", id="label of void"),
        pytest.param("name: test", "name: test\nvoid: 0", None, "'background' and 'void' are both 0", id="void is 0"),
        pytest.param("name: test", "title: test", 1, "unknown key 'title'.*name", id="unknown key of the file"),
        pytest.param("label: 2", "id: 2", 8, "unknown key 'id'.*label", id="unknown key of a node"),
        pytest.param(GOOD, "levels: [whole]", 1, "key 'tree' is missing", id="no tree"),
        pytest.param("name: left, ", "", 7, "key 'name' is missing", id="no name"),
        pytest.param("label: 2", "children: []", 8, "'children' must be .* one node", id="no leaf"),
        pytest.param(GOOD, "levels: []\ntree: []", 1, "'tree' must be .* one node", id="no node"),
        pytest.param(", label: 2", "", 8, "leaf 'right' has no 'label'", id="leaf without a label"),
        pytest.param("label: 2", "label: 2, label: 3", 8, "key 'label' is given twice", id="key given twice"),
        pytest.param("[whole, part]", "[whole]", 1, "'levels' names 1 .* tree is 2 deep", id="a level too few"),
        pytest.param("part]", "part, atom]", 1, "'levels' names 3 .* tree is 2 deep", id="a level too many"),
        pytest.param("[whole, part]", "[whole, whole]", 1, "'levels' names a level twice", id="level twice"),
        pytest.param("[whole, part]", "2", 1, "'levels' must be a list of names", id="levels no list"),
        pytest.param("#c03028", "#c0302", 7, "'color' must look like", id="color too short"),
        pytest.param("#c03028", "#c0302g", 7, "'color' must look like .* not '#c0302g'", id="color not hexadecimal"),
        pytest.param('"#c03028"', "[192, 48, 40]", 7, "'color' must look like", id="color as numbers"),
        pytest.param("label: 2", "label: 256", 8, "'label' must be .* 0 to 255, not 256", id="label too high"),
        pytest.param("label: 2", "label: 1.5", 8, "'label' must be a whole number", id="label not whole"),
        pytest.param("label: 2", "label: yes", 8, "'label' must be a whole number .* True", id="label a truth value"),
        pytest.param("name: test", "background: none", 1, "'background' must be a whole", id="background a word"),
        pytest.param("[object]", "[left]", 4, "alias 'left' of 'thing' is already a name", id="alias is a name"),
        pytest.param("label: 2", "label: 2, aliases: [object]", 8, "alias 'object' of 'right'", id="alias twice"),
        pytest.param("[object]", "object", 4, "'aliases' must be a list of names", id="aliases no list"),
        pytest.param(RIGHT, "right", 1, "a node must have keys .* found 'right'", id="node a word"),
        pytest.param("name: right", "name: 7", 8, "'name' must be a word, not 7", id="name a number"),
        pytest.param("name: right", "name: no", 8, "'name' must be a word, not False", id="name a truth value"),
        pytest.param("name: right", "7: right", 8, "a key must be a word", id="key a number"),
        # YAML takes these for a date and a number, and Python then cannot build them.
        pytest.param("name: right", "name: 2020-99-99", 8, "not valid YAML: .*month", id="impossible date"),
        pytest.param(RIGHT, "{name: right", 9, "not valid YAML", id="bracket left open"),
        pytest.param("label: 2", "label: !!python/object:os.system x", 8, "not valid YAML", id="python object"),
        pytest.param(
            "children:", "children: &us\n      - *us", 6, "not valid YAML: .*recursive", id="children in a ring"
        ),
        pytest.param(RIGHT, "*nobody", 8, "not valid YAML: .*undefined alias", id="anchor that is not there"),
        pytest.param(GOOD, "[" * 500, None, "nested too deeply", id="nested without end"),
        pytest.param(GOOD, "only words", None, "must hold the keys name, levels and tree", id="file a word"),
    ],
)
def test_a_broken_file_is_told_what_to_mend(tmp_path: Path, old: str, new: str, line: int | None, message: str) -> None:
    assert GOOD.count(old) == 1
    path = tmp_path / "broken.yaml"
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(HierarchyError) as caught:
        Hierarchy.from_yaml(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert re.search(message, said, re.DOTALL), said
    if line is not None:
        assert re.search(rf"\bline {line}\b", said), said


def test_what_is_no_text_file_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "photo.yaml").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    (tmp_path / "zeros.yaml").write_bytes(b"\x00\x01\x02")
    for path in (tmp_path, *(tmp_path / f"{name}.yaml" for name in ("nothing", "photo", "zeros"))):
        with pytest.raises(HierarchyError, match=re.escape(str(path)) + " (cannot be read|is not valid YAML)"):
            Hierarchy.from_yaml(path)


@given(
    start=st.integers(0, len(GOOD)),
    length=st.integers(0, 6),
    noise=st.text(st.sampled_from("[]{}:-,#&*!|>'\"%@`?<=0x_.~ \n\tname1é\x00"), max_size=6),
)
def test_a_damaged_file_gives_a_tree_or_a_hierarchy_error(
    tmp_path_factory: pytest.TempPathFactory, start: int, length: int, noise: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.yaml"
    path.write_text(GOOD[:start] + noise + GOOD[start + length :], encoding="utf-8")
    try:
        tree = Hierarchy.from_yaml(path)
    except HierarchyError as error:
        assert str(path) in str(error)
    else:
        assert Hierarchy.from_dict(tree.to_dict()) == tree


def test_a_broken_tree_in_a_checkpoint_is_told_by_the_checkpoints_name(tree: Hierarchy) -> None:
    content = tree.to_dict() | {"levels": ["body"]}
    with pytest.raises(HierarchyError, match=r"^ftm\.safetensors: 'levels' names 1 levels"):
        Hierarchy.from_dict(content, source="ftm.safetensors")


def _wide(leaves: int) -> dict[str, Any]:
    children = [{"name": f"leaf {label}", "label": label} for label in range(1, leaves + 1)]
    return {"levels": ["root", "leaf"], "tree": [{"name": "root", "children": children}]}


def test_a_tree_may_have_as_many_nodes_as_a_label_map_has_numbers() -> None:
    tree = Hierarchy.from_dict(_wide(253))
    assert sorted(tree.labels) == list(range(1, 255))
    with pytest.raises(HierarchyError, match="255 nodes; a uint8 label map holds 254"):
        Hierarchy.from_dict(_wide(254))
