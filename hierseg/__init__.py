"""Segment people in photos into a hierarchy of body parts: `from hierseg import Predictor, Hierarchy, losses`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hierseg import losses
    from hierseg.predictor import Predictor
    from hierseg.tree import Hierarchy

__version__ = "0.1.0"
__all__ = ["Hierarchy", "Predictor", "losses"]
_HOMES = {"Hierarchy": "hierseg.tree", "Predictor": "hierseg.predictor"}


def __getattr__(name: str) -> Any:
    """Import each name on first use, so that `import hierseg` is fast."""
    if name == "losses":
        return import_module("hierseg.losses")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
