"""Train and measure the runs of the loss comparison.

Runs share one recipe; they differ in what their rows change, see `rows`, and in the seed. Each is measured with the
average of weights after its last epoch, one pass per photo, at a decoding threshold chosen on training photos; also on
other photos, on which none was trained. The results folder gets two files per run: ROW-SEED.json with its figures, and
ROW-SEED.npz with counts of each photo, from which `statistics` computes the figures and their intervals. Neither names
a photo, a folder of this machine or a time.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from hierseg import files, metrics
from hierseg.decoding import Scores, decode_rounding
from hierseg.errors import UserError
from hierseg.metrics import Counts, Values
from hierseg.predictor import Predictor
from hierseg.tree import Hierarchy, UInt8Map
from studies.losses.rows import plan
from studies.losses.statistics import figures, write_table
from studies.losses.steps import Run, within
from train.calibrate import best_threshold
from train.dataset import Example, load_examples, read_ids, split_hash
from train.fit import fit, load
from train.recipe import Recipe, RecipeError
from train.risk import CERTAINTIES, least, outcome, outcomes
from train.run_folder import WEIGHTS, TrainingError

THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
THRESHOLD_PHOTOS = 120  # of the training list, its first
RISK = 0.2  # share of the pixels called a person that may have a wrong name, see `train.risk`


class SweepError(UserError):
    """A run failed, or a result does not fit. The message names it and says what to do."""


def sweep(
    recipe: Recipe, wanted: Sequence[Run], data: Path, extra: Path, runs: Path, out: Path, limit: float = math.inf
) -> None:
    """Train and measure the runs without a result, then those whose result lacks a measure; a stopped run resumes.

    Args:
        recipe: What all runs share.
        wanted: Rows of `rows.ROWS` with seeds, in the order in which to run them.
        data: The data folder.
        extra: Folder of data folders with other photos; may be missing.
        runs: Folder of the runs' own folders.
        out: Folder of the results.
        limit: How many minutes these runs may take together, by `steps.minutes`: only the first of them are run.

    Raises:
        SweepError: A result has another recipe or other photos; or a run could not be trained, which is raised after
            all others are done.
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
    left = within(left, limit)
    if not left:
        return
    if not others:
        print(f"{extra} has no other photos: the results will lack them.")
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
        threshold = choose_threshold(predictor, training)
        predictor = predictor.using(threshold=threshold)
        certainty = choose_certainty(predictor, training)
        table, bins = measure(predictor, validation, certainty)
        of_domains = {
            f"{domain}:{key}": values
            for domain, examples in domains.items()
            for key, values in measure_domain(predictor, examples).items()
        }
        table = {**table, **of_domains}
        found = {
            **headers[row, seed],
            "threshold": threshold,
            "certainty": certainty,
            "domains": {domain: split_hash(own) for domain, own in others.items()},
            **summary(table, bins, tree),
        }
        write_table(out / f"{name}.npz", table)
        # Last: with it the run counts as done.
        files.write_atomically(out / f"{name}.json", (json.dumps(found, indent=1) + "\n").encode())
    if failed:
        raise SweepError(f"{', '.join(failed)} could not be trained; the reasons are above.")


def results(out: Path, headers: Mapping[Run, Mapping[str, Any]]) -> tuple[set[Run], set[Run]]:
    """Return the runs that have a result, and those of them whose result lacks the newer measures.

    Args:
        out: Folder of the results.
        headers: The recipe, data and protocol that each run's result must have; {} accepts any.

    Raises:
        SweepError: A result is damaged, or was made otherwise.
    """
    found = {run: _result(out / "{}-{}".format(*run), header) for run, header in headers.items()}
    done = {run: result for run, result in found.items() if result is not None}
    return set(done), {run for run, result in done.items() if "certainty" not in result}


def domain_ids(folder: Path) -> list[str]:
    """Return the ids to measure: the validation list, or a tenth of the training list, chosen by a hash of the ids.

    No run of this study was trained on them.
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
    """Return the figures of a run, ready for JSON: None where there was nothing to measure.

    Args:
        table: Counts of each photo.
        bins: Pixels by confidence, see `hierseg.metrics.count_confidence`.
        tree: The tree.

    Returns:
        `figures`: see `statistics.figures`; `calibration_error` by level, over all pixels and those called a person;
        `reliability`: for each level and bin of confidence: pixels, mean confidence and share that is right.
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


