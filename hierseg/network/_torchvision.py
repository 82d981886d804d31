"""Make torchvision importable with a build of torch that it was not linked for.

smp and timm import torchvision. PyPI's torchvision is linked against CUDA, so with a CPU build of torch its compiled
operators do not load and the import fails with "operator torchvision::nms does not exist". Nothing here runs those
operators, so declaring them is enough. With a matching build this module changes nothing.
Import it before smp or timm.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_declared: torch.library.Library | None = None  # a Library withdraws its declarations when it is garbage-collected


def _compiled_operators_load() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True  # not installed: its import will fail with a clear message
    for library in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except OSError:
            return False
    return True


if not _compiled_operators_load():
    _declared = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for _operator in ("nms", "qnms"):
        _schema = f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        _declared.define(_schema)  # type: ignore[no-untyped-call]
