"""The tree of classes, read from one YAML file; other modules take a `Hierarchy` and name no body part."""

from hierseg.tree.hierarchy import BoolMask, Hierarchy, HierarchyError, UInt8Map

__all__ = ["BoolMask", "Hierarchy", "HierarchyError", "UInt8Map"]
