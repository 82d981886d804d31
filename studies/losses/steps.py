"""The runs of the study, in order of how much they would change."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from studies.losses.rows import FIRST, PREDECESSOR, ROWS

Run = tuple[str, int]  # row and seed
_MINUTES = 12  # to train for five epochs and measure, alone on two cores


@dataclass(frozen=True)
class Step:
    """Runs that answer one question.

    Attributes:
        tells: The question, as it follows "these runs tell".
        rows: The rows to run.
        seeds: The seeds of each.
        pairs: The differences that answer it.
    """

    tells: str
    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    pairs: tuple[tuple[str, str], ...] = ()

    def left(self, done: Collection[Run]) -> list[Run]:
        """Return the runs that are not done, one seed after the other."""
        return [(row, seed) for seed in self.seeds for row in self.rows if (row, seed) not in done]


_SEEDS = (0, 1, 2)
STEPS = (
    Step("how the losses differ", tuple(FIRST), _SEEDS),
    Step(
        "whether claims 1 and 4 hold with five seeds",
        ("bce", "tree_min", "leaf_cross_entropy"),
        (3, 4),
        (("tree_min", "bce"), ("leaf_cross_entropy", "bce")),
    ),
    Step(
        "whether the tree loss catches up with twice the epochs",
        ("bce_long", "tree_min_long", "leaf_cross_entropy_long"),
        _SEEDS,
        (("tree_min_long", "bce_long"), ("leaf_cross_entropy_long", "bce_long")),
    ),
    Step(
        "whether claim 4 is about the softmax, or about clipping and the weight of inner nodes",
        ("bce_x9_unclipped", "leaf_cross_entropy_unclipped", "leaf_bce"),
        _SEEDS,
        (("leaf_cross_entropy_unclipped", "bce_x9_unclipped"), ("leaf_cross_entropy", "leaf_bce")),
    ),
    Step(
        "whether claim 6 is about the triplets' weight",
        ("focal_tree_min_triplet_02", "focal_tree_min_triplet_05"),
        _SEEDS,
        (("focal_tree_min_triplet_02", "focal_tree_min"), ("focal_tree_min_triplet_05", "focal_tree_min")),
    ),
    Step(
        "whether claim 3 is about focus or about gamma 2",
        ("focal_tree_min_gamma_1",),
        _SEEDS,
        (("focal_tree_min_gamma_1", "tree_min"),),
    ),
    Step(
        "what triplets do on the encoder's features, beside a loss like the published one",
        ("level_sum", "level_sum_triplet"),
        _SEEDS,
        (("level_sum_triplet", "level_sum"),),
    ),
    Step(
        "whether the tree loss gains from the rest of the published recipe",
        ("published",),
        _SEEDS,
        (("published", "bce"),),
    ),
    Step(
        "whether claim 5 holds with five seeds",
        ("focal_tree_min", PREDECESSOR),
        (3, 4),
        (("focal_tree_min", PREDECESSOR),),
    ),
)
ALL = [run for step in STEPS for run in step.left(())]
AGAIN = "the newer measures of the older runs, which have to be trained again"


def minutes(runs: Collection[Run]) -> int:
    """Return how long runs take."""
    return sum(_MINUTES * ROWS[row].get("epochs", 5) // 5 for row, _ in runs)


def within(runs: Sequence[Run], limit: float) -> list[Run]:
    """Return the first runs, as many as take at most so many minutes together."""
    return [run for number, run in enumerate(runs, 1) if minutes(runs[:number]) <= limit]


def listed(done: Collection[Run], older: Collection[Run]) -> Iterator[str]:
    """Yield a line for each step with runs left, and their sum.

    Args:
        done: Runs with a result.
        older: Those of them whose result lacks the newer measures.
    """
    left = [(step.tells, step.left(done)) for step in STEPS] + [(AGAIN, [run for run in ALL if run in older])]
    for tells, runs in left:
        if runs:
            named = (
                f"{row} {' '.join(str(s) for r, s in runs if r == row)}" for row in dict.fromkeys(r for r, _ in runs)
            )
            yield f"{minutes(runs):5} min  {tells}: {', '.join(named)}"
    yield f"{minutes([run for _, runs in left for run in runs]):5} min  in all"
