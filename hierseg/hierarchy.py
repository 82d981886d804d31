"""The tree as data: nodes, parents, levels and paths, read from one YAML file.

Every other module takes a `Hierarchy` and knows no body part by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

UInt8Map = npt.NDArray[np.uint8]
BoolMask = npt.NDArray[np.bool_]

_FILE_KEYS = {"name", "background", "void", "levels", "tree"}
_NODE_KEYS = {"name", "label", "color", "aliases", "children"}
_LINE = "__line__"  # where a mapping began in the file, for messages


class HierarchyError(ValueError):
    """A hierarchy file is broken, or a name or label is not in the tree. The message says what to mend."""


@dataclass(frozen=True)
class Hierarchy:
    """A forest of classes with named levels.

    Nodes are numbered in level order (all of depth 0 first), which is the channel order of scores. A node's depth is
    the number of edges to its root; level k shows the nodes of depth k and the leaves above them.

    Attributes:
        name: What the tree is called.
        nodes: Node names in level order, length N.
        parents: For each node the index of its parent, -1 for a root.
        labels: For each node its number in label maps.
        colors: For each node its colour as (red, green, blue), 0 to 255.
        aliases: For each node its other names.
        level_names: Names of the levels, root level first.
        background: Label of pixels that belong to no node.
        void: Label of pixels that are not annotated.
    """

    name: str
    nodes: tuple[str, ...]
    parents: tuple[int, ...]
    labels: tuple[int, ...]
    colors: tuple[tuple[int, int, int], ...]
    aliases: tuple[tuple[str, ...], ...]
    level_names: tuple[str, ...]
    background: int = 0
    void: int = 255

    @staticmethod
    def default() -> Hierarchy:
        """Return the tree of PASCAL-Person-Part: nine nodes on three levels."""
        return Hierarchy.from_yaml(_default_path())

    @staticmethod
    def from_yaml(path: str | Path) -> Hierarchy:
        """Read a tree from a YAML file.

        Args:
            path: The file; `hierarchies/pascal-person-part.yaml` shows every key.

        Returns:
            The tree.

        Raises:
            HierarchyError: The file cannot be read or does not describe a tree; the message names the line or key.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise HierarchyError(f"{path} cannot be read: {error}.") from error
        try:
            content = yaml.load(text, Loader=_LineLoader)  # a SafeLoader: builds plain values only
        except yaml.YAMLError as error:
            raise HierarchyError(f"{path} is not valid YAML: {error}") from error
        except RecursionError as error:
            raise HierarchyError(f"{path} is nested too deeply to be read.") from error
        return Hierarchy.from_dict(content, source=str(path))

    @staticmethod
    def from_dict(content: Any, source: str = "the tree") -> Hierarchy:
        """Build a tree from the mapping that a YAML file or a checkpoint holds.

        Args:
            content: Keys as in the YAML file.
            source: What to call it in messages.

        Returns:
            The tree.

        Raises:
            HierarchyError: As for `from_yaml`.
        """
        return _Reader(source).read(content)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values from which `from_dict` builds the same tree."""

        def entry(index: int) -> dict[str, Any]:
            red, green, blue = self.colors[index]
            node: dict[str, Any] = {
                "name": self.nodes[index],
                "label": self.labels[index],
                "color": f"#{red:02x}{green:02x}{blue:02x}",
            }
            if self.aliases[index]:
                node["aliases"] = list(self.aliases[index])
            if self.children[index]:
                node["children"] = [entry(child) for child in self.children[index]]
            return node

        return {
            "name": self.name,
            "background": self.background,
            "void": self.void,
            "levels": list(self.level_names),
            "tree": [entry(root) for root in self.roots],
        }

    def __len__(self) -> int:
        """Return the number of nodes, N."""
        return len(self.nodes)

    @cached_property
    def roots(self) -> tuple[int, ...]:
        """Indices of the nodes without a parent."""
        return tuple(index for index, parent in enumerate(self.parents) if parent < 0)

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """For each node the indices of its children."""
        return tuple(
            tuple(child for child, parent in enumerate(self.parents) if parent == index) for index in range(len(self))
        )

    @cached_property
    def leaves(self) -> tuple[int, ...]:
        """Indices of the nodes without children, in level order."""
        return tuple(index for index, children in enumerate(self.children) if not children)

    @cached_property
    def lineages(self) -> tuple[tuple[int, ...], ...]:
        """For each node the indices from its root down to itself."""
        lineages: list[tuple[int, ...]] = []
        for index, parent in enumerate(self.parents):
            lineages.append((*(lineages[parent] if parent >= 0 else ()), index))
        return tuple(lineages)

    @cached_property
    def paths(self) -> tuple[tuple[int, ...], ...]:
        """For each leaf the indices from its root down to it."""
        return tuple(self.lineages[leaf] for leaf in self.leaves)

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """For each node the number of edges to its root."""
        return tuple(len(lineage) - 1 for lineage in self.lineages)

    @cached_property
    def levels(self) -> dict[str, tuple[int, ...]]:
        """For each level, root level first, the nodes it shows: those of its depth and the leaves above."""
        return {
            name: tuple(
                index
                for index in range(len(self))
                if self.depths[index] == depth or (self.depths[index] < depth and not self.children[index])
            )
            for depth, name in enumerate(self.level_names)
        }

    @cached_property
    def ancestors(self) -> BoolMask:
        """Table (N, N): [v, u] is True where u is v or lies above it; the A(v) of Li et al., CVPR 2022."""
        table = np.zeros((len(self), len(self)), dtype=bool)
        for index, lineage in enumerate(self.lineages):
            table[index, list(lineage)] = True
        return table

    @cached_property
    def descendants(self) -> BoolMask:
        """Table (N, N): [v, u] is True where u is v or lies below it; the C(v) of Li et al., CVPR 2022."""
        return self.ancestors.T.copy()

    def index(self, name: str) -> int:
        """Return the index of a node by its name or one of its aliases.

        Raises:
            HierarchyError: No node has that name.
        """
        for index, node in enumerate(self.nodes):
            if name == node or name in self.aliases[index]:
                return index
        raise HierarchyError(f"There is no node {name!r}; the tree has {', '.join(self.nodes)}.")

    def node_masks(self, label_map: UInt8Map) -> BoolMask:
        """Turn a label map into one mask per node.

        A pixel belongs to the node of its label and to all nodes above it. Background and void pixels belong to none;
        use `valid_mask` to tell them apart.

        Args:
            label_map: Integer labels, shape (..., H, W).

        Returns:
            Masks, bool, shape (..., N, H, W).

        Raises:
            HierarchyError: The map holds a number that is no label of this tree.
        """
        self.check_labels(label_map)
        return np.moveaxis(self.membership[label_map], -1, -3)

    def valid_mask(self, label_map: UInt8Map) -> BoolMask:
        """Tell where a label map says anything.

        Args:
            label_map: Integer labels, shape (..., H, W).

        Returns:
            Mask, bool, shape (..., H, W): False on void pixels.
        """
        return np.asarray(label_map != self.void)

    def known_masks(self, label_map: UInt8Map) -> BoolMask:
        """Tell of which nodes a label map says whether a pixel belongs to them.

        The label of an inner node says all but what lies below it: "upper" is a body, not a lower body, and may be any
        of its parts. The label of a leaf and background say all, void says nothing.

        Args:
            label_map: Integer labels, shape (..., H, W).

        Returns:
            Masks, bool, shape (..., N, H, W).

        Raises:
            HierarchyError: The map holds a number that is no label of this tree.
        """
        self.check_labels(label_map)
        return np.moveaxis(self.knowledge[label_map], -1, -3)

    def at_level(self, label_map: UInt8Map, level: str) -> UInt8Map:
        """Turn a label map into the map of a coarser level.

        Args:
            label_map: Integer labels, shape (..., H, W), for instance a decoded leaf map.
            level: Name of the level.

        Returns:
            Labels, uint8, same shape: each pixel's node replaced by its ancestor on that level. Nodes that already lie
            higher, background and void stay.

        Raises:
            HierarchyError: No level has that name, or the map holds an unknown label.
        """
        depth = self.level_depth(level)
        self.check_labels(label_map)
        table = np.arange(256, dtype=np.uint8)
        for index, lineage in enumerate(self.lineages):
            table[self.labels[index]] = self.labels[lineage[min(depth, len(lineage) - 1)]]
        return np.asarray(table[label_map])

    def level_depth(self, level: str) -> int:
        """Return the depth of a level by its name.

        Raises:
            HierarchyError: No level has that name.
        """
        if level not in self.level_names:
            raise HierarchyError(f"There is no level {level!r}; the levels are {', '.join(self.level_names)}.")
        return self.level_names.index(level)

    def check_labels(self, label_map: npt.NDArray[Any]) -> None:
        """Check that every number in a map is a label of this tree, background or void.

        Raises:
            HierarchyError: It is not; the message names the numbers.
        """
        if not np.issubdtype(label_map.dtype, np.integer):
            raise HierarchyError(f"Labels must be whole numbers, not {label_map.dtype}.")
        found = np.unique(label_map).tolist() if label_map.dtype != np.uint8 else _present(label_map)
        unknown = sorted(set(found) - {*self.labels, self.background, self.void})
        if unknown:
            raise HierarchyError(
                f"The label map holds {', '.join(map(str, unknown))}; this tree knows "
                f"{', '.join(map(str, sorted([*self.labels, self.background])))} and {self.void} for void."
            )

    @cached_property
    def membership(self) -> BoolMask:
        """Table (256, N): which nodes a label turns on; background, void and unknown labels turn on none."""
        table = np.zeros((256, len(self)), dtype=bool)
        for index, label in enumerate(self.labels):
            table[label] = self.ancestors[index]
        return table

    @cached_property
    def knowledge(self) -> BoolMask:
        """Table (256, N): of which nodes a label says whether they are on; void and unknown labels say it of none."""
        table = np.zeros((256, len(self)), dtype=bool)
        table[self.background] = True
        for index, label in enumerate(self.labels):
            table[label] = ~self.descendants[index]
            table[label, index] = True
        return table


def _present(label_map: UInt8Map) -> list[int]:
    """Return the values of a uint8 map; counting is far quicker than the sort of np.unique."""
    return np.flatnonzero(np.bincount(label_map.ravel(), minlength=256)).tolist()


def _default_path() -> Path:
    return Path(str(resources.files("hierseg") / "hierarchies" / "pascal-person-part.yaml"))


class _LineLoader(yaml.SafeLoader):
    """A SafeLoader that refuses a key given twice and keeps the line each mapping began on."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Build a value; one that only looks like a number or date (0x_, 2020-99-99) is an error of its line."""
        try:
            return super().construct_object(node, deep)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping with its line number."""
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            if key in mapping:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            mapping[key] = self.construct_object(value_node, deep=True)
        mapping[_LINE] = node.start_mark.line + 1
        return mapping


class _Reader:
    """Checks a mapping key by key and builds the tree from it."""

    def __init__(self, source: str) -> None:
        self.source = source

    def read(self, content: Any) -> Hierarchy:
        if not isinstance(content, Mapping):
            raise HierarchyError(f"{self.source} must hold the keys name, levels and tree.")
        self._check_keys(content, _FILE_KEYS, {"levels", "tree"}, "the file")
        background = self._label(content.get("background", 0), content, "background")
        void = self._label(content.get("void", 255), content, "void")
        entries, parents = self._level_order(content)
        names = [entry["name"] for entry in entries]
        aliases = [self._aliases(entry) for entry in entries]
        self._check_distinct(names, aliases, entries)  # first: a node copied with its label has two parents
        level_names = self._levels(content, parents)
        labels = self._labels(entries, parents, background, void)
        return Hierarchy(
            name=self._text(content.get("name", Path(self.source).stem), content, "name"),
            nodes=tuple(names),
            parents=tuple(parents),
            labels=tuple(labels),
            colors=tuple(self._color(entry, index) for index, entry in enumerate(entries)),
            aliases=tuple(aliases),
            level_names=tuple(level_names),
            background=background,
            void=void,
        )

    def _fail(self, where: Mapping[str, Any], message: str) -> HierarchyError:
        line = f", line {where[_LINE]}" if _LINE in where else ""
        return HierarchyError(f"{self.source}{line}: {message}")

    def _check_keys(self, entry: Mapping[str, Any], known: set[str], needed: set[str], what: str) -> None:
        for key in entry:
            if key not in known and key != _LINE:
                raise self._fail(entry, f"unknown key {key!r}; {what} may have {', '.join(sorted(known))}.")
        for key in sorted(needed):
            if key not in entry:
                raise self._fail(entry, f"the key {key!r} is missing.")

    def _level_order(self, content: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], list[int]]:
        """Walk the nested nodes in level order; returns them with their parents' indices."""
        entries: list[Mapping[str, Any]] = []
        parents: list[int] = []
        row = [(-1, entry) for entry in self._nodes(content, "tree")]
        while row:
            below: list[tuple[int, Any]] = []
            for parent, entry in row:
                if not isinstance(entry, Mapping):
                    raise self._fail(content, f"a node must have keys such as name and label; found {entry!r}.")
                self._check_keys(entry, _NODE_KEYS, {"name"}, "a node")
                self._text(entry["name"], entry, "name")
                if "children" in entry:
                    below += [(len(entries), child) for child in self._nodes(entry, "children")]
                entries.append(entry)
                parents.append(parent)
            row = below
        return entries, parents

    def _nodes(self, entry: Mapping[str, Any], key: str) -> Iterator[Any]:
        nodes = entry[key]
        if not isinstance(nodes, list) or not nodes:
            raise self._fail(entry, f"{key!r} must be a list of nodes; a tree without a leaf has nothing to show.")
        yield from nodes

    def _levels(self, content: Mapping[str, Any], parents: list[int]) -> list[str]:
        depths: list[int] = []
        for parent in parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
        levels = content["levels"]
        if not isinstance(levels, list) or not all(isinstance(level, str) and level for level in levels):
            raise self._fail(content, "'levels' must be a list of names, root level first.")
        if len(set(levels)) != len(levels):
            raise self._fail(content, "'levels' names a level twice.")
        if len(levels) != max(depths) + 1:
            raise self._fail(content, f"'levels' names {len(levels)} levels, but the tree is {max(depths) + 1} deep.")
        return levels

    def _labels(self, entries: list[Mapping[str, Any]], parents: list[int], background: int, void: int) -> list[int]:
        """Return each node's label; an inner node without one gets the next free number."""
        taken = {background: "background", void: "void"}
        if background == void:
            raise HierarchyError(f"{self.source}: 'background' and 'void' are both {void}.")
        labels: list[int | None] = []
        for index, entry in enumerate(entries):
            if "label" not in entry:
                if index not in parents:
                    raise self._fail(entry, f"the leaf {entry['name']!r} has no 'label'.")
                labels.append(None)
                continue
            label = self._label(entry["label"], entry, "label")
            if label in taken:
                raise self._fail(entry, f"label {label} of {entry['name']!r} is already used for {taken[label]!r}.")
            taken[label] = entry["name"]
            labels.append(label)
        if len(entries) > 254:
            raise HierarchyError(f"{self.source} has {len(entries)} nodes; a uint8 label map holds 254 at most.")
        highest = max((label for label in labels if label is not None), default=0)
        free = (label for label in [*range(highest + 1, 256), *range(256)] if label not in taken)
        return [next(free) if label is None else label for label in labels]

    def _label(self, value: Any, entry: Mapping[str, Any], key: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 255:
            raise self._fail(entry, f"{key!r} must be a whole number from 0 to 255, not {value!r}.")
        return value

    def _text(self, value: Any, entry: Mapping[str, Any], key: str) -> str:
        if not isinstance(value, str) or not value:
            raise self._fail(entry, f"{key!r} must be a word, not {value!r}.")
        return value

    def _aliases(self, entry: Mapping[str, Any]) -> tuple[str, ...]:
        aliases = entry.get("aliases", [])
        if not isinstance(aliases, list):
            raise self._fail(entry, "'aliases' must be a list of names.")
        return tuple(self._text(alias, entry, "aliases") for alias in aliases)

    def _check_distinct(
        self, names: list[str], aliases: list[tuple[str, ...]], entries: list[Mapping[str, Any]]
    ) -> None:
        seen: set[str] = set()
        for name, entry in zip(names, entries, strict=True):
            if name in seen:
                raise self._fail(entry, f"{name!r} stands in the tree twice; a node has one parent.")
            seen.add(name)
        for others, entry in zip(aliases, entries, strict=True):
            for alias in others:
                if alias in seen:
                    raise self._fail(entry, f"the alias {alias!r} of {entry['name']!r} is already a name.")
                seen.add(alias)

    def _color(self, entry: Mapping[str, Any], index: int) -> tuple[int, int, int]:
        if "color" not in entry:
            return _spread_color(index)
        color = entry["color"]
        try:
            if not (isinstance(color, str) and len(color) == 7 and color[0] == "#"):
                raise ValueError
            red, green, blue = bytes.fromhex(color[1:])
        except ValueError:
            raise self._fail(entry, f"'color' must look like \"#c03028\", not {color!r}.") from None
        return red, green, blue


def _spread_color(index: int) -> tuple[int, int, int]:
    """Return one of a row of well-separated colours (hues a golden ratio apart) for a node that names none."""
    import colorsys

    red, green, blue = colorsys.hsv_to_rgb((0.11 + index * 0.618034) % 1.0, 0.65, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)
