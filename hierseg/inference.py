"""Settings of inference: the input size, the passes over a photo, and the threshold of decoding.

A checkpoint stores its own `Inference`, chosen for its weights; a caller may use another:

    predictor.using(mirror=False, zoom=None)  # one pass over the whole photo, the fastest
"""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Zoom:
    """Settings of the passes over windows around small people. All but `windows` are shares, 0 to 1.

    Attributes:
        windows: Most windows; those with the most pixels of people are used.
        found: Score of a root above which a pixel may show a person; low, so that uncertain people are found too.
        margin: Context on each side of a person, as a share of the person's longer side.
        smallest: Least longer side of a window, as a share of the photo's; a smaller window would show only blur.
        largest: Greatest longer side of a window, as a share of the photo's; a larger one would show no more detail.
        slimmest: Least shorter side of a window, as a share of its longer side.
        weight: Weight w of a window in the mean: w * its scores + (1 - w) * scores of the whole photo.
        fade: Share of a window's sides over which the weight falls to 0 towards the edges, so that no seam shows.
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
            ValueError: A value is invalid.
        """
        windows, *shares = dataclasses.astuple(self)
        if not (isinstance(windows, int) and windows > 0 and all(0 <= share <= 1 for share in shares)):
            raise ValueError(f"A zoom must have at least one window, and shares from 0 to 1, unlike {self}.")


@dataclasses.dataclass(frozen=True)
class Inference:
    """Settings of inference. The defaults apply to checkpoints written without any.

    Attributes:
        input_size: Longest side of the network's input in pixels; None for that of its `ModelSpec`.
        mirror: Average the scores of the photo and its mirror image. Takes twice the time.
        mirror_size: Longest side of the mirror image in pixels; None for `input_size`. A larger one shows finer parts.
        zoom: Settings of the passes over windows around small people; None for no such passes. Takes up to four times
            the time if there are small people, no time if there are none.
        threshold: Mean score of a path above which a pixel is not background, 0 to 1.
    """

    input_size: int | None = None
    mirror: bool = True
    mirror_size: int | None = None
    zoom: Zoom | None = Zoom()
    threshold: float = 0.5

    def __post_init__(self) -> None:
        """Check the values, which may come from a file.

        Raises:
            ValueError: A value is invalid.
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
        """Build settings from the output of `dataclasses.asdict`; missing keys get their defaults.

        Raises:
            TypeError: A key is unknown, or a value has the wrong type.
            ValueError: A value is invalid.
        """
        zoom = values.get("zoom", {})
        return Inference(**{**values, "zoom": None if zoom is None else Zoom(**zoom)})
