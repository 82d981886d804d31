"""The notebooks run from top to bottom on a tiny data set, and make and show what they say."""

from __future__ import annotations

import base64
import dataclasses
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from hierseg.metrics import Evaluation
from hierseg.network import checkpoint
from hierseg.photo import open_photo
from hierseg.predictor import Predictor
from hierseg.tree import Hierarchy
from hierseg.visualize import readable
from tests import HANGS, REPOSITORY
from tests.data import write_dataset, write_example, write_ids
from tests.rounding import assert_figures
from train import report
from train.dataset import load_examples, read_ids

FOLDER = REPOSITORY / "notebooks"
NOTEBOOKS = ("training", "comparison")
LOSSES = {"bce": "bce", "ftm": "focal_tree_min"}


@dataclasses.dataclass(frozen=True)
class Shown:
    """The outputs of a notebook that has run, by cell id."""

    text: dict[str, str]
    pictures: dict[str, Image.Image]


def read(name: str) -> NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def run(client: NotebookClient, name: str, parameters: str = "") -> Shown:
    """Run a notebook with other parameters, in a kernel that has forgotten what ran before; a failing cell raises."""
    notebook = read(name)
    (place,) = (number for number, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(parameters))
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    client.nb = notebook
    for number, cell in enumerate(notebook.cells):
        client.execute_cell(cell, number)
    shown = Shown({}, {})
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            content = output.get("data", {})
            if "image/png" in content:
                shown.pictures[cell.id] = Image.open(io.BytesIO(base64.b64decode(content["image/png"])))
            said = output.get("text") or content.get("text/markdown") or content.get("text/html") or ""
            shown.text[cell.id] = shown.text.get(cell.id, "") + said
    return shown


