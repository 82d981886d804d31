"""Read a tree from YAML and check every key; error messages name the line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from hierseg.tree.hierarchy import Hierarchy, HierarchyError

_FILE_KEYS = {"name", "background", "void", "levels", "tree"}
_NODE_KEYS = {"name", "label", "color", "aliases", "children"}
_LINE = "__line__"  # the line on which a mapping begins, for error messages


def from_yaml(path: Path) -> Hierarchy:
    """Read a tree; see `Hierarchy.from_yaml`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HierarchyError(f"{path} cannot be read: {error}.") from error
    try:
        content = yaml.load(text, Loader=_LineLoader)  # a SafeLoader: builds plain values only
    except yaml.YAMLError as error:
        raise HierarchyError(f"{path} is not valid YAML: {error}") from error
    except RecursionError as error:
        raise HierarchyError(f"{path} is nested too deeply to be read.") from error
    return from_mapping(content, str(path))


def from_mapping(content: Any, source: str) -> Hierarchy:
    """Build a tree; see `Hierarchy.from_dict`."""
    return _Reader(source).read(content)


class _LineLoader(yaml.SafeLoader):
    """A SafeLoader that refuses duplicate keys and records the line of each mapping."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Build a value; a malformed number or date (0x_, 2020-99-99) is an error that names its line."""
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
        self._check_distinct(names, aliases, entries)  # before labels: a copied node should be reported by its name
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
        """Return the nested nodes in level order, and the index of each one's parent."""
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
            raise self._fail(entry, f"{key!r} must be a list of at least one node.")
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
                raise self._fail(entry, f"{name!r} is in the tree twice; a node has one parent.")
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
    """Return a colour for a node that has none: hues a golden ratio apart, so that colours differ clearly."""
    import colorsys

    red, green, blue = colorsys.hsv_to_rgb((0.11 + index * 0.618034) % 1.0, 0.65, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)
