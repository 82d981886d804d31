"""`pip install .` gives the library, the command and the weights, without PyTorch or the rest of the repository."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hierseg.files import is_hidden
from hierseg.predictor import Predictor
from tests import REPOSITORY
from tests.environment import environment_of

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PHOTO = REPOSITORY / "examples" / "astronaut.jpg"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as pip builds it, with nothing left behind in the repository."""
    folder = str(tmp_path_factory.mktemp("wheel"))
    build = ["egg_info", "--egg-base", folder, "build", "--build-base", f"{folder}/build"]
    build += ["bdist_wheel", "--dist-dir", folder, "--bdist-dir", f"{folder}/files"]
    program = "import setuptools; setuptools.setup()"
    subprocess.run([sys.executable, "-c", program, *build], cwd=REPOSITORY, capture_output=True, check=True)
    (built,) = Path(folder).glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package_and_the_published_checkpoints_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
    code = [path.relative_to(REPOSITORY) for path in (REPOSITORY / "hierseg").rglob("*") if path.is_file()]
    package = {path.as_posix() for path in code if "__pycache__" not in path.parts and not is_hidden(path)}
    weights = [path for path in (REPOSITORY / "checkpoints").iterdir() if path.suffix in (".safetensors", ".onnx")]
    assert held == package | {f"hierseg/checkpoints/{path.name}" for path in weights} | {
        "hierseg/checkpoints/README.md"
    }
    assert {"hierseg/py.typed", "hierseg/checkpoints/ftm.safetensors", "hierseg/checkpoints/ftm.onnx"} <= held


@pytest.mark.slow
def test_an_installed_package_finds_its_weights_and_runs_without_pytorch(wheel: Path, tmp_path: Path) -> None:
    python = environment_of(PROJECT["dependencies"], tmp_path / "environment")
    (site,) = (tmp_path / "environment").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    program = f"""
import hierseg
from hierseg import Hierarchy, Predictor

print(hierseg.__file__)
Predictor("ftm").predict({str(PHOTO)!r}).at_level(Hierarchy.default().level_names[-1]).tofile("labels")
try:
    Predictor("ftm", "cpu")
except ValueError as error:
    print(error)
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([python, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True)
    place, said = done.stdout.splitlines()
    assert Path(place).is_relative_to(site)
    assert said.endswith("needs PyTorch, which is not installed: pip install 'hierseg[torch]'.")
    labels = Predictor("ftm").predict(PHOTO).labels
    np.testing.assert_array_equal(np.fromfile(tmp_path / "labels", np.uint8).reshape(labels.shape), labels)


EXTRAS = PROJECT["optional-dependencies"]
FILES = {
    "requirements.txt": [*PROJECT["dependencies"], *EXTRAS["torch"], *EXTRAS["page"]],
    "requirements-train.txt": EXTRAS["train"],
    "requirements-archive.txt": EXTRAS["archive"],
    "requirements-mcp.txt": EXTRAS["mcp"],
}


@pytest.mark.parametrize("name", FILES)
def test_every_pin_lies_in_the_range_that_the_package_asks_for(name: str) -> None:
    ranges = {canonicalize_name(each.name): each.specifier for each in map(Requirement, FILES[name]) if not each.extras}
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    assert {canonicalize_name(package) for package in pins} == ranges.keys()
    for package, version in pins.items():
        assert version in ranges[canonicalize_name(package)], package