def measure(predictor: Predictor, examples: Iterable[Example], certainty: float) -> tuple[Counts, Values]:
    """Run a checkpoint on each photo and count, at the photo's own resolution.

    Args:
        predictor: The checkpoint, with its decoding threshold.
        examples: Annotated photos.
        certainty: Of answers that stop where parts are unsure, one of `train.risk.CERTAINTIES`.

    Returns:
        A table, see `statistics.figures`, and pixels by confidence, see `hierseg.metrics.count_confidence`.
    """
    tree, photos, bins = predictor.card.hierarchy, [], []
    number = np.searchsorted(CERTAINTIES, np.float32(certainty))
    for example in tqdm(examples, unit="photo", mininterval=5):
        prediction = predictor.predict(example.photo)
        scores, labels = prediction.scores, prediction.decoded().labels
        wrong, stops = (shares[..., number] for shares in outcome(prediction, example.label_map))
        hedged = {"hedged/wrong": np.array(wrong, np.float32), "hedged/stops": stops.astype(np.float32)}
        photos.append({**counts_of(scores, labels, example.label_map, tree), **hedged})
        bins.append(metrics.count_confidence(scores, labels, example.label_map, tree))
    return metrics.stack(photos), np.sum(bins, axis=0)


def counts_of(scores: Scores, labels: UInt8Map, truth: UInt8Map, tree: Hierarchy) -> Counts:
    """Count all that the figures need of one photo.

    Args:
        scores: Node scores, float32 (N, H, W).
        labels: What was decoded from them, uint8 (H, W).
        truth: Labels, uint8 (H, W); may hold void.
        tree: The tree.

    Returns:
        The counts of `hierseg.metrics.count` for the decoding "path", with boundaries, `broken` and `person`; and
        `squared_error`, float32 (L,): squared distance of a score to 0 or 1 (Brier, 1950), mean over the level's nodes,
        summed over pixels.
    """
    target, known, rounded = tree.node_masks(truth), tree.known_masks(truth), decode_rounding(scores, tree)
    differences = zip(scores - target, known, strict=True)
    errors = np.array([(difference[counted] ** 2).sum() for difference, counted in differences], np.float64)
    return {
        **metrics.count({"path": labels}, truth, tree, boundaries=["path"]),
        "broken": metrics.count_broken(rounded, tree),
        "person": metrics.count_person(labels, rounded, tree),
        "squared_error": np.array([errors[list(nodes)].mean() for nodes in tree.levels.values()], np.float32),
    }


def measure_domain(predictor: Predictor, examples: Iterable[Example]) -> Counts:
    """Count other photos, see `hierseg.metrics.count`."""
    tree = predictor.card.hierarchy
    return metrics.stack(
        [
            metrics.count({"path": predictor.predict(example.photo).decoded().labels}, example.label_map, tree)
            for example in tqdm(examples, unit="photo", mininterval=5)
        ]
    )


def choose_certainty(predictor: Predictor, examples: Iterable[Example]) -> float:
    """Return the least certainty that keeps `RISK`, see `train.risk.least`; 1 if none does.

    Args:
        predictor: The checkpoint, with its decoding threshold.
        examples: Annotated training photos: the risk on other photos may be higher.
    """
    losses, _ = outcomes(predictor, examples)
    number = least(losses, RISK)
    return 1.0 if number is None else number / 100


def choose_threshold(predictor: Predictor, examples: Iterable[Example]) -> float:
    """Return the threshold, of `THRESHOLDS`, with the highest data-set IoU, mean over levels.

    Args:
        predictor: The checkpoint.
        examples: Annotated training photos: a threshold chosen on the reported photos would flatter the report.
    """
    tree, photos = predictor.card.hierarchy, []
    for example in tqdm(examples, unit="photo", mininterval=5):
        prediction = predictor.predict(example.photo)
        decoded = {str(threshold): prediction.decoded(threshold).labels for threshold in THRESHOLDS}
        photos.append(metrics.count(decoded, example.label_map, tree))
    return best_threshold(photos, THRESHOLDS, tree)


def _result(stem: Path, header: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a run's result, or None if it has none.

    Recipes are compared after reading, so that a new key with a default leaves old results valid.
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
