"""Random trees with maps and scores, and relations in a tree by plain recursion, for brute-force twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hierseg.calibration import Calibration
from hierseg.photo import Letterbox
from hierseg.photo.zoom import Window
from hierseg.predictor import Prediction, WindowScores
from hierseg.tree import Hierarchy


def prediction_of(
    scores: npt.NDArray[np.float32], tree: Hierarchy, threshold: float = 0.5, lines: Calibration | None = None
) -> Prediction:
    """Return a prediction of scores (N, H, W) that the network gave at the photo's own size."""
    height, width = size = scores.shape[1:]
    letterbox = Letterbox(size, (32, 32), size, (0, 0))
    return Prediction(tree, threshold, WindowScores(Window(0, 0, height, width), letterbox, scores), calibration=lines)


@st.composite
def tree_contents(draw: st.DrawFn, max_nodes: int = 12, max_depth: int = 4) -> dict[str, Any]:
    """Draw the content of a hierarchy file: 1 to 3 roots, leaves at different depths, with or without optional keys.

    Labels, background and void are any distinct numbers, so that nothing can rely on 0 and 255.
    """
    roots = draw(st.integers(1, 3), label="roots")
    count = roots if max_depth == 1 else draw(st.integers(roots, max_nodes), label="nodes")
    parents, depths = [-1] * roots, [0] * roots
    for node in range(roots, count):
        parents.append(draw(st.sampled_from([above for above in range(node) if depths[above] < max_depth - 1])))
        depths.append(depths[parents[-1]] + 1)
    # The shape is drawn step by step, so that a failing tree shrinks; the rest comes from one seed, which is quicker.
    rng = np.random.default_rng(draw(st.integers(0, 2**16), label="labels and optional keys"))
    numbers = rng.permutation(256).tolist()

    def entry(node: int) -> dict[str, Any]:
        content: dict[str, Any] = {"name": f"n{node}"}
        children = [child for child in range(count) if parents[child] == node]
        if not children or rng.random() < 0.5:
            content["label"] = numbers[node]
        if rng.random() < 0.5:
            content["color"] = f"#{rng.integers(1 << 24):06x}"
        if rng.random() < 0.5:
            content["aliases"] = [f"alias of n{node}"]
        if children:
            content["children"] = [entry(child) for child in children]
        return content

    return {
        "name": "random",
        "background": numbers[-1],
        "void": numbers[-2],
        "levels": [f"level {depth}" for depth in range(max(depths) + 1)],
        "tree": [entry(root) for root in range(roots)],
    }


def hierarchies(max_nodes: int = 12, max_depth: int = 4) -> st.SearchStrategy[Hierarchy]:
    """Draw a tree."""
    return tree_contents(max_nodes, max_depth).map(Hierarchy.from_dict)


def label_maps(
    tree: Hierarchy, shape: tuple[int, ...] = (3, 4), void: bool = True
) -> st.SearchStrategy[npt.NDArray[np.uint8]]:
    """Draw a label map of any nodes, inner ones too, with background and, if asked for, void."""
    labels = [tree.background, *tree.labels, *([tree.void] if void else [])]
    return hnp.arrays(np.uint8, shape, elements=st.sampled_from(labels))


def score_maps(tree: Hierarchy, shape: tuple[int, int] = (3, 4)) -> st.SearchStrategy[npt.NDArray[np.float32]]:
    """Draw node scores from 0 to 1: either all different, or few values with many ties, 0 and 1 among them."""
    size = (len(tree), *shape)
    different = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).random(size, np.float32))
    return different | hnp.arrays(np.float32, size, elements=st.floats(0, 1, width=32))


def node_and_above(tree: Hierarchy, node: int) -> list[int]:
    """Return a node and its ancestors, root last."""
    parent = tree.parents[node]
    return [node] + ([] if parent < 0 else node_and_above(tree, parent))


def node_and_below(tree: Hierarchy, node: int) -> list[int]:
    """Return a node and its descendants."""
    children = [child for child in range(len(tree)) if tree.parents[child] == node]
    return [node] + [lower for child in children for lower in node_and_below(tree, child)]


def is_leaf(tree: Hierarchy, node: int) -> bool:
    """Tell whether a node has no child."""
    return node not in tree.parents


def nodes_shown(tree: Hierarchy, depth: int) -> list[int]:
    """Return the nodes of a level: those of its depth and the leaves above."""
    depths = [len(node_and_above(tree, node)) - 1 for node in range(len(tree))]
    return [node for node, own in enumerate(depths) if own == depth or (own < depth and is_leaf(tree, node))]


def nodes_of_label(tree: Hierarchy, label: int) -> list[int]:
    """Return the nodes, deepest first, that a pixel of this label belongs to: none for background and void."""
    return node_and_above(tree, tree.labels.index(label)) if label in tree.labels else []
