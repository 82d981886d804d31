"""A tree of classes: nodes, parents, levels and paths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hierseg.errors import UserError

UInt8Map = npt.NDArray[np.uint8]
BoolMask = npt.NDArray[np.bool_]


class HierarchyError(UserError):
    """A hierarchy file is broken, or a name or label is not in the tree. The message says what to fix."""


@dataclass(frozen=True)
class Hierarchy:
    """A forest of classes with named levels.

    Nodes are numbered in level order (all of depth 0 first), which is the channel order of scores. A node's depth is
    the number of edges to its root; level k shows the nodes of depth k and the leaves above them.

    Attributes:
        name: Name of the tree.
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
        folder = Path(str(resources.files("hierseg.tree") / "hierarchies"))
        return Hierarchy.from_yaml(folder / "pascal-person-part.yaml")

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
        from hierseg.tree import reader  # here, since reader imports this module

        return reader.from_yaml(Path(path))

    @staticmethod
    def from_dict(content: Any, source: str = "the tree") -> Hierarchy:
        """Build a tree from the mapping that a YAML file or a checkpoint holds.

        Args:
            content: Keys as in the YAML file.
            source: What error messages call it.

        Returns:
            The tree.

        Raises:
            HierarchyError: As for `from_yaml`.
        """
        from hierseg.tree import reader

        return reader.from_mapping(content, source)

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
        use `known_masks` to tell them apart.

        Args:
            label_map: Integer labels, shape (..., H, W).

        Returns:
            Masks, bool, shape (..., N, H, W).

        Raises:
            HierarchyError: The map holds a number that is not a label of this tree.
        """
        self.check_labels(label_map)
        return np.moveaxis(self.membership[label_map], -1, -3)

    def known_masks(self, label_map: UInt8Map) -> BoolMask:
        """Return for each node which pixels are known to belong to it or known not to.

        The label of a leaf, or background, decides every node; void decides none. The label of an inner node decides
        all nodes but those below it: a pixel labelled upper body is body, is not lower body, and may or may not be
        head.

        Args:
            label_map: Integer labels, shape (..., H, W).

        Returns:
            Masks, bool, shape (..., N, H, W).

        Raises:
            HierarchyError: The map holds a number that is not a label of this tree.
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
            HierarchyError: Some numbers are none of these; the message names them.
        """
        if not np.issubdtype(label_map.dtype, np.integer):
            raise HierarchyError(f"Labels must be whole numbers, not {label_map.dtype}.")
        found = np.unique(label_map).tolist() if label_map.dtype != np.uint8 else _present(label_map)
        unknown = sorted(set(found) - {*self.labels, self.background, self.void})
        if unknown:
            raise HierarchyError(
                f"The label map holds {', '.join(map(str, unknown))}; this tree has "
                f"{', '.join(map(str, sorted([*self.labels, self.background])))} and {self.void} for void."
            )

    @cached_property
    def membership(self) -> BoolMask:
        """Table (256, N): [label, v] is True where a pixel with that label belongs to node v."""
        table = np.zeros((256, len(self)), dtype=bool)
        for index, label in enumerate(self.labels):
            table[label] = self.ancestors[index]
        return table

    @cached_property
    def knowledge(self) -> BoolMask:
        """Table (256, N): [label, v] is True where that label decides whether a pixel belongs to node v."""
        table = np.zeros((256, len(self)), dtype=bool)
        table[self.background] = True
        for index, label in enumerate(self.labels):
            table[label] = ~self.descendants[index]
            table[label, index] = True
        return table


def _present(label_map: UInt8Map) -> list[int]:
    """Return the values in a uint8 map; counting is far faster than np.unique, which sorts."""
    return np.flatnonzero(np.bincount(label_map.ravel(), minlength=256)).tolist()
