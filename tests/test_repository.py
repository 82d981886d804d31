"""The README and the project's files against the repository."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest
import yaml

import hierseg
from tests import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def _pins(name: str) -> dict[str, str]:
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def _front_matter() -> dict[str, object]:
    _, block, _ = README.split("---\n", 2)
    return dict(yaml.safe_load(block))


def test_every_requirement_is_pinned() -> None:
    for path in REPOSITORY.glob("requirements*.txt"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not line or line.startswith(("#", "-r ")) or re.fullmatch(r"[\w.-]+==[\w.]+", line), line


def test_a_space_installs_the_same_torch_before_as_after() -> None:
    before = _pins("pre-requirements.txt")
    assert before == {name: _pins("requirements.txt")[name] for name in ("torch", "torchvision")}


def test_space_front_matter_fits_the_pins_and_files() -> None:
    front = _front_matter()
    assert front["sdk"] == "gradio"
    assert front["sdk_version"] == _pins("requirements.txt")["gradio"]
    assert (REPOSITORY / str(front["app_file"])).is_file()
    assert front["license"] == "apache-2.0"
    assert len(str(front["short_description"])) <= 60


def test_readme_commands_are_make_targets() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"^    make (\w+)", README, re.MULTILINE))
    assert {"demo", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "checkpoints/README.md",
    "docs/archive.md",
    "docs/how-it-works.md",
    "docs/train.md",
    "docs/use.md",
    "examples/README.md",
    "studies/losses/README.md",
    "studies/losses/report/losses.md",
    "train/EXPERIMENTS.md",
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_documents_link_to_are_there(document: str) -> None:
    path = REPOSITORY / document
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_that_documents_name_are_there(document: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    for module, command in set(re.findall(r"python -m (train|studies\.\w+) ([\w-]+)", text)):
        main = importlib.import_module(f"{module}.__main__").main
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0, (module, command)


def _imports(folder: str) -> dict[Path, set[str]]:
    found: dict[Path, set[str]] = {}
    for path in (REPOSITORY / folder).rglob("*.py"):
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
        found[path.relative_to(REPOSITORY)] = names
    return found


def test_arrows_point_one_way() -> None:
    for path, names in _imports("hierseg").items():
        tops = {name.split(".")[0] for name in names}
        assert not tops & {"train", "studies"}, path
        assert "albumentations" not in tops, path
        assert "archive" in path.parts or not tops & {"ray", "pyarrow", "pycocotools"}, path
        if "page" not in path.parts:
            assert "gradio" not in tops, path
            assert not any(name.startswith("hierseg.page") for name in names), path
    for path, names in _imports("train").items():
        assert not any(name.startswith(("hierseg.page", "gradio", "studies")) for name in names), path
    for path, names in _imports("studies").items():
        assert not any(name.startswith(("hierseg.page", "gradio")) for name in names), path


def test_no_module_but_the_tree_file_knows_a_part_by_name() -> None:
    parts = re.compile(r"\b(torso|upper_arm|lower_arm|upper_leg|lower_leg|low_hand|up_hand)\b")
    for folder in ("hierseg", "train", "studies"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            code = ast.parse(path.read_text(encoding="utf-8"))
            documented = {
                id(node.body[0].value)
                for node in ast.walk(code)
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
                and node.body
                and isinstance(node.body[0], ast.Expr)
            }
            for node in ast.walk(code):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documented:
                    assert not parts.search(node.value), (path, node.lineno)


def test_the_package_offers_its_main_names() -> None:
    from hierseg import Hierarchy, Predictor, losses

    assert Hierarchy.default().level_names == ("body", "upper-lower", "parts")
    assert (Predictor.__name__, losses.focal_tree_min.__name__) == ("Predictor", "focal_tree_min")
    with pytest.raises(AttributeError, match="no attribute 'unknown'"):
        _ = hierseg.unknown
