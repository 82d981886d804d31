"""Virtual environments with given requirements and nothing else."""

from __future__ import annotations

import venv
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def environment_of(requirements: Iterable[str], folder: Path) -> str:
    """Make a virtual environment with only these requirements and their dependencies; return its Python.

    Packages are linked from the environment that runs the test, as tests must not download anything.
    """
    lines = [line.partition("#")[0].strip() for line in requirements]
    wanted, done = [Requirement(line) for line in lines if line], set()
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    while wanted:
        requirement = wanted.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in done:
            continue
        done.add(key)
        try:
            package = distribution(requirement.name)
        except PackageNotFoundError:  # for instance a GPU's libraries beside a CPU build
            continue
        for name in {file.parts[0] for file in package.files or () if file.parts[0] not in ("..", "__pycache__")}:
            source = Path(str(package.locate_file(name)))
            if source.exists() and not (site / name).exists():
                (site / name).symlink_to(source)
        for line in package.requires or ():
            further = Requirement(line)
            if further.marker is None or any(
                further.marker.evaluate({"extra": extra}) for extra in ("", *requirement.extras)
            ):
                wanted.append(further)
    return str(folder / "bin" / "python")
