"""The tree as data, read from one YAML file: every other module takes a `Hierarchy` and knows no body part by name."""

from hierseg.tree.hierarchy import BoolMask, Hierarchy, HierarchyError, UInt8Map

__all__ = ["BoolMask", "Hierarchy", "HierarchyError", "UInt8Map"]
