"""HEIC files of any shape, made without an encoder: two small pictures in HEVC, and the boxes around them.

The pictures, in `heic.json`, were coded by x265: `PICTURE` of `tests.hostile` without loss, and 512 by 512 pixels of
one red. ISO/IEC 23008-12 says what the boxes mean.
"""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Coded:
    """A picture in HEVC.

    Attributes:
        decoder: Content of its `hvcC` box.
        stream: Its data.
        size: Width and height in pixels.
        coded: Width and height of its stream; pixels beyond `size` are cut off.
    """

    decoder: bytes
    stream: bytes
    size: tuple[int, int]
    coded: tuple[int, int]


def heic(
    picture: Coded,
    said: tuple[int, int] | None = None,
    tiles: tuple[int, int] | None = None,
    turn: int = 0,
    mirror: int | None = None,
    exif: bytes = b"",
    brand: bytes = b"heic",
) -> bytes:
    """Make a file.

    Args:
        picture: The picture.
        said: Width and height in its header, if they differ from the picture's.
        tiles: Columns and rows in which the picture is repeated, as phones store photos in tiles.
        turn: Quarter turns to the left.
        mirror: 0 to swap above and below after that, 1 to swap left and right.
        exif: EXIF from its TIFF header on.
        brand: Its brand.

    Returns:
        The file.
    """
    width, height = picture.size
    columns, rows = tiles or (1, 1)
    whole = said or (width * columns, height * rows)
    properties = [
        _box(b"hvcC", picture.decoder),
        _box(b"ispe", struct.pack(">4x2I", *(picture.coded if tiles or not said else said))),
        _box(b"ispe", struct.pack(">4x2I", *whole)),
        _box(b"irot", bytes([turn])),
        _box(b"imir", bytes([mirror or 0])),
    ]
    own = [0x81, 2]
    if picture.coded != picture.size:
        from_middle = [
            part for inner, outer in zip(picture.size, picture.coded, strict=True) for part in (inner - outer, 2)
        ]
        properties.append(_box(b"clap", struct.pack(">4I4i", width, 1, height, 1, *from_middle)))
        own.append(0x86)
    turned = [*([0x84] if turn else []), *([0x85] if mirror is not None else [])]
    last = columns * rows if tiles else 0
    primary = last + 1  # the tiles, which share their data, come before it
    uses = {number: own for number in range(1, last + 1)}
    uses[primary] = [3, *turned] if tiles else [*own, *turned]
    grid = struct.pack(">4B2I", 0, 1, rows - 1, columns - 1, *whole)
    chunks = [picture.stream, grid, bytes(4) + exif]
    items = [(number, b"hvc1", 0) for number in range(1, last + 1)]
    items.append((primary, b"grid", 1) if tiles else (primary, b"hvc1", 0))
    references = []
    if tiles:
        references.append(_box(b"dimg", struct.pack(f">{last + 2}H", primary, last, *range(1, last + 1))))
    if exif:
        items.append((primary + 1, b"Exif", 2))
        references.append(_box(b"cdsc", struct.pack(">3H", primary + 1, 1, primary)))

    def meta(start: int) -> bytes:
        starts = (start, start + len(chunks[0]), start + len(chunks[0]) + len(chunks[1]))
        places = [struct.pack(">3H2I", number, 0, 1, starts[at], len(chunks[at])) for number, _, at in items]
        entries = [_box(b"infe", struct.pack(">I2H4sx", 0x02000000, number, 0, kind)) for number, kind, _ in items]
        used = [struct.pack(">HB", number, len(own)) + bytes(own) for number, own in uses.items()]
        return _box(
            b"meta",
            bytes(4),
            _box(b"hdlr", struct.pack(">8x4s13x", b"pict")),
            _box(b"pitm", struct.pack(">4xH", primary)),
            _box(b"iloc", struct.pack(">4xBBH", 0x44, 0, len(items)), *places),
            _box(b"iinf", struct.pack(">4xH", len(items)), *entries),
            _box(b"iprp", _box(b"ipco", *properties), _box(b"ipma", struct.pack(">4xI", len(uses)), *used)),
            *([_box(b"iref", bytes(4), *references)] if references else []),
        )

    head = _box(b"ftyp", brand, bytes(4), b"mif1", b"heic")
    start = len(head) + len(meta(0)) + 8
    return head + meta(start) + _box(b"mdat", *chunks)


def _box(kind: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return struct.pack(">I4s", len(content) + 8, kind) + content


def _coded(decoder: str, stream: str, size: tuple[int, int], coded: tuple[int, int]) -> Coded:
    return Coded(base64.b64decode(decoder), base64.b64decode(stream), tuple(size), tuple(coded))


_PICTURES = json.loads(Path(__file__).with_suffix(".json").read_text())
QUADRANTS, RED_SQUARE = (_coded(**_PICTURES[name]) for name in ("quadrants", "red square"))
