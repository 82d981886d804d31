"""Compare two checkpoints on one photo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierseg.tree import Hierarchy, UInt8Map


@dataclass(frozen=True)
class Differences:
    """How two label maps of one photo differ.

    Attributes:
        map: uint8 (H, W): 0 where they agree, 1 where only the first has a person, 2 where only the second has one, 3
            where both have a person but different nodes.
        of_photo: Share of the photo where they differ, 0 to 1.
        of_people: Share of the pixels with a person in either map where they differ; 0 if there are none.
        only_first: Share of the photo where only the first has a person.
        only_second: Share of the photo where only the second has a person.
        another_node: Share of the photo where both have a person but different nodes.
    """

    map: UInt8Map
    of_photo: float
    of_people: float
    only_first: float
    only_second: float
    another_node: float


def differences(first: UInt8Map, second: UInt8Map, hierarchy: Hierarchy) -> Differences:
    """Compare two label maps.

    Args:
        first: Labels, uint8 (H, W), decoded.
        second: Likewise.
        hierarchy: Their tree.

    Returns:
        Where they differ, and how much.

    Raises:
        ValueError: They differ in size.
    """
    if first.shape != second.shape:
        raise ValueError(f"One map is {first.shape}, the other {second.shape}.")
    in_first, in_second = first != hierarchy.background, second != hierarchy.background
    kinds = np.zeros(first.shape, dtype=np.uint8)
    kinds[in_first & ~in_second] = 1
    kinds[in_second & ~in_first] = 2
    kinds[in_first & in_second & (first != second)] = 3
    pixels = np.bincount(kinds.ravel(), minlength=4)
    shares = (pixels / max(1, kinds.size)).tolist()
    people = int((in_first | in_second).sum())
    return Differences(
        map=kinds,
        of_photo=sum(shares[1:]),
        of_people=int(pixels[1:].sum()) / people if people else 0.0,
        only_first=shares[1],
        only_second=shares[2],
        another_node=shares[3],
    )
