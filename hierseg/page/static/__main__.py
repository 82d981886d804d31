"""The command line of the static page: `python -m hierseg.page.static --out FOLDER`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hierseg.errors import UserError


def main() -> None:
    """Build the folder."""
    parser = argparse.ArgumentParser(prog="python -m hierseg.page.static", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("static"), help="the folder (default: %(default)s)")
    parser.add_argument("--runtime", type=Path, help="the npm package onnxruntime-web, as `npm pack` brings it")
    parser.add_argument(
        "--examples", type=Path, default=Path("examples"), help="JPEG files and their README.md (default: %(default)s)"
    )
    options = parser.parse_args()
    from hierseg.page import examples
    from hierseg.page.app import load_predictors
    from hierseg.page.static.build import RUNTIME, build

    try:
        build(load_predictors(), examples.read(options.examples), options.runtime or Path(RUNTIME), options.out)
    except UserError as error:
        sys.exit(f"error: {error}")
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}: {size / 1e6:.0f} MB. Try it: python -m http.server --directory {options.out}")


if __name__ == "__main__":
    main()
