"""The loss comparison: trains and measures every loss with every seed, skipping what is done.

All runs have one recipe but for what their rows change, see `rows`, and the seed. A run is measured with the average of
weights after its last epoch, one pass a photo, with every decoding; thresholds are chosen on training photos. The same
is done on photos of other kinds, none of which was trained on. Of each run the results folder gets ROW-SEED.json, its
figures, and ROW-SEED.npz, counts of each photo, from which `statistics` makes those figures again, and intervals.
Neither names a photo, a folder of this machine or a time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from hierseg import metrics
from hierseg.decoding import Scores, best_paths, decode_rounding, violations
from hierseg.errors import UserError
from hierseg.metrics import Counts, Values
from hierseg.network import checkpoint
from hierseg.predictor import Predictor
from hierseg.tree import BoolMask, Hierarchy, UInt8Map
from studies.losses.rows import plan
from studies.losses.statistics import figures, write_table
from studies.losses.steps import Run
from train.dataset import Example, load_examples, read_ids, split_hash
from train.fit import fit, load
from train.recipe import Recipe, RecipeError
from train.risk import CERTAINTIES, least, outcome, outcomes
from train.run_folder import WEIGHTS, TrainingError

THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
THRESHOLD_PHOTOS = 120  # of the training list, its first
RISK = 0.2  # of the pixels called a person: how many may have a wrong name, see `train.risk`


class SweepError(UserError):
    """The grid cannot go on, or a part of it failed. The message names what and says what to do."""


def sweep(recipe: Recipe, wanted: Sequence[Run], data: Path, extra: Path, runs: Path, out: Path) -> None:
    """Train and measure what has no result yet, then what lacks a measure; a run that was stopped goes on where it was.

    Args:
        recipe: What all runs share.
        wanted: Rows, of `rows.ROWS`, with seeds, in that order.
        data: The data folder.
        extra: Folder of data folders of other kinds of photos; may be missing.
        runs: Folder of the runs' own folders.
        out: Folder of the results.

    Raises:
        SweepError: A result is there, but of another recipe or other photos. Or a run could not be trained, which is
            said after all others have been.
        DataError: The data have faults.
    """
    tree = recipe.tree()
    others = {folder.name: domain_ids(folder) for folder in sorted(extra.glob("*/"))}
    others = {name: own for name, own in others.items() if own}
    ids = {split: read_ids(data, split) for split in ("train", "val")}
    of_data = {"photos": len(ids["val"]), **{f"{split}_ids_sha256": split_hash(ids[split]) for split in ids}}
    protocol = {"mirror": False, "zoom": False, "threshold_photos": THRESHOLD_PHOTOS}
    headers = {run: {"recipe": plan(recipe, *run).to_dict(), "data": of_data, "protocol": protocol} for run in wanted}
    done, older = results(out, headers)
    left = [*(run for run in wanted if run not in done), *(run for run in wanted if run in older)]
    print(f"{len(wanted) - len(left)} of {len(wanted)} runs are done.")
    if not left:
        return
    if not others:
        print(f"{extra} has no photos of other kinds: they are left out.")
    validation = load_examples(data, ids["val"], tree)
    domains = {name: load_domain(extra / name, own, tree) for name, own in others.items()}
    photos = load(recipe, data)
    training = photos.annotated[:THRESHOLD_PHOTOS]
    failed = []
    for row, seed in left:
        name = f"{row}-{seed}"
        print(f"{name}:", flush=True)
        try:
            fit(plan(recipe, row, seed), photos, runs / name)
        except TrainingError as error:
            print(f"error: {error}", flush=True)
            failed.append(name)
            continue
        predictor = Predictor(runs / name / WEIGHTS, "cpu").using(mirror=False, zoom=None)
        thresholds = choose_thresholds(predictor, training)
        certainty = choose_certainty(predictor, training, thresholds["path"])
        table, bins = measure(predictor, validation, thresholds, certainty)
        of_domains = {
            f"{domain}:{key}": values
            for domain, examples in domains.items()
            for key, values in measure_domain(predictor, examples, thresholds["path"]).items()
        }
        table = {**table, **of_domains}
        found = {
            **headers[row, seed],
            "thresholds": thresholds,
            "certainty": certainty,
            "domains": {domain: split_hash(own) for domain, own in others.items()},
            **summary(table, bins, tree),
        }
        write_table(out / f"{name}.npz", table)
        # Last, as it says that the run is done.
        checkpoint.write_atomically(out / f"{name}.json", (json.dumps(found, indent=1) + "\n").encode())
    if failed:
        raise SweepError(f"{', '.join(failed)} could not be trained; the reasons stand above.")


def results(out: Path, headers: Mapping[Run, Mapping[str, Any]]) -> tuple[set[Run], set[Run]]:
    """Return which runs have a result, and which of these lack the measures that came later.

    Args:
        out: Folder of the results.
        headers: For each run what its result is to say of recipe, data and protocol; {} where it may say anything.

    Raises:
        SweepError: A result is damaged, or was made otherwise.
    """
    found = {run: _result(out / "{}-{}".format(*run), header) for run, header in headers.items()}
    done = {run: result for run, result in found.items() if result is not None}
    return set(done), {run for run, result in done.items() if "certainty" not in result}


def domain_ids(folder: Path) -> list[str]:
    """Return which photos of a data folder are measured: its validation list, or a tenth of its training list.

    The runs of this study were trained on none of them. Which tenth follows from the ids alone.
    """
    if (folder / "val_id.txt").is_file():
        return read_ids(folder, "val")
    if not (folder / "train_id.txt").is_file():
        return []
    return [name for name in read_ids(folder, "train") if hashlib.sha256(name.encode()).digest()[0] % 10 == 0]


def load_domain(folder: Path, ids: Sequence[str], tree: Hierarchy) -> list[Example]:
    """Open photos of a data folder; one without masks shows nobody."""
    return load_examples(folder, ids, tree, masks=(folder / "gt_masks").is_dir())


def summary(table: Counts, bins: Values, tree: Hierarchy) -> dict[str, Any]:
    """Return the figures of a run as plain values, ready for JSON: None where there was nothing to measure.

    Args:
        table: Counts of each photo.
        bins: Pixels by confidence, of the decoding "path", see `hierseg.metrics.count_confidence`.
        tree: The tree.

    Returns:
        `figures`: see `statistics.figures`; `calibration_error` by level, over all pixels and those called person, and
        `reliability`: for each level and each bin of confidence pixels, mean confidence and share of right pixels.
    """
    reliability = {}
    for level, of_level in zip(tree.levels, bins.sum(axis=1), strict=True):
        reliability[level] = [
            [int(pixels), _rounded(confidence / pixels), _rounded(right / pixels)] if pixels else [0, None, None]
            for pixels, confidence, right in of_level.tolist()
        ]
    return {
        "figures": {key: _rounded(float(value[0])) for key, value in figures(table, tree).items()},
        "calibration_error": {
            kind: {level: _rounded(value) for level, value in levels.items()}
            for kind, levels in metrics.calibration_error(bins, tree).items()
        },
        "reliability": reliability,
    }


def measure(
    predictor: Predictor, examples: Iterable[Example], thresholds: Mapping[str, float], certainty: float
) -> tuple[Counts, Values]:
    """Run a checkpoint on each photo and count what every decoding makes of it, at the photo's own resolution.

    Args:
        predictor: The checkpoint.
        examples: Annotated photos.
        thresholds: Of each decoding.
        certainty: Of answers that stop where parts are unsure, one of `train.risk.CERTAINTIES`.

    Returns:
        A table, see `statistics.figures`, with the `train.risk.outcome` of each photo; and pixels by confidence, see
        `metrics.count_confidence`, of the decoding "path", whose thresholded masks are one path a pixel.
    """
    tree, photos, bins = predictor.card.hierarchy, [], []
    predictor = predictor.using(threshold=thresholds["path"])
    number = np.searchsorted(CERTAINTIES, np.float32(certainty))
    for example in tqdm(examples, unit="photo", mininterval=5):
        prediction = predictor.predict(example.photo)
        scores = prediction.scores
        masks = {name: DECODINGS[name](scores, tree) > threshold for name, threshold in thresholds.items()}
        wrong, stops = (shares[..., number] for shares in outcome(prediction, example.label_map))
        hedged = {"hedged/wrong": np.array(wrong, np.float32), "hedged/stops": stops.astype(np.float32)}
        photos.append({**counts_of(scores, masks, example.label_map, tree), **hedged})
        labels = np.full(example.label_map.shape, tree.background, np.uint8)
        for label, mask in zip(tree.labels, masks["path"], strict=True):  # the deepest node comes last
            labels[mask] = label
        bins.append(metrics.count_confidence(scores, labels, example.label_map, tree))
    return metrics.stack(photos), np.sum(bins, axis=0)


def counts_of(scores: Scores, masks: Mapping[str, BoolMask], truth: UInt8Map, tree: Hierarchy) -> Counts:
    """Count all that the figures need of one photo.

    Args:
        scores: Node scores, float32 (N, H, W).
        masks: What each decoding, by its name, made of them: one mask a node, bool (N, H, W).
        truth: Labels, uint8 (H, W); may hold void.
        tree: The tree.

    Returns:
        The counts of `hierseg.metrics`, also of the scores rounded at 0.5, as the decoding "predecessor"; of each
        decoding `right`, uint32: pixels whose nodes are all right; `person`, uint32: pixels that "path" gives to a
        person or whose rounded scores break the tree; and `squared_error`, float32 (L,): of a score to 0 or 1, mean
        over the level's nodes (Brier, 1950), summed over pixels.
    """
    target, known = np.ascontiguousarray(tree.node_masks(truth)), np.ascontiguousarray(tree.known_masks(truth))
    rounded, valid = decode_rounding(scores, tree), tree.valid_mask(truth)
    decoded = {"predecessor": rounded, **masks}
    right = {name: np.count_nonzero(valid & ~((each ^ target) & known).any(axis=0)) for name, each in decoded.items()}
    differences = zip(scores - target, known, strict=True)
    errors = np.array([(difference[counted] ** 2).sum() for difference, counted in differences], np.float64)
    return {
        **metrics.count(decoded, truth, tree, boundaries=masks),
        **{f"{name}/right": np.array(pixels, np.uint32) for name, pixels in right.items()},
        "broken": metrics.count_broken(rounded, tree),
        "person": np.array(np.count_nonzero(masks["path"].any(axis=0) | violations(rounded, tree)), np.uint32),
        "squared_error": np.array([errors[list(nodes)].mean() for nodes in tree.levels.values()], np.float32),
    }


def measure_domain(predictor: Predictor, examples: Iterable[Example], threshold: float) -> Counts:
    """Count what the decoding "path" makes of photos of another kind, see `hierseg.metrics.count`."""
    tree = predictor.card.hierarchy
    predictions = ((predictor.predict(example.photo).scores, example.label_map) for example in examples)
    return metrics.stack(
        [
            metrics.count({"path": path_strengths(scores, tree) > threshold}, truth, tree)
            for scores, truth in tqdm(predictions, unit="photo", mininterval=5)
        ]
    )


def choose_certainty(predictor: Predictor, examples: Iterable[Example], threshold: float) -> float:
    """Return the lowest certainty that keeps `RISK` by the rule of `train.risk`; 1 where none does.

    Args:
        predictor: The checkpoint.
        examples: Annotated photos, of the training list: the risk found on others may be higher.
        threshold: Of the decoding.
    """
    losses, _ = outcomes(predictor.using(threshold=threshold), examples)
    number = least(losses, RISK)
    return 1.0 if number is None else number / 100


def choose_thresholds(predictor: Predictor, examples: Iterable[Example]) -> dict[str, float]:
    """Return for each decoding which of `THRESHOLDS` has the highest data-set IoU, mean over levels.

    Args:
        predictor: The checkpoint.
        examples: Annotated photos, of the training list: thresholds chosen on those reported would flatter the report.

    Returns:
        The thresholds; 0.5 for the decodings that have no choice.
    """
    tree, photos = predictor.card.hierarchy, []
    for example in tqdm(examples, unit="photo", mininterval=5):
        scores = predictor.predict(example.photo).scores
        strengths = {name: DECODINGS[name](scores, tree) for name in CHOSEN}
        masks = {f"{name} {least}": strengths[name] > least for name in CHOSEN for least in THRESHOLDS}
        photos.append(metrics.count(masks, example.label_map, tree))
    sums = metrics.total(metrics.stack(photos))
    means = {key: np.mean([*metrics.level_means(metrics.iou(sums, key), tree).values()]) for key in masks}
    return {
        name: max(THRESHOLDS, key=lambda least: means[f"{name} {least}"]) if name in CHOSEN else 0.5
        for name in DECODINGS
    }


def node_strengths(scores: Scores, hierarchy: Hierarchy) -> Scores:
    """Cut each node by itself. It can break the tree."""
    return scores


def path_strengths(scores: Scores, hierarchy: Hierarchy) -> Scores:
    """Give the nodes of each pixel's best path its mean score, and all others none, as `decoding.decode` does."""
    best = best_paths(scores, hierarchy)
    return _along(best.leaves, hierarchy) * best.confidence


