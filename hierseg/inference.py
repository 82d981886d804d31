"""How a network is used on a photo: at which size, with which passes, and where decoding cuts.

A checkpoint stores its own `Inference`, chosen for its weights; a caller may use another:

    predictor.using(mirror=False, zoom=None)  # one pass over the whole photo, the fastest
"""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Zoom:
    """Passes over windows around people who are small in a photo. All but `windows` are shares, 0 to 1.

    Attributes:
        windows: At most so many, those with most people first.
        found: Score of a root above which a pixel may belong to somebody; low, so that what was half seen counts.
        margin: Context on each side of somebody, over their longer side.
        smallest: Least longer side of a window over the photo's; a smaller window would show only blur.
        largest: Greatest longer side of a window over the photo's; a larger one would show nothing better.
        slimmest: Least shorter side of a window over its longer one.
        weight: Share of a window's scores in the mean with those of the whole photo.
        fade: Part of a window's sides over which that share falls to 0 at its edges, so that no seam shows.
    """

    windows: int = 3
    found: float = 0.3
    margin: float = 0.25
    smallest: float = 0.2
    largest: float = 0.7
    slimmest: float = 0.6
    weight: float = 0.7
    fade: float = 0.12

    def __post_init__(self) -> None:
        """Check the values, which may come from a file.

        Raises:
            ValueError: One makes no sense.
        """
        windows, *shares = dataclasses.astuple(self)
        if not (isinstance(windows, int) and windows > 0 and all(0 <= share <= 1 for share in shares)):
            raise ValueError(f"A zoom must have one window or more, and shares of 0 to 1, unlike {self}.")


@dataclasses.dataclass(frozen=True)
class Inference:
    """How a network is used. The defaults are those of checkpoints that were written without one.

    Attributes:
        input_size: Longest side of the network's input in pixels; None for that of its `ModelSpec`.
        mirror: Take the mean of the scores of the photo and of its mirror image. Twice the time.
        mirror_size: Longest side of the mirror image in pixels; None for `input_size`. A larger one sees finer parts.
        zoom: Where windows around small people get passes of their own. Up to four times the time where there are such
            people, nothing where there are none. None for no such passes.
        threshold: Mean score of a path above which a pixel is no background, 0 to 1.
    """

    input_size: int | None = None
    mirror: bool = True
    mirror_size: int | None = None
    zoom: Zoom | None = Zoom()
    threshold: float = 0.5

    def __post_init__(self) -> None:
        """Check the values, which may come from a file.

        Raises:
            ValueError: One makes no sense.
        """
        for size in (self.input_size, self.mirror_size):
            if size is not None and not (isinstance(size, int) and size > 0):
                raise ValueError(f"An input size must be a whole number above 0, not {size!r}.")
        if not isinstance(self.mirror, bool):
            raise ValueError(f"Whether to use the mirror image must be true or false, not {self.mirror!r}.")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"A threshold must be 0 to 1, not {self.threshold!r}.")

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Inference:
        """Build one from what `dataclasses.asdict` returns; what is missing has its default.

        Raises:
            TypeError: A key is unknown, or a value is of another type.
            ValueError: A value makes no sense.
        """
        zoom = values.get("zoom", {})
        return Inference(**{**values, "zoom": None if zoom is None else Zoom(**zoom)})
