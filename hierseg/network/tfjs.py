"""Reads the tensors of a TensorFlow.js graph model: NAME.json lists them, NAME.bin holds their bytes one after another.

The pair may lie in a folder or in an npm package as `npm pack` saves it. The graph itself is not read.
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

_DTYPES = {
    kind: np.dtype(kind).newbyteorder("<") for kind in ("float16", "float32", "int32", "uint8", "uint16", "bool")
}
_PLAIN = ("float32", "int32", "uint8", "bool")
_QUANTIZED = {"float32": ("float16", "uint8", "uint16"), "int32": ("uint8", "uint16")}
_MOST_BYTES = 256 * 2**20  # of a file that is read whole


def read(path: Path, name: str) -> dict[str, NDArray[Any]]:
    """Read every tensor of a graph model.

    Args:
        path: A folder that holds NAME.json and NAME.bin, or a .tgz that holds them in any of its folders.
        name: The model, for instance "movenet-thunder".

    Returns:
        Tensors by name, unquantised: float32, int32, uint8 or bool, in the layout of TensorFlow.

    Raises:
        ModelError: A file is missing or damaged. The message names the file and the fault.
    """
    listing, data = (_from_folder if path.is_dir() else _from_package)(path, [f"{name}.json", f"{name}.bin"])
    try:
        entries = [entry for group in json.loads(listing)["weightsManifest"] for entry in group["weights"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{name}.json in {path} is not the JSON of a TensorFlow.js graph model.") from error
    tensors: dict[str, NDArray[Any]] = {}
    offset = 0
    for entry in entries:
        try:
            tensor, length = _tensor(entry, data, offset)
        except (KeyError, TypeError) as error:
            raise ModelError(f"{name}.json in {path} has an incomplete entry: {str(entry)[:200]}.") from error
        if (key := str(entry["name"])) in tensors:
            raise ModelError(f"{name}.json in {path} lists {key} twice.")
        tensors[key] = tensor
        offset += length
    if offset != len(data):
        raise ModelError(f"{name}.bin in {path} has {len(data)} bytes; {name}.json lists tensors of {offset}.")
    return tensors


def _tensor(entry: dict[str, Any], data: bytes, offset: int) -> tuple[NDArray[Any], int]:
    """Return one tensor and the number of bytes it takes."""
    name, shape, kind = str(entry["name"]), entry["shape"], entry["dtype"]
    if not isinstance(shape, list) or not all(type(side) is int and side >= 0 for side in shape):
        raise ModelError(f"The tensor {name} has the shape {shape!r}, which is none.")
    quantized = "quantization" in entry
    stored = entry["quantization"]["dtype"] if quantized else kind
    if stored not in (_QUANTIZED.get(kind, ()) if quantized else _PLAIN):
        raise ModelError(f"The tensor {name} is {kind!r} stored as {stored!r}, which this reader does not know.")
    count = math.prod(shape)
    length = count * _DTYPES[stored].itemsize
    if offset + length > len(data):
        raise ModelError(f"The tensor {name} ends at byte {offset + length} of a file of {len(data)}: it is cut off.")
    values = np.frombuffer(data, _DTYPES[stored], count, offset)
    if quantized and stored != "float16":
        values = values.astype(np.float64) * entry["quantization"]["scale"] + entry["quantization"]["min"]
        values = values.round() if kind == "int32" else values
    return values.astype(_DTYPES[kind].newbyteorder("=")).reshape(shape), length


def _from_folder(folder: Path, names: list[str]) -> list[bytes]:
    try:
        if large := [name for name in names if (folder / name).stat().st_size > _MOST_BYTES]:
            raise ModelError(f"{large[0]} in {folder} is larger than {_MOST_BYTES} bytes.")
        return [(folder / name).read_bytes() for name in names]
    except OSError as error:
        raise ModelError(f"The model cannot be read: {error}") from error


def _from_package(package: Path, names: list[str]) -> list[bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(package, "r:gz") as archive:
            for member in archive:  # once from front to back: each step back would unpack everything again
                name = PurePosixPath(member.name).name
                if name not in names or name in found or not member.isfile():
                    continue
                if member.size > _MOST_BYTES:
                    raise ModelError(f"{name} in {package} is larger than {_MOST_BYTES} bytes.")
                file = archive.extractfile(member)
                found[name] = file.read() if file else b""
                if len(found) == len(names):
                    break
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise ModelError(f"{package} is not a readable .tgz ({type(error).__name__}: {error}).") from error
    if missing := [name for name in names if name not in found]:
        raise ModelError(f"{package} holds no {' and no '.join(missing)}.")
    return [found[name] for name in names]