def flat_strengths(scores: Scores, hierarchy: Hierarchy) -> Scores:
    """Give each pixel the leaf of highest score, or background, whose score is what the best root leaves of 1."""
    leaves = np.array(hierarchy.leaves, np.uint8)
    of_leaves = scores[leaves]
    somebody = of_leaves.max(axis=0) > 1 - scores[list(hierarchy.roots)].max(axis=0)
    strengths: Scores = _along(leaves[of_leaves.argmax(axis=0)], hierarchy) * somebody
    return strengths


Decoding = Callable[[Scores, Hierarchy], Scores]
# Node scores to strengths, both float32 (N, H, W); a node is on where its strength is above the decoding's threshold.
DECODINGS: dict[str, Decoding] = {
    "nodes": node_strengths,
    "path": path_strengths,
    "flat": flat_strengths,
}
CHOSEN = ("nodes", "path")  # those that have a threshold to choose


def _along(nodes: Any, hierarchy: Hierarchy) -> Scores:
    """Return 1 on each pixel's node and all above it, else 0: float32 (N, H, W) of node indices (H, W)."""
    table = np.zeros((len(hierarchy), 256), np.uint8)
    table[:, : len(hierarchy)] = hierarchy.ancestors.T
    return np.stack([cv2.LUT(nodes, row) for row in table]).astype(np.float32)


def _result(stem: Path, header: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a run's result, or None where it has none; one that was made otherwise is an error.

    Recipes are compared as they are read today, so results outlive a new key that has its default.
    """
    path = Path(f"{stem}.json")
    if not path.is_file() or not Path(f"{stem}.npz").is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found["recipe"] = Recipe.from_dict(found["recipe"], str(path)).to_dict()
        other = [
            f"{part}.{key}"
            for part in header
            for key in header[part] | found[part]
            if found[part].get(key) != header[part].get(key)
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecipeError) as error:
        raise SweepError(f"{path} is damaged ({error}). Delete it to have that run measured again.") from error
    if other:
        raise SweepError(
            f"{path} was made with another {', '.join(other)}. Delete it and its run to make them again, or choose "
            "another --out and --runs."
        )
    return found


def _rounded(value: float) -> float | None:
    """Six digits are more than any figure is sure of; JSON has no nan."""
    return None if np.isnan(value) else round(value, 6)
