"""What is left to run, in order of what it would change."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from studies.losses.rows import FIRST, PREDECESSOR, ROWS

Run = tuple[str, int]  # row and seed
_MINUTES = 12  # of a run of five epochs, alone on two cores, its measurement among them


@dataclass(frozen=True)
class Step:
    """Runs that answer one question.

    Attributes:
        tells: The question, as what follows "they tell".
        rows: Which rows.
        seeds: With which seeds each.
        pairs: Which differences answer it, once all are there.
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
    Step("in what the losses differ", tuple(FIRST), _SEEDS),
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
        "how much of claim 4 is the softmax, not clipping or the weight of inner nodes",
        ("bce_x9_unclipped", "leaf_cross_entropy_unclipped", "leaf_bce"),
        _SEEDS,
        (("leaf_cross_entropy_unclipped", "bce_x9_unclipped"), ("leaf_cross_entropy", "leaf_bce")),
    ),
    Step(
        "whether claim 6 is the triplets' weight",
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
        "what triplets do on the encoder's features, beside a main loss of the published kind",
        ("level_sum", "level_sum_triplet"),
        _SEEDS,
        (("level_sum_triplet", "level_sum"),),
    ),
    Step("whether the tree loss needs the published recipe", ("published",), _SEEDS, (("published", "bce"),)),
    Step(
        "whether claim 5 holds with five seeds",
        ("focal_tree_min", PREDECESSOR),
        (3, 4),
        (("focal_tree_min", PREDECESSOR),),
    ),
)
ALL = [run for step in STEPS for run in step.left(())]
AGAIN = "the newer measures of older runs, which have to be trained again"


def minutes(runs: Collection[Run]) -> int:
    """Return how long runs take."""
    return sum(_MINUTES * ROWS[row].get("epochs", 5) // 5 for row, _ in runs)


def listed(done: Collection[Run], older: Collection[Run]) -> Iterator[str]:
    """Yield a line for each step that has runs left, and one that adds up.

    Args:
        done: Runs that have a result.
        older: Those of them that lack measures.
    """
    left = [(step.tells, step.left(done)) for step in STEPS] + [(AGAIN, [run for run in ALL if run in older])]
    for tells, runs in left:
        if runs:
            named = (
                f"{row} {' '.join(str(s) for r, s in runs if r == row)}" for row in dict.fromkeys(r for r, _ in runs)
            )
            yield f"{minutes(runs):5} min  {tells}: {', '.join(named)}"
    yield f"{minutes([run for _, runs in left for run in runs]):5} min  in all"
