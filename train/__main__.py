"""The command line of training: `python -m train prepare | fit | evaluate | calibrate | risk | export | report`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from hierseg import files
from hierseg.cli import at_least_1
from hierseg.errors import UserError
from hierseg.network import checkpoint
from train.arguments import add_data, run
from train.prepare.cli import add_sources
from train.report import ReportError, fill, tables

# PyTorch takes seconds to import, so each subcommand imports what it needs when it runs.


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand and return the exit status."""
    return run(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    fit = commands.add_parser("fit", help="train a checkpoint from a recipe, or resume a stopped run")
    fit.add_argument("recipe", type=Path, help="a YAML file, for instance train/configs/bce.yaml")
    add_data(fit)
    fit.add_argument("--run", type=Path, dest="folder", help="the run's folder (default: runs/RECIPE)")
    fit.add_argument("--fresh", action="store_true", help="delete the run in the folder and start again")
    fit.add_argument("--stop-after", type=at_least_1, metavar="STEP", help="save the state and stop after this step")
    fit.add_argument(
        "--workers", type=at_least_1, default=1, help="processes that prepare crops; a GPU may want more (default: 1)"
    )
    fit.set_defaults(run=_fit)

    evaluate = commands.add_parser("evaluate", help="measure checkpoints on annotated photos")
    evaluate.add_argument("checkpoints", nargs="+", help="files, or names such as bce")
    add_data(evaluate)
    evaluate.add_argument("--nobody", type=Path, metavar="FOLDER", help="count false people on its validation list")
    evaluate.add_argument("--photos", type=at_least_1, help="only this many photos, from the first")
    evaluate.add_argument("--input-size", type=at_least_1, help="longest side of the network's input in pixels")
    evaluate.add_argument("--no-mirror", action="store_true", help="without the pass over the mirror image")
    evaluate.add_argument("--no-zoom", action="store_true", help="without the passes over windows around small people")
    evaluate.add_argument("--json", type=Path, help="also write the figures to this file")
    evaluate.add_argument("--record", action="store_true", help="write the figures into the checkpoint's metadata")
    evaluate.set_defaults(run=_evaluate)

    calibrate = commands.add_parser("calibrate", help="choose threshold and calibration again, on training photos")
    calibrate.add_argument("checkpoints", nargs="+", help="files, or names such as bce; changed in place")
    add_data(calibrate)
    calibrate.add_argument(
        "--photos", type=at_least_1, default=200, help="how many, from the first (default: %(default)s)"
    )
    calibrate.add_argument("--nobody", type=Path, metavar="FOLDER", help="as many photos of its training list as well")
    calibrate.set_defaults(run=_calibrate)

    risk = commands.add_parser("risk", help="find the risks that can be promised, on validation photos")
    risk.add_argument("checkpoints", nargs="+", help="files, or names such as bce; changed in place")
    add_data(risk)
    risk.add_argument("--photos", type=at_least_1, default=200, help="to choose certainties on (default: %(default)s)")
    risk.add_argument("--held-out", type=at_least_1, help="how many others to measure on (default: all)")
    risk.set_defaults(run=_risk)

    export = commands.add_parser("export", help="write an ONNX file beside a checkpoint, which runs faster")
    export.add_argument("checkpoints", nargs="+", help="files, or names such as bce")
    export.set_defaults(run=_export)

    prepare = commands.add_parser("prepare", help="make a data folder from a published data set")
    add_sources(prepare)

    report = commands.add_parser("report", help="fill tables into Markdown files")
    report.add_argument("texts", type=Path, nargs="+", metavar="TEXT", help="with marks, for instance README.md")
    figures = Path("checkpoints/evaluation.json")
    report.add_argument("--figures", type=Path, default=figures, help="figures from evaluate --json")
    report.set_defaults(run=_fill)
    return parser


def _fit(options: argparse.Namespace) -> None:
    from train.fit import fit_stages
    from train.recipe import Recipe

    recipes = Recipe.stages_from_yaml(options.recipe)
    folder = options.folder or Path("runs") / options.recipe.stem
    print(fit_stages(recipes, options.data, folder, options.fresh, options.stop_after, options.workers))


def _evaluate(options: argparse.Namespace) -> None:
    from hierseg.predictor import Predictor
    from train.dataset import load_examples, read_ids, split_hash
    from train.evaluate import evaluate, false_people, squares_beside_people, table

    figures = {}
    for name in options.checkpoints:
        path = checkpoint.find(name)
        own = Predictor(path, "cpu")  # PyTorch is the reference
        predictor = own.using(
            input_size=options.input_size or own.inference.input_size,
            mirror=own.inference.mirror and not options.no_mirror,
            zoom=None if options.no_zoom else own.inference.zoom,
        )
        card = predictor.card
        ids = read_ids(options.data, "val")[: options.photos]
        examples = load_examples(options.data, ids, card.hierarchy)
        summary = evaluate(predictor, examples).summary()
        squares = squares_beside_people(examples, card.hierarchy.background)
        summary["nobody"] = false_people(predictor, squares)
        if options.nobody:
            empty = load_examples(options.nobody, read_ids(options.nobody, "val"), card.hierarchy, masks=False)
            summary["empty_photos"] = false_people(predictor, (example.photo for example in empty))
        summary["protocol"] = {
            "split": "val",
            "ids_sha256": split_hash(ids),
            "resolution": "photo",
            **dataclasses.asdict(predictor.inference),
            "input_size": predictor.input_size,
        }
        promised = {"risk": dataclasses.asdict(card.risk)} if card.risk else {}  # from its card, not measured here
        figures[name] = {**summary, **promised}  # by the name given: all runs have a last.safetensors
        print(f"{table(f'{card.title} ({path.name})', figures[name])}\n")
        if options.record:
            checkpoint.write_card(path, checkpoint.with_record(card, figures=summary))
    if options.json:
        files.write_atomically(options.json, (json.dumps(figures, indent=1) + "\n").encode())


def _calibrate(options: argparse.Namespace) -> None:
    from hierseg.predictor import Predictor
    from train.calibrate import calibrate
    from train.dataset import load_examples, read_ids

    for name in options.checkpoints:
        path = checkpoint.find(name)
        predictor = Predictor(path, "cpu")
        tree = predictor.card.hierarchy
        ids = read_ids(options.data, "train")[: options.photos]
        examples = load_examples(options.data, ids, tree)
        if options.nobody:
            empty = read_ids(options.nobody, "train")[: options.photos]
            examples += load_examples(options.nobody, empty, tree, masks=False)
        card = calibrate(predictor, examples)
        checkpoint.write_card(path, card)
        lines = zip(card.hierarchy.nodes, card.calibration or (), strict=True)
        fitted = ", ".join(f"{node} {slope:.2f} {intercept:+.2f}" for node, (slope, intercept) in lines)
        threshold = card.inference.threshold
        print(f"{card.title}, {len(examples)} training photos: threshold {threshold}; slope, intercept: {fitted}")


def _risk(options: argparse.Namespace) -> None:
    from hierseg.predictor import Predictor
    from train.dataset import load_examples, read_ids
    from train.report import risks
    from train.risk import control_risk, split

    chosen, others = split(read_ids(options.data, "val"), options.photos)
    if not others:
        raise UserError(
            f"All {len(chosen)} photos of the list would be used to choose, and none would be left to measure on."
        )
    for name in options.checkpoints:
        path = checkpoint.find(name)
        predictor = Predictor(path, "cpu")
        tree = predictor.card.hierarchy
        examples = (load_examples(options.data, ids, tree) for ids in (chosen, others[: options.held_out]))
        card = control_risk(predictor, *examples)
        checkpoint.write_card(path, card)
        if card.risk:
            print(f"{card.risk.photos} photos to choose, {card.risk.held_out} others to measure\n")
            print(f"{risks({card.title: {'risk': dataclasses.asdict(card.risk)}})}\n")


def _fill(options: argparse.Namespace) -> None:
    try:
        figures = json.loads(options.figures.read_text(encoding="utf-8"))
        texts = {path: path.read_text(encoding="utf-8") for path in options.texts}
    except (OSError, ValueError) as error:
        raise ReportError(f"A text or its figures cannot be read: {error}") from error
    found = tables(figures)
    filled = {path: fill(text, found) for path, text in texts.items()}  # all or none
    for path, text in filled.items():
        files.write_atomically(path, text.encode())


def _export(options: argparse.Namespace) -> None:
    from train.export import export

    for name in options.checkpoints:
        print(export(checkpoint.find(name)))


if __name__ == "__main__":
    sys.exit(main())
