"""Segment people along a tree: body, then upper and lower body, then parts."""

__version__ = "0.1.0"
