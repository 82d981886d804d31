"""Read the tensors of a TensorFlow.js graph model: NAME.json lists them, NAME.bin holds their bytes one after another.

The two files may be in a folder or in an npm package saved by `npm pack`. The graph itself is not read.
"""

from __future__ import annotations

import json
import math
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierseg.network.model import ModelError

_KINDS = {"float16": "<f2", "float32": "<f4", "int32": "<i4"}  # the types in MoveNet's files; the format has more
_MOST_BYTES = 256 * 2**20  # of an unpacked file


def read(path: Path, name: str) -> dict[str, NDArray[Any]]:
    """Read every tensor of a graph model.

    Args:
        path: A folder that holds NAME.json and NAME.bin, or a .tgz that holds them in any of its folders.
        name: The model, for instance "movenet-thunder".

    Returns:
        Tensors by name in the order of the list, float32 or int32, in TensorFlow's layout.

    Raises:
        ModelError: A file is missing or damaged, or holds tensors of another type.
    """
    files = [f"{name}.json", f"{name}.bin"]
    tensors = {}
    offset = 0
    try:
        listing, data = [(path / file).read_bytes() for file in files] if path.is_dir() else _unpacked(path, files)
        for entry in (entry for group in json.loads(listing)["weightsManifest"] for entry in group["weights"]):
            stored = _KINDS[entry.get("quantization", entry)["dtype"]]
            values = np.frombuffer(data, stored, math.prod(entry["shape"]), offset)
            tensors[str(entry["name"])] = values.astype(_KINDS[entry["dtype"]]).reshape(entry["shape"])
            offset += values.nbytes
        if offset != len(data):
            raise ValueError(f"{files[1]} has {len(data)} bytes, {files[0]} lists tensors of {offset}")
    except (
        *(OSError, tarfile.TarError, zlib.error, EOFError),
        *(ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError),
    ) as error:
        raise ModelError(
            f"The model {name} in {path} is missing, damaged or of another kind ({type(error).__name__}: {error})."
        ) from error
    return tensors


def _unpacked(package: Path, names: list[str]) -> list[bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(package, "r:gz") as archive:
        for member in archive:  # in one pass: each step back would unpack everything again
            name = PurePosixPath(member.name).name
            if name in names and name not in found and member.isfile():
                if member.size > _MOST_BYTES:
                    raise ValueError(f"{name} is larger than {_MOST_BYTES} bytes")
                file = archive.extractfile(member)
                found[name] = file.read() if file else b""
            if len(found) == len(names):
                break
    return [found[name] for name in names]
