"""Risks that a checkpoint can promise: "of the pixels called a person, at most 1 in 5 has a wrong name".

A pixel with an uncertain part stops higher in the tree, where it is right more often. A higher certainty, see
`hierseg.decoding.decode`, gives fewer wrong names and less detail. `python -m train risk` finds the certainty for each
risk on photos that were not trained on, and stores it in the checkpoint.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hierseg.errors import UserError
from hierseg.inference import Inference

RISKS = (1, 3, 4, 5, 10, 20)  # "1 in N"; 1 in 1 promises nothing, and shows the result without a certainty


class RiskError(UserError):
    """The requested risk cannot be promised. The message says which risks can."""


@dataclasses.dataclass(frozen=True)
class Promise:
    """A risk that a checkpoint keeps, and what keeping it costs.

    Attributes:
        one_in: On average over photos, at most 1 in `one_in` of the pixels called a person has a wrong name.
        certainty: The least certainty that keeps this, 0 to 1.
        wrong: Share of wrong names on held-out photos, averaged over them, 0 to 1.
        stops: For each level, the share of the person's pixels that stop there, averaged over held-out photos with a
            person.
    """

    one_in: int
    certainty: float
    wrong: float
    stops: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class RiskControl:
    """All risks that a checkpoint can promise.

    Attributes:
        promises: One for each of `RISKS` that can be kept.
        inference: Settings of inference; the promises hold only for these.
        photos: Number of photos that the certainties were chosen on.
        ids_sha256: A hash of their ids, see `train.dataset.split_hash`.
        held_out: Number of other photos that `wrong` and `stops` were measured on.
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
            ValueError: A value is invalid.
        """
        numbers = [self.photos, self.held_out, *(promise.one_in for promise in self.promises)]
        shares = [
            share for promise in self.promises for share in (promise.certainty, promise.wrong, *promise.stops.values())
        ]
        if not all(isinstance(number, int) and number > 0 for number in numbers):
            raise ValueError(f"Promises must have whole numbers above 0, unlike {numbers}.")
        if not all(0 <= share <= 1 for share in shares) or 1 not in numbers[2:]:
            raise ValueError("Promises must have shares from 0 to 1, and must include 1 in 1.")

    @staticmethod
    def from_dict(values: dict[str, Any]) -> RiskControl:
        """Build promises from the output of `dataclasses.asdict`.

        Raises:
            KeyError: A key is missing.
            TypeError: A key is unknown, or a value has the wrong type.
            ValueError: A value is invalid.
        """
        promises = tuple(Promise(**promise) for promise in values["promises"])
        return RiskControl(**{**values, "promises": promises, "inference": Inference.from_dict(values["inference"])})


def certainty_for(control: RiskControl | None, risk: float) -> float:
    """Return the least certainty that keeps a risk.

    Args:
        control: The promises; None if there are none.
        risk: Share of the pixels called a person that may have a wrong name, 0 to 1, for instance 1 / 5.

    Raises:
        RiskError: The risk cannot be promised.
    """
    if control is None:
        raise RiskError("No risk can be promised here: none was measured for this checkpoint as it is used.")
    kept = [promise.certainty for promise in control.promises if 1 / promise.one_in <= risk]
    if not kept:
        offered = ", ".join(f"1 in {promise.one_in}" for promise in control.promises if promise.one_in > 1)
        raise RiskError(f"A risk of {risk:.3g} cannot be promised here. What can be: {offered or 'none'}.")
    return min(kept)
