"""Builds the page as a folder: `npm pack onnxruntime-web@1.30.0; python -m hierseg.page.static`.

The viewer's own modules go there as they are, but for server.js, whose functions `local/server.js` answers in the
browser. What a server would say of every photo alike stands in card.json.
"""

from __future__ import annotations

import dataclasses
import html
import json
import shutil
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from hierseg.errors import UserError
from hierseg.network import checkpoint
from hierseg.page import payload
from hierseg.page.actions import Actions
from hierseg.page.examples import Example
from hierseg.predictor import Predictor

RUNTIME = "onnxruntime-web-1.30.0.tgz"  # what `npm pack onnxruntime-web@1.30.0` brings
# Kinds of ONNX Runtime, by networks.js's names, with what each is made of in the package's folder dist.
_KINDS = {
    "wasm": ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": ("ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
}
_HERE = Path(__file__).parent
_VIEWER = _HERE.parent / "viewer"


class StaticError(UserError):
    """The folder cannot be built. The message says what to do."""


def build(predictors: Mapping[str, Predictor], examples: Sequence[Example], runtime: Path, out: Path) -> None:
    """Write the page's folder.

    Args:
        predictors: Checkpoints by name; each has its ONNX file beside it.
        examples: Photos that a visitor can click; the first is shown, as it is segmented here, when the page opens.
        runtime: The npm package onnxruntime-web as `npm pack` brings it.
        out: The folder. What it held under the same names is replaced.

    Raises:
        StaticError: The package is not there, or is another; or a checkpoint was not exported.
    """
    actions = Actions(predictors)
    _write_runtime(runtime, out / "ort")
    networks = {name: _network_of(name) for name in actions.predictors}
    (out / "networks").mkdir(parents=True, exist_ok=True)
    for path in networks.values():
        shutil.copyfile(path, out / "networks" / path.name)
    shutil.copytree(_VIEWER, out / "viewer", dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.html", "*.css"))
    shutil.copytree(_HERE / "local", out / "local", dirs_exist_ok=True)
    shutil.copyfile(_HERE / "local" / "server.js", out / "viewer" / "server.js")
    (out / "examples").mkdir(exist_ok=True)
    for example in examples:
        shutil.copyfile(example.path, out / "examples" / example.path.name)
    if examples:
        (out / "examples" / "first.scene").write_bytes(actions.show(examples[0].path.read_bytes()))
    (out / "card.json").write_text(json.dumps(_card(actions, examples)), encoding="utf-8")
    styles = "\n".join(
        path.read_text(encoding="utf-8") for path in (_HERE / "theme.css", _VIEWER / "page.css", _VIEWER / "viewer.css")
    )
    page = (_HERE / "index.html").read_text(encoding="utf-8")
    viewer = _with_examples((_VIEWER / "viewer.html").read_text(encoding="utf-8"), examples)
    page = page.replace("/* styles */", styles).replace("<!-- viewer -->", viewer)
    (out / "index.html").write_text(page, encoding="utf-8")


def _card(actions: Actions, examples: Sequence[Example]) -> dict[str, object]:
    """Return what local/server.js needs to know: of every photo alike, and of each checkpoint."""
    return {
        "scene": payload.described(actions.predictors),
        "most": payload.VIEW_SIZE,
        "examples": [example.path.name for example in examples],
        "networks": {
            name: {
                "network": f"../networks/{name}.onnx",
                "inference": {**dataclasses.asdict(predictor.inference), "input_size": predictor.input_size},
                "fill": [round(mean * 255) for mean in predictor.card.spec.mean],
                "calibration": predictor.card.calibration,
            }
            for name, predictor in actions.predictors.items()
        },
    }


def _network_of(name: str) -> Path:
    path = checkpoint.find(name).with_suffix(".onnx")
    if not path.is_file():
        raise StaticError(f"{name} has no ONNX file. Make it: python -m train export {name}.")
    return path


def _write_runtime(runtime: Path, out: Path) -> None:
    """Take ONNX Runtime out of its npm package; what is large is packed, as not every static host does that."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(runtime) as package:
            for kind, names in _KINDS.items():
                module, binary = (package.extractfile(f"package/dist/{name}") for name in names)
                if module is None or binary is None:
                    raise KeyError(names[0])
                (out / f"{kind}.mjs").write_bytes(module.read())
                (out / f"{kind}.z").write_bytes(zlib.compress(binary.read(), 9))
    except (OSError, KeyError, tarfile.TarError) as error:
        raise StaticError(
            f"{runtime} is not there, or not what is wanted ({error}). Get it: npm pack onnxruntime-web@1.30.0"
        ) from error


def _with_examples(template: str, examples: Sequence[Example]) -> str:
    """Fill the viewer's template in as gr.HTML does on the server."""
    before, rest = template.split("{{#each value}}")
    each, after = rest.split("{{/each}}")
    buttons = [
        each.replace("{{@index}}", str(number))
        .replace("{{this.picture}}", f"examples/{example.path.name}")
        .replace("{{this.caption}}", html.escape(example.caption))
        for number, example in enumerate(examples)
    ]
    return "".join([before, *buttons, after])
