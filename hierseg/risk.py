"""How sure is sure enough, in words: "of the pixels called a person, at most 1 in 5 carry a wrong name".

A pixel that is too unsure of its part stops at the body or its half, where it is right more often: a certainty, see
`hierseg.decoding.decode`, is traded for depth. Which certainty keeps which risk is found once, on photos that nobody
trained on, by `python -m train risk`, and kept in the checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hierseg.errors import UserError
from hierseg.inference import Inference

RISKS = (1, 3, 4, 5, 10, 20)  # "1 in so many"; 1 in 1 is no promise, and shows what comes of stopping nowhere


class RiskError(UserError):
    """A risk is asked for that cannot be promised. The message says which can."""


@dataclasses.dataclass(frozen=True)
class Promise:
    """A risk that a checkpoint keeps, and what keeping it costs.

    Attributes:
        one_in: The risk: on average over photos, at most one in so many of the pixels called a person has a wrong name.
        certainty: The least that keeps it, 0 to 1.
        wrong: Share that was wrong on held-out photos, mean over them, 0 to 1.
        stops: For each level the share of the person's pixels that stop there, mean over those of them with a person.
    """

    one_in: int
    certainty: float
    wrong: float
    stops: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class RiskControl:
    """Every risk that a checkpoint can promise.

    Attributes:
        promises: Those of `RISKS` that can be kept.
        inference: How the network was used; used otherwise it promises nothing.
        photos: How many photos the certainties were chosen on.
        ids_sha256: A hash of their ids, see `train.dataset.split_hash`.
        held_out: How many other photos `wrong` and `stops` are of.
        held_out_ids_sha256: A hash of their ids.
    """

    promises: tuple[Promise, ...]
    inference: Inference
    photos: int
    ids_sha256: str
    held_out: int
    held_out_ids_sha256: str

    def __post_init__(self) -> None:
        """Check the values, which may come from a file.

        Raises:
            ValueError: One makes no sense.
        """
        numbers = [self.photos, self.held_out, *(promise.one_in for promise in self.promises)]
        shares = [
            share for promise in self.promises for share in (promise.certainty, promise.wrong, *promise.stops.values())
        ]
        if not all(isinstance(number, int) and number > 0 for number in numbers):
            raise ValueError(f"Promises must be of whole numbers above 0, unlike {numbers}.")
        if not all(0 <= share <= 1 for share in shares) or 1 not in numbers[2:]:
            raise ValueError("Promises must be of shares from 0 to 1, and that of 1 in 1 be among them.")

    @staticmethod
    def from_dict(values: dict[str, Any]) -> RiskControl:
        """Build one from what `dataclasses.asdict` returns.

        Raises:
            KeyError: Something is missing.
            TypeError: A key is unknown, or a value is of another type.
            ValueError: A value makes no sense.
        """
        promises = tuple(Promise(**promise) for promise in values["promises"])
        return RiskControl(**{**values, "promises": promises, "inference": Inference.from_dict(values["inference"])})


def certainty_for(control: RiskControl | None, risk: float) -> float:
    """Return the least certainty that keeps a risk.

    Args:
        control: What can be promised; None for nothing.
        risk: Share of the pixels called a person that may have a wrong name, 0 to 1, for instance 1 / 5.

    Raises:
        RiskError: It cannot be promised.
    """
    if control is None:
        raise RiskError("No risk can be promised here: none was measured for this checkpoint as it is used.")
    kept = [promise.certainty for promise in control.promises if 1 / promise.one_in <= risk]
    if not kept:
        offered = ", ".join(f"1 in {promise.one_in}" for promise in control.promises if promise.one_in > 1)
        raise RiskError(f"A risk of {risk:.3g} cannot be promised here. What can be: {offered or 'none'}.")
    return min(kept)