def assert_drawn(shown: Shown, cells: set[str]) -> None:
    """Check which cells show a picture, and that none is of one colour."""
    assert set(shown.pictures) == cells
    for cell, picture in shown.pictures.items():
        assert len(picture.convert("RGB").getcolors(picture.width * picture.height) or ()) > 10, cell


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny set with one real photo: the published networks see no people in drawings."""
    folder = write_dataset(tmp_path_factory.mktemp("data"), train=4, val=2)
    photo = open_photo(REPOSITORY / "examples" / "astronaut.jpg")
    write_example(folder, "astronaut", photo, Predictor("bce").predict(photo).labels)
    write_ids(folder, "val", [*read_ids(folder, "val"), "astronaut"])
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the training notebook writes to."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[NotebookClient]:
    """A kernel in the notebooks' folder: one for all, as each takes seconds to import what it needs."""
    environment = {
        **os.environ,
        "HIERSEG_DATA": str(data),
        "IPYTHONDIR": str(tmp_path_factory.mktemp("ipython")),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    client = NotebookClient(nbformat.v4.new_notebook(), startup_timeout=HANGS, iopub_timeout=HANGS)
    with client.setup_kernel(cwd=str(FOLDER), env=environment):
        yield client


@pytest.fixture(scope="module")
def training(kernel: NotebookClient, runs: Path) -> Shown:
    """The training notebook, run."""
    return run(kernel, "training", f"RUNS = ROOT / {str(runs)!r}\nEPOCHS, CROP, BATCH, PHOTOS = 2, 32, 2, 2")


@pytest.fixture(scope="module")
def comparison(kernel: NotebookClient) -> Shown:
    """The comparison notebook, run with data."""
    return run(kernel, "comparison")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_stored_without_what_a_run_adds(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None), cell.id
    stored = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert stored == nbformat.writes(notebook) + "\n"  # whatever writes it next changes no other line


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_badge_opens_the_notebook_in_the_repository_that_is_cloned(name: str) -> None:
    title, clone, *_ = read(name).cells
    found = re.search(r"\(https://colab\.research\.google\.com/github/([\w-]+/[\w-]+)/blob/main/(\S+)\)", title.source)
    assert found
    assert REPOSITORY / found[2] == FOLDER / f"{name}.ipynb"
    assert f'"https://github.com/{found[1]}"' in clone.source


@pytest.mark.parametrize("name", NOTEBOOKS)
@pytest.mark.parametrize("colab", [True, False])
def test_the_first_cell_installs_in_colab_and_nowhere_else(
    name: str, colab: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", MagicMock())
    shell = MagicMock()
    exec(TransformerManager().transform_cell(read(name).cells[1].source), {"get_ipython": lambda: shell})
    commands = [" ".join(call.args) for call in shell.method_calls]
    assert [command.split()[0] for command in commands] == (["git", "cd", "pip"] if colab else [])
    for file in re.findall(r"-r (\S+)", " ".join(commands)):
        assert (REPOSITORY / file).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_the_training_notebook_leaves_a_checkpoint_for_the_page(
    name: str, training: Shown, data: Path, runs: Path
) -> None:
    predictor = Predictor(runs / f"notebook-{name}.safetensors")
    record = predictor.card.record
    assert predictor.card.title.endswith(", 2 epochs")
    assert (record["loss"], record["recipe"]["epochs"], record["figures"]["photos"]) == (LOSSES[name], 2, 2)
    assert predictor.predict(data / "JPEGImages" / "val_1.jpg").at_level("parts").shape == (64, 96)


@pytest.mark.slow
def test_the_training_notebook_shows_the_figures_that_its_checkpoints_keep(training: Shown, runs: Path) -> None:
    kept = {name: checkpoint.read_card(runs / f"notebook-{name}.safetensors").record["figures"] for name in LOSSES}
    for table in (report.levels, report.nodes, report.tree):
        assert table(kept) in training.text["measure"]


@pytest.mark.slow
def test_the_comparison_notebook_measures_as_the_library_does(comparison: Shown, data: Path, tree: Hierarchy) -> None:
    figures = {}
    for name in LOSSES:
        predictor, evaluation = Predictor(name), Evaluation(tree)
        for example in load_examples(data, read_ids(data, "val"), tree):
            prediction = predictor.predict(example.photo)
            evaluation.add(prediction.scores, prediction.labels, example.label_map)
        figures[name] = evaluation.summary()
    assert figures["bce"]["dataset_iou"] != figures["ftm"]["dataset_iou"]  # else the tables would not tell them apart
    for make in (report.levels, report.nodes, report.tree):
        expected = make(figures).splitlines()
        shown = comparison.text["tables"].splitlines()
        first = shown.index(expected[0])
        assert_figures("\n".join(shown[first : first + len(expected)]), "\n".join(expected))


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_the_comparison_notebook_reads_a_pixel_out_from_root_to_leaf(
    name: str, comparison: Shown, tree: Hierarchy
) -> None:
    found = re.search(rf"^{name}: (.*)$", comparison.text["pixel"], re.MULTILINE)
    assert found
    steps = [step.rsplit(" ", 1) for step in found[1].split(" > ")]
    assert [node for node, _ in steps] in [[readable(tree.nodes[node]) for node in path] for path in tree.paths]
    assert all(0 <= float(score) <= 1 for _, score in steps)


@pytest.mark.slow
def test_the_comparison_notebook_says_that_there_are_no_data_and_goes_on(
    kernel: NotebookClient, tmp_path: Path
) -> None:
    shown = run(kernel, "comparison", f"DATA = ROOT / {str(tmp_path / 'nothing')!r}")
    assert f"There are no annotated photos in {tmp_path / 'nothing'}" in shown.text["measure"]
    assert_drawn(shown, {"levels", "differences", "threshold"})
    assert not shown.text["tables"]


@pytest.mark.slow
def test_every_figure_is_drawn_and_no_warning_shown(training: Shown, comparison: Shown) -> None:
    assert_drawn(training, {"losses", "crops", "curves", "save"})
    assert_drawn(comparison, {"levels", "differences", "threshold", "photos", "thresholds", "extreme"})
    for shown in (training, comparison):
        for cell, text in shown.text.items():
            assert "Warning" not in text.replace("TqdmWarning: IProgress", ""), cell  # without ipywidgets bars are text
