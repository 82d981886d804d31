"""Hostile and odd files, as a person or an attacker might send them: `corpus()`.

`python -m tests.hostile FOLDER` writes each file into the folder in turn and opens it in a process of its own, whose
memory and computing are bounded; a line of JSON for each says what came of it.
"""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import random
import resource
import struct
import sys
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from hierseg.photo import PhotoError, is_animated, open_photo
from hierseg.photo.label_map import LabelMapError, open_label_map
from hierseg.tree import Hierarchy
from tests.data import LeavesAMark
from tests.heic import QUADRANTS, RED_SQUARE, heic

Array = npt.NDArray[Any]
Verdict = Literal["shown", "refused", "either"]
Tag = tuple[int, int, int, int | bytes]  # of a TIFF: number, type, count, value

MEMORY = 700 * 2**20  # bytes that opening a file may take, with the process itself
COMPUTING = 600  # seconds of computing, only to end what would never end; the slowest takes two here
RED, GREEN, BLUE, GREY, WHITE = (200, 40, 30), (40, 170, 60), (30, 60, 190), (128, 128, 128), (255, 255, 255)


@dataclass(frozen=True)
class Case:
    """One file.

    Attributes:
        kind: What is odd about it, unique.
        name: The name it would be sent under.
        data: Its bytes.
        verdict: Whether it must be shown, must be refused, or may be either.
        picture: What it must show if it is shown, uint8 (H, W, 3), or (H, W) for a mask; None if nobody can say.
        tolerance: By how much a value may differ.
        door: Where it is sent: "photo" or "mask".
    """

    kind: str
    name: str
    data: bytes
    verdict: Verdict = "shown"
    picture: Array | None = None
    tolerance: int = 0
    door: Literal["photo", "mask"] = "photo"


@functools.cache
def corpus() -> tuple[Case, ...]:
    """Make all the files; the same ones every time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is made here on purpose
        return (
            *_jpegs(),
            *_pngs(),
            *_gifs(),
            *_webps_and_avifs(),
            *_heics(),
            *_tiffs(),
            *_bmps_and_ppms(),
            *_large(),
            *_not_photos(),
            *_damaged(),
            *_masks(),
        )


def examine(case: Case, path: Path) -> str:
    """Open a case from a file and return what is wrong with what came of it; an empty string if nothing is."""
    path.write_bytes(case.data)
    try:
        opened = open_photo(path) if case.door == "photo" else open_label_map(path, Hierarchy.default())
        is_animated(case.data)  # the page asks it of every photo that it shows
    except (PhotoError, LabelMapError) as refusal:
        return "it was refused" if case.verdict == "shown" else complaint(str(refusal))
    if case.verdict == "refused":
        return "it was shown"
    if case.picture is None:
        return ""
    if opened.shape != case.picture.shape:
        return f"it is {opened.shape}, not {case.picture.shape}"
    if opened.size > 4_000_000:  # of a large one every 50th row is enough
        opened, expected = opened[::50], case.picture[::50]
    else:
        expected = case.picture
    off = int(np.abs(opened.astype(np.int16) - expected).max())
    return f"it is off by {off}" if off > case.tolerance else ""


def complaint(sentence: str) -> str:
    """Return what keeps a refusal from being one or two plain sentences; an empty string if nothing does."""
    unwanted = (
        "Error",
        "Exception",
        "Traceback",
        "Errno",
        "errno",
        " object",
        "0x",
        "None",
        "PIL",
        "_io",
        "\n",
        "<",
        "/",
    )
    types = ("float64", "int64", "uint16", "str", "bytes", "dtype", "array(", "()", "'")
    found = [word for word in (*unwanted, *types) if word in sentence.replace("JPEG, PNG", "")]
    if found or not sentence.endswith(".") or sentence.count(". ") > 1:
        return f"it was refused with: {sentence}"
    return ""


# Small tools ---------------------------------------------------------------------------------------------------------


def quadrants(height: int = 32, width: int = 48) -> Array:
    """Four colours, so that no turn looks like another; the edges lie on JPEG's blocks."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2], picture[: height // 2, width // 2 :] = RED, GREEN
    picture[height // 2 :, : width // 2], picture[height // 2 :, width // 2 :] = BLUE, GREY
    return picture


PICTURE = quadrants()
IMAGE = Image.fromarray(PICTURE)
GREYS = np.tile(np.arange(48, dtype=np.uint8) * 5, (32, 1))
IN_GREY = GREYS[:, :, None].repeat(3, axis=2)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _jpeg(image: Image.Image = IMAGE, **options: Any) -> bytes:
    return encode(image, "JPEG", **{"quality": 98, "subsampling": 0, **options})


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 255, marker, len(content) + 2) + content


def _after_start(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, color: int, *chunks: bytes, interlace: int = 0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def idat(rows: bytes) -> bytes:
    return chunk(b"IDAT", zlib.compress(rows, 1))


def _in_png(*chunks: bytes) -> bytes:
    """Put chunks between a sound PNG's header and its pixels."""
    sound = encode(IMAGE, "PNG")
    return sound[:33] + b"".join(chunks) + sound[33:]


def _zeros(count: int) -> bytes:
    """Compress zeros without ever holding them: a megabyte of them over and over, and the rest."""

    def packed(number: int, end: int) -> bytes:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(bytes(number)) + packer.flush(end)

    megabytes, rest = divmod(count, 2**20)
    body = packed(2**20, zlib.Z_FULL_FLUSH) * megabytes + packed(rest, zlib.Z_FINISH)
    return b"\x78\x01" + body + struct.pack(">HH", count % 65_521, 1)


def _tags(entries: list[Tag], data: bytes = b"") -> bytes:
    """Lay out a little-endian TIFF: after its first 8 bytes come the data, the entries' values and the table."""
    body, table = bytearray(b"II*\0\0\0\0\0" + data), b""
    for tag, kind, count, value in sorted(entries, key=lambda entry: entry[0]):
        if isinstance(value, int):
            value = struct.pack("<H" if kind == 3 else "<I", value)
        if len(value) > 4:
            body += value
            value = struct.pack("<I", len(body) - len(value))
        table += struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")
    body[4:8] = struct.pack("<I", len(body))
    return bytes(body) + struct.pack("<H", len(entries)) + table + bytes(4)


def _grey_tiff(size: int, packing: int, *entries: Tag, data: bytes) -> bytes:
    shape = [(256, 4, 1, size), (257, 4, 1, size), (258, 3, 1, 8), (259, 3, 1, packing), (262, 3, 1, 1), (277, 3, 1, 1)]
    return _tags([*shape, *entries], data)


def exif_of(orientation: int, *entries: Tag) -> bytes:
    return b"Exif\0\0" + _tags([(0x0112, 3, 1, orientation), *entries])


def _exif_bomb(size: int = 1_000_000, entries: int = 20_000) -> bytes:
    """EXIF whose every entry is nearly all of it."""
    table = b"".join(struct.pack("<HHII", number, 7, size - 8, 8) for number in range(1, entries + 1))
    return (struct.pack("<2sHIH", b"II", 42, 8, entries) + table + bytes(4)).ljust(size, b"\0")


def _in_segments(exif: bytes) -> list[bytes]:
    """Split EXIF into JPEG segments, as is done with what does not fit into one."""
    tiff = exif.removeprefix(b"Exif\0\0")
    return [_segment(0xE1, b"Exif\0\0" + tiff[first : first + 65_000]) for first in range(0, len(tiff), 65_000)]


def _zip(name: str = "photo.jpg", content: bytes = b"no photo") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), content)
    return file.getvalue()


def _kinds(format: str, name: str, tolerance: int = 0) -> Callable[..., Case]:
    """Return what makes the cases of a format: they show `PICTURE` unless they are refused or it is said otherwise."""

    def case(
        kind: str, data: bytes, verdict: Verdict = "shown", picture: Array | None = PICTURE, off: int = tolerance
    ) -> Case:
        return Case(f"{format} {kind}", name, data, verdict, None if verdict == "refused" else picture, off)

    return case


# Photos --------------------------------------------------------------------------------------------------------------


def _jpegs() -> Iterator[Case]:
    case = _kinds("jpeg", "photo.jpg", 6)
    sound = _jpeg()
    start = sound.index(b"\xff\xc0")

    def with_header(change: dict[int, bytes]) -> bytes:
        """Overwrite bytes of the frame's header, counted from its marker."""
        data = bytearray(sound)
        for at, content in change.items():
            data[start + at : start + at + len(content)] = content
        return bytes(data)

    yield case("baseline", sound)
    yield case("progressive", _jpeg(progressive=True))
    flat = Image.new("RGB", (48, 32), RED)
    yield case("subsampled", _jpeg(flat, subsampling=2), picture=np.full_like(PICTURE, RED))
    yield case("grey", _jpeg(Image.fromarray(GREYS)), picture=IN_GREY)
    yield case("cmyk, inverted as Adobe does", _jpeg(IMAGE.convert("CMYK")))
    yield case("cmyk, progressive", _jpeg(IMAGE.convert("CMYK"), progressive=True))
    yield case(
        "of several pictures", encode(IMAGE, "MPO", save_all=True, append_images=[flat], subsampling=0, quality=98)
    )
    yield case("with a restart marker at every block", _jpeg(restart_marker_blocks=1))
    yield case("with a zip behind it", sound + _zip())
    yield case("with an html page behind it", sound + b"<html><script>alert(1)</script></html>")
    yield case("with megabytes of comments", _after_start(sound, *[_segment(0xFE, b"x" * 65_000)] * 40))
    yield case("with an empty comment", _after_start(sound, _segment(0xFE, b"")))
    yield case("with fill bytes", _after_start(sound, b"\xff" * 1000))
    yield case("with half a million fill bytes", _after_start(sound, b"\xff" * 500_000), "refused")
    yield case(
        "with exif in hundreds of thousands of parts",
        _after_start(sound, _segment(0xE1, b"Exif\0\0ab") * 400_000),
        "refused",
    )
    parts = _segment(0xE1, b"Exif\0\0" + bytes(5000)) * 200
    yield case("with exif in hundreds of parts", _after_start(sound, parts), "refused")
    yield case(
        "with exif of 300 kB", _after_start(sound, *_in_segments(exif_of(1, (0x9286, 7, 300_000, bytes(300_000)))))
    )
    yield case("with exif whose entries overlap", _after_start(sound, *_in_segments(_exif_bomb())))
    yield case("with half an exif", _after_start(sound, _segment(0xE1, exif_of(6)[:20])))
    yield case("with exif of another turn than there is", _after_start(sound, _segment(0xE1, exif_of(99))))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    yield case("with a profile of another colour space", _jpeg(icc_profile=profile))
    yield case("with a profile of nonsense", _jpeg(icc_profile=b"nonsense" * 20_000))
    yield case("with a profile of thousands of steps", _jpeg(icc_profile=_profile_of_steps(20_000)))
    lost = _segment(0xE2, b"ICC_PROFILE\0\1\7" + profile)
    yield case("with one part of seven of a profile", _after_start(sound, lost))
    yield case("of 12 bits", with_header({4: b"\x0c"}), "refused")
    yield case("coded arithmetically by its header", with_header({1: b"\xc9"}), "either", None)
    yield case("lossless by its header", with_header({1: b"\xc3"}), "refused")
    yield case("hierarchical by its header", with_header({1: b"\xc5"}), "refused")
    yield case("of no rows by its header", with_header({5: b"\0\0"}), "refused")
    yield case("taller by its header than it is", with_header({5: struct.pack(">H", 480)}), "either", None)
    yield case("wider by its header than it is", with_header({7: struct.pack(">H", 480)}), "either", None)
    yield case("of 65500 by 65500 pixels by its header", with_header({5: struct.pack(">HH", 65500, 65500)}), "refused")
    yield case("of 20000 by 20000 pixels by its header", with_header({5: struct.pack(">HH", 20000, 20000)}), "refused")
    yield case("of 200 components by its header", with_header({9: b"\xc8"}), "refused")
    yield case("without a scan", sound[: sound.index(b"\xff\xda")], "refused")
    yield case("without tables", sound[:20] + sound[start:], "refused")
    yield case("with thousands of scans", _jpeg_of_scans(4000, 2000), "refused")
    yield case("with scans up to the limit", _jpeg_of_scans(1600, 40), picture=np.full((1600, 1600, 3), 128))


def _jpeg_of_scans(side: int, scans: int) -> bytes:
    """A grey progressive JPEG whose every scan takes a few bytes for a million blocks: all end at once."""

    def packed(bits: str) -> bytes:
        return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")

    blocks = (side // 8) ** 2
    # Code 0 says in the first table that a value does not change, in the second that 16384 blocks and more end here.
    tables = [_segment(0xC4, bytes([kind, 1, *[0] * 15, symbol])) for kind, symbol in ((0x00, 0), (0x10, 0xE0))]
    runs = packed("0" * 15 * -(-blocks // 16_384))
    refined = [_segment(0xDA, bytes([1, 1, 0, 1, 63, high])) + runs for high in (0x01, *[0x10] * scans)]
    return b"".join(
        [
            b"\xff\xd8" + _segment(0xDB, bytes([0, *[1] * 64])),
            _segment(0xC2, struct.pack(">BHHBBBB", 8, side, side, 1, 1, 0x11, 0)),
            *tables,
            _segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + packed("0" * blocks),
            *refined,
            b"\xff\xd9",
        ]
    )


def xyz(*values: float) -> bytes:
    return b"XYZ " + struct.pack(">4i", 0, *(round(65_536 * value) for value in values))


def icc_profile(version: int, tags: dict[bytes, bytes]) -> bytes:
    """Lay out an ICC profile of RGB."""
    table, body, start = b"", b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    kinds = struct.pack(">I4sI4s4s4s12s4s", start + len(body), b"", version, b"mntr", b"RGB ", b"XYZ ", b"", b"acsp")
    header = (kinds.ljust(68, b"\0") + xyz(0.9642, 1, 0.8249)[8:]).ljust(128, b"\0")
    return header + struct.pack(">I", len(tags)) + table + body


def _profile_of_steps(count: int) -> bytes:
    """A sound ICC profile of version 4 that goes through the same two steps, a matrix and a curve, again and again."""
    matrix = b"matf" + struct.pack(">IHH12f", 0, 3, 3, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0)
    gamma = b"parf" + struct.pack(">IHH4f", 0, 0, 0, 1.01, 1, 0, 0)
    curve = b"cvst" + struct.pack(">IHH6I", 0, 3, 3, *(36, 40) * 3) + b"curf" + struct.pack(">IHH", 0, 1, 0) + gamma
    first = 16 + 8 * count
    places = (first, len(matrix)), (first + len(matrix), len(curve))
    steps = b"".join(struct.pack(">II", *places[number % 2]) for number in range(count))
    chain = b"mpet" + struct.pack(">IHHI", 0, 3, 3, count) + steps + matrix + curve
    linear = b"curv" + bytes(8)
    colors = {b"wtpt": (0.964, 1, 0.825), b"rXYZ": (0.436, 0.222, 0.014), b"gXYZ": (0.385, 0.717, 0.097)}
    tags = {name: xyz(*values) for name, values in {**colors, b"bXYZ": (0.143, 0.061, 0.714)}.items()}
    tags |= {b"rTRC": linear, b"gTRC": linear, b"bTRC": linear, b"D2B0": chain}
    return icc_profile(0x04300000, tags)


def _pngs() -> Iterator[Case]:
    case = _kinds("png", "photo.png")
    height, width = PICTURE.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in PICTURE)
    yield case("plain", encode(IMAGE, "PNG"))
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    interlaced = b"".join(
        b"\0" + row.tobytes() for top, left, down, right in passes for row in PICTURE[top::down, left::right]
    )
    yield case("interlaced", png(width, height, 8, 2, idat(interlaced), interlace=1))
    yield case("of one pixel", encode(Image.new("RGB", (1, 1), RED), "PNG"), picture=np.full((1, 1, 3), RED))
    for down, across in ((20_000, 1), (1, 20_000)):
        line = np.full((down, across, 3), BLUE, np.uint8)
        yield case(f"of {across} by {down} pixels", encode(Image.fromarray(line), "PNG"), picture=line)
    yield case("of one by 100000 pixels", encode(Image.new("L", (1, 100_000)), "PNG"), "refused")
    for side in (20_000, 2**31 - 1):
        yield case(f"of {side} by {side} pixels by its header", png(side, side, 8, 2, idat(b"")), "refused")
    yield case("of no pixels", png(0, 0, 8, 2, idat(b"")), "refused")
    deep = (PICTURE.astype(np.uint16) * 257).astype(">u2")
    yield case("of 16 bits", png(width, height, 16, 2, idat(b"".join(b"\0" + row.tobytes() for row in deep))))
    half = Image.merge("LA", [Image.fromarray(GREYS), Image.new("L", (width, height), 0)])
    yield case("of grey and nothing to see", encode(half, "PNG"), picture=np.full_like(PICTURE, 255))
    yield case("animated", encode(IMAGE, "PNG", save_all=True, append_images=[Image.new("RGB", (48, 32))]))
    text = exif_of(6).hex()
    raw = b"Raw profile type exif\0\nexif\n%8d\n" % (len(text) // 2) + text.encode()
    stored = encode(IMAGE.transpose(Image.Transpose.ROTATE_90), "PNG")
    yield case("turned by exif in words, as ImageMagick does", stored[:33] + chunk(b"tEXt", raw) + stored[33:])
    yield case("with exif whose entries overlap", _in_png(chunk(b"eXIf", _exif_bomb())))
    yield case("with a wrong profile", _in_png(chunk(b"iCCP", b"x\0\0" + zlib.compress(b"nonsense" * 9))))
    bomb = _zeros(20_000_000)
    yield case("with a profile that swells", _in_png(chunk(b"iCCP", b"x\0\0" + bomb)), "refused")
    yield case("with a text that swells", _in_png(chunk(b"zTXt", b"x\0\0" + bomb)), "refused")
    once = chunk(b"iCCP", b"x\0\0" + _zeros(1_000_000))
    yield case("with hundreds of profiles that swell", _in_png(once * 800), "refused")
    yield case("with pixels that swell", png(width, height, 8, 2, chunk(b"IDAT", zlib.compress(rows) + bomb)))
    swollen = zlib.compress(rows + bytes(100_000_000))
    yield case("with pixels for another 100 MB", png(width, height, 8, 2, chunk(b"IDAT", swollen)))
    yield case("with a hundred thousand empty chunks", _in_png(chunk(b"teXt", b"") * 100_000), "refused")
    empty = chunk(b"IDAT", b"")
    yield case("with thousands of empty pixel chunks", png(width, height, 8, 2, empty * 5000, idat(rows)))
    yield case("with a wrong checksum", encode(IMAGE, "PNG").replace(b"IHDR", b"IHDR", 1)[:29] + bytes(99), "refused")
    yield case("without an end", encode(IMAGE, "PNG")[:-12], "either")
    yield case("with words where its transparency is", _in_png(chunk(b"tEXt", b"transparency\0clear")), "either")
    yield case("of a colour type that is none", png(width, height, 8, 5, idat(rows)), "refused")
    yield case("named as a jpeg", encode(IMAGE, "PNG"))


def _gifs() -> Iterator[Case]:
    case = _kinds("gif", "photo.gif")
    four = IMAGE.quantize(4)
    sound = encode(four, "GIF")
    dots = [Image.new("L", (1, 1), shade % 256) for shade in range(2000)]
    yield case("plain", sound)
    yield case("animated", encode(four, "GIF", save_all=True, append_images=[four.rotate(180)]))
    many = encode(dots[0], "GIF", save_all=True, append_images=dots[1:])
    yield case("of thousands of pictures", many, picture=np.zeros((1, 1, 3)))
    yield case("of no pixels", b"GIF89a" + bytes(7) + b"," + bytes(9) + b"\2\1\0\0;", "refused")
    yield case("with a picture beyond its screen", sound[:6] + b"\1\0\1\0" + sound[10:], "either")
    yield case("of 65535 by 65535 pixels by its header", sound[:6] + b"\xff" * 4 + sound[10:], "refused")
    colors = 13 + 3 * 4
    comment = b"!\xfe" + (b"\xff" + b"x" * 255) * 20_000 + b"\0"
    yield case("with megabytes of comments", sound[:colors] + comment + sound[colors:], "refused")
    yield case("with a comment behind its picture", sound[:-1] + comment + sound[-1:])


def _webps_and_avifs() -> Iterator[Case]:
    webp, avif = _kinds("webp", "photo.webp"), _kinds("avif", "photo.avif", 4)
    clear = np.dstack([PICTURE, np.full((32, 48), 255, np.uint8)])
    clear[:16, :24, 3] = 0
    shown = PICTURE.copy()
    shown[:16, :24] = WHITE
    more = [Image.new("RGB", (48, 32), BLUE)]
    lossless = encode(IMAGE, "WEBP", lossless=True)
    # Colours of less than a pixel's share are lost at the edges, which lie in the middle.
    yield webp("lossy", encode(Image.new("RGB", (48, 32), RED), "WEBP"), picture=np.full((32, 48, 3), RED), off=6)
    yield webp("lossless", lossless)
    yield webp("with alpha", encode(Image.fromarray(clear), "WEBP", lossless=True), picture=shown)
    yield webp("animated", encode(IMAGE, "WEBP", save_all=True, append_images=more, lossless=True))
    yield webp("with exif whose entries overlap", encode(IMAGE, "WEBP", lossless=True, exif=_exif_bomb()))
    vast = lossless[:21] + struct.pack("<I", 16382 | 16382 << 14) + lossless[25:]
    yield webp("of 16383 by 16383 pixels by its header", vast, "refused")
    exact = {"quality": 100, "subsampling": "4:4:4", "max_threads": 1}
    sound = encode(IMAGE, "AVIF", **exact)
    yield avif("plain", sound)
    yield avif("animated", encode(IMAGE, "AVIF", save_all=True, append_images=more, **exact))
    yield avif("with exif whose entries overlap", encode(IMAGE, "AVIF", **exact, exif=_exif_bomb()))
    ispe = sound.index(b"ispe") + 8
    vast = sound[:ispe] + struct.pack(">II", 20_000, 20_000) + sound[ispe + 8 :]
    yield avif("of 20000 by 20000 pixels by its header", vast, "refused")


def _heics() -> Iterator[Case]:
    case = _kinds("heic", "photo.heic", 2)

    def red(height: int, width: int) -> Array:
        return np.broadcast_to(np.array(RED, np.uint8), (height, width, 3))

    sound = heic(QUADRANTS)
    yield case("plain", sound)
    yield case("of the general brand", heic(QUADRANTS, brand=b"mif1"))
    yield case("named as an avif", heic(QUADRANTS, brand=b"avif"), "refused")
    yield case("in tiles, turned", heic(QUADRANTS, tiles=(2, 3), turn=1), picture=np.rot90(np.tile(PICTURE, (3, 2, 1))))
    yield case("turned by its exif alone", heic(QUADRANTS, exif=exif_of(6)[6:]))
    yield case("with exif whose entries overlap", heic(QUADRANTS, exif=_exif_bomb()))
    yield case("of 20000 by 20000 pixels by its header", heic(QUADRANTS, said=(20_000, 20_000)), "refused")
    yield case("of 2 billion pixels a side by its header", heic(QUADRANTS, said=(2**31 - 1, 2**31 - 1)), "refused")
    yield case("of no pixels by its header", heic(QUADRANTS, said=(0, 0)), "refused")
    yield case("larger than its header says", heic(RED_SQUARE, said=(64, 64)), "either", None)
    yield case("smaller than its header says", heic(RED_SQUARE, said=(5000, 5000)), "either", None)
    yield case(
        "in tiles larger than its header says", heic(RED_SQUARE, tiles=(2, 2), said=(700, 700)), picture=red(700, 700)
    )
    yield case("in tiles that are missing", heic(RED_SQUARE, tiles=(2, 2), said=(7000, 7000)), "either", None)
    yield case("in tiles beyond all limits", heic(QUADRANTS, tiles=(100, 100)), "either", None)
    yield case("without its data", sound[: sound.index(b"mdat") + 4], "refused")
    yield case("of zeros", sound[: sound.index(b"mdat") + 4] + bytes(len(QUADRANTS.stream)), "either", None)
    yield case(
        "of 49 megapixels in tiles, turned", heic(RED_SQUARE, (7000, 7000), (14, 14), 1), picture=red(7000, 7000)
    )
    yield case("of 51 megapixels in tiles", heic(RED_SQUARE, tiles=(14, 14)), "refused")


def _tiffs() -> Iterator[Case]:
    case = _kinds("tiff", "photo.tif")
    sound = encode(IMAGE, "TIFF")
    yield case("plain", sound)
    for packing in ("tiff_deflate", "tiff_lzw", "packbits", "tiff_adobe_deflate"):
        yield case(f"packed by {packing}", encode(IMAGE, "TIFF", compression=packing))
    flat = Image.new("RGB", (48, 32), RED)
    yield case("packed as jpeg", encode(flat, "TIFF", compression="jpeg"), picture=np.full_like(PICTURE, RED), off=4)
    fax = encode(Image.fromarray(GREYS > 99), "TIFF", compression="group4")
    yield case("packed as a fax", fax, picture=np.where(IN_GREY > 99, 255, 0))
    yield case("of many pages", encode(IMAGE, "TIFF", save_all=True, append_images=[flat] * 30))
    yield case("of the big kind", encode(IMAGE, "TIFF", big_tiff=True))
    floats = GREYS.astype(np.float32)
    floats[0] = np.nan
    yield case(
        "of floats and no numbers",
        encode(Image.fromarray(floats), "TIFF"),
        picture=IN_GREY * (floats[..., None] == floats[..., None]),
    )
    yield case("in cmyk", encode(IMAGE.convert("CMYK"), "TIFF"), off=3)
    grey = GREYS[:32, :32].copy()
    tiles = b"".join(grey[top : top + 16, left : left + 16].tobytes() for top in (0, 16) for left in (0, 16))
    ends = struct.pack("<4I", 8, 264, 520, 776), struct.pack("<4I", *[256] * 4)
    plan: list[Tag] = [(322, 3, 1, 16), (323, 3, 1, 16), (324, 4, 4, ends[0]), (325, 4, 4, ends[1])]
    yield case("in tiles", _grey_tiff(32, 1, *plan, data=tiles), picture=grey[:, :, None].repeat(3, axis=2))
    side = 26_000
    bomb = _zeros(side * side)
    vast: list[Tag] = [(322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, 8), (325, 4, 1, len(bomb))]
    yield case("of one tile far larger than its picture", _grey_tiff(16, 8, *vast, data=bomb), "refused")
    strip: list[Tag] = [(278, 4, 1, 16), (273, 4, 1, 8), (279, 4, 1, len(bomb))]
    yield case("with a strip that swells", _grey_tiff(16, 8, *strip, data=bomb), picture=np.zeros((16, 16, 3)))
    count, side = 200_000, 2000
    again = struct.pack("<I", 8) * count, struct.pack("<I", side * (side - 1)) * count
    overlapping: list[Tag] = [(278, 4, 1, side - 1), (273, 4, count, again[0]), (279, 4, count, again[1])]
    yield case(
        "of thousands of strips over each other", _grey_tiff(side, 1, *overlapping, data=bytes(side * side)), "refused"
    )
    heap: list[Tag] = [(40_000 + number, 7, 500_000, struct.pack("<I", 8)) for number in range(5000)]
    one: list[Tag] = [(278, 4, 1, 16), (273, 4, 1, 8), (279, 4, 1, 256)]
    yield case("whose entries overlap", _grey_tiff(16, 1, *one, *heap, data=bytes(500_000)), "refused")
    table = struct.unpack_from("<I", sound, 4)[0]
    behind = table + 2 + 12 * struct.unpack_from("<H", sound, table)[0]
    itself = sound[:behind] + struct.pack("<I", table) + sound[behind + 4 :]
    yield case("whose first page is itself the next", itself)
    yield case("with its table beyond the end", sound[:4] + struct.pack("<I", 2**31) + sound[8:], "refused")
    yield case(
        "with an entry beyond the end", _grey_tiff(16, 1, *one[:1], (273, 4, 2**30, b"\xff" * 4), data=b""), "refused"
    )
    yield case("of 60000 by 60000 pixels by its header", _grey_tiff(60_000, 8, *strip, data=bomb[:999]), "refused")


def _bmp(width: int, height: int, bits: int, packing: int, palette: bytes, data: bytes, header: int = 40) -> bytes:
    start = 54 + len(palette)
    sizes = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, packing, len(data), 0, 0, len(palette) // 4, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + sizes + palette + data


def _bmps_and_ppms() -> Iterator[Case]:
    bmp, ppm = _kinds("bmp", "photo.bmp"), _kinds("ppm", "photo.ppm")
    yield bmp("plain", encode(IMAGE, "BMP"))
    yield bmp("from top to bottom", _bmp(48, -32, 24, 0, b"", PICTURE[:, :, ::-1].tobytes()))
    green = b"".join(bytes([0, number, 0, 0]) for number in range(256))
    rows = b"".join(bytes([48, row * 8, 0, 0]) for row in range(31, -1, -1)) + b"\0\1"
    ramp = np.zeros((32, 48, 3), np.uint8)
    ramp[:, :, 1] = (np.arange(32) * 8)[:, None]
    yield bmp("in runs", _bmp(48, 32, 8, 1, green, rows), picture=ramp)
    yield bmp("in runs that leap 16 GB", _bmp(60_000_000, 1, 8, 1, green, b"\0\2\xff\xff\0\1"), "refused")
    yield bmp("in runs of one pixel", _bmp(8000, 8000, 8, 1, green, b"\1\5" * 500_000), "refused")
    yield bmp("with an absurd header", _bmp(48, 32, 24, 0, b"", b"", header=2**31), "refused")
    yield bmp("of no bits", _bmp(48, 32, 0, 0, b"", bytes(99)), "refused")
    yield bmp("of 2 billion pixels a side", _bmp(2**31 - 1, 2**31 - 1, 24, 0, b"", b""), "refused")
    yield bmp("of no width", _bmp(0, 32, 24, 0, b"", b""), "refused")
    yield bmp(
        "with a palette of 4 billion colours",
        _bmp(4, 4, 8, 0, b"", bytes(16)).replace(bytes(8), b"\xff" * 8),
        "refused",
    )
    yield ppm("plain", encode(IMAGE, "PPM"))
    yield ppm("in words", b"P3\n2 1 255\n1 2 3 4 5 6\n", "refused")
    yield ppm("in words, all comments", b"P3\n2 1 255\n" + b"#\n" * 500_000, "refused")
    yield ppm("of odd depth", b"P5 2 1 100\n" + bytes([0, 100]), picture=np.array([[[0] * 3, [255] * 3]]))
    yield ppm("of odd depth and 1.1 megapixels", b"P5 1100 1000 100\n" + bytes(1_100_000), "refused")


def _large() -> Iterator[Case]:
    """Honest photos at the limits, and just over them."""
    side = 8000

    def flat(height: int, width: int, value: int) -> Array:
        return np.broadcast_to(np.uint8(value), (height, width, 3))

    pixels = chunk(b"IDAT", _zeros(side * (4 * side + 1)))
    yield Case(
        "large png of 64 megapixels with alpha",
        "large.png",
        png(side, side, 8, 6, pixels),
        picture=flat(side, side, 255),
    )
    deep = chunk(b"IDAT", _zeros(side * (2 * side + 1)))
    yield Case(
        "large png of 64 megapixels and 16 bits", "large.png", png(side, side, 16, 0, deep), picture=flat(side, side, 0)
    )
    lying = _after_start(_jpeg_of_scans(7000, 0), _segment(0xE1, exif_of(6)))
    yield Case("large jpeg of 49 megapixels, progressive and turned", "large.jpg", lying, picture=flat(7000, 7000, 128))
    yield Case("large jpeg of 52 megapixels, progressive", "large.jpg", _jpeg_of_scans(7200, 0), "refused")
    floats = _zeros(4 * 7000 * 7000)
    entries: list[Tag] = [
        *((256, 4, 1, 7000), (257, 4, 1, 7000), (258, 3, 1, 32), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)),
        *((278, 4, 1, 7000), (273, 4, 1, 8), (279, 4, 1, len(floats)), (339, 3, 1, 3)),
    ]
    yield Case(
        "large tiff of 49 megapixels of floats", "large.tif", _tags(entries, floats), picture=flat(7000, 7000, 0)
    )
    webp = encode(Image.new("RGBA", (5400, 5400), (*RED, 255)), "WEBP", lossless=True, quality=0, method=0)
    red = np.broadcast_to(np.array(RED, np.uint8), (5400, 5400, 3))
    yield Case("large webp of 29 megapixels with alpha", "large.webp", webp, picture=red)
    yield Case(
        "large webp of 31 megapixels by its header",
        "large.webp",
        webp[:21] + struct.pack("<I", 5599 | 5599 << 14) + webp[25:],
        "refused",
    )
    yield Case("large png of 64 megapixels and a row", "large.png", png(side, side + 1, 8, 0, pixels), "refused")


def _not_photos() -> Iterator[Case]:
    files = {
        "nothing.jpg": b"",
        "byte.jpg": b"\xff",
        "zero.png": b"\0",
        "text.jpg": b"Dear Sir or Madam,\nplease find enclosed my photo.\n",
        "page.html": b"<!DOCTYPE html><html><body><img src='photo.jpg'></body></html>",
        "page.png": b"<!DOCTYPE html><html><body><script>alert(1)</script></body></html>",
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "entities.svg": b'<!DOCTYPE svg [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><svg>&b;</svg>',
        "paper.pdf": b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<<>>\n%%EOF\n",
        "photos.zip": _zip(),
        "photo.zip.jpg": _zip("../../photo.jpg", _jpeg()),
        "script.sh": b"#!/bin/sh\nrm -rf photos\n",
        "program.exe": b"MZ\x90\0" + bytes(200),
        "program": b"\x7fELF\2\1\1" + bytes(200),
        "clip.mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(200),
        "clip.webm": b"\x1aE\xdf\xa3" + bytes(200),
        "photo.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
        "photo.jp2": encode(IMAGE, "JPEG2000"),
        "photo.psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 32, 48, 8, 3) + bytes(200),
        "photo.ico": encode(Image.new("RGB", (16, 16)), "ICO"),
        "photo.icns": b"icns" + struct.pack(">I", 16) + b"ic07" + struct.pack(">I", 8),
        "photo.tga": encode(IMAGE, "TGA"),
        "photo.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(photo) show\n",
        "photo.raw": b"II*\0" + bytes(200),
        "photo.dng": b"MM\0*\0\0\0\x08\0\0",
        "song.mp3": b"ID3\4" + bytes(200),
        "riff.webp": b"RIFF\xff\xff\xff\xffWAVEfmt " + bytes(200),
        "pickle.jpg": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        "array.npy": _npy(GREYS),
        "noise.jpg": random.Random(3).randbytes(5000),
        "zeros.bmp": bytes(100_000),
    }
    for name, data in files.items():
        yield Case(f"no photo: {name}", name, data, "refused")


def sound_files(picture: Image.Image = IMAGE) -> dict[str, bytes]:
    """A picture in every format, by file name; HEIC, which nothing here can write, is always of `PICTURE`."""
    return {
        "photo.jpg": encode(picture, "JPEG", exif=exif_of(1)),
        "progressive.jpg": encode(picture, "JPEG", progressive=True),
        "photo.png": encode(picture, "PNG"),
        "palette.png": encode(picture.quantize(16), "PNG", transparency=3),
        "deep.png": encode(picture.convert("I;16"), "PNG"),
        "photo.webp": encode(picture, "WEBP"),
        "lossless.webp": encode(picture, "WEBP", lossless=True),
        "photo.gif": encode(picture.quantize(256), "GIF"),
        "animated.gif": encode(picture.quantize(16), "GIF", save_all=True, append_images=[picture.rotate(90)]),
        "photo.bmp": encode(picture, "BMP"),
        "photo.tif": encode(picture, "TIFF"),
        "packed.tif": encode(picture, "TIFF", compression="tiff_deflate"),
        "photo.ppm": encode(picture, "PPM"),
        "photo.heic": heic(QUADRANTS),
        "photo.avif": encode(picture, "AVIF", max_threads=1),
    }


def _damaged() -> Iterator[Case]:
    """Every format with flipped bits; `test_reading` cuts them at any length."""
    for name, data in sound_files().items():
        for number in range(6):
            chance = random.Random(f"{name} {number}")
            flipped = bytearray(data)
            for _ in range(1 + 3 * (number % 2)):
                flipped[chance.randrange(min(len(data), chance.choice((60, 400, len(data)))))] ^= 1 << chance.randrange(
                    8
                )
            yield Case(f"{name} with flipped bits {number}", name, bytes(flipped), "either")


# Masks ---------------------------------------------------------------------------------------------------------------

LABELS = (np.arange(32 * 48) % 7).astype(np.uint8).reshape(32, 48)


def _npy(array: Array, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


def _npy_header(header: str, body: bytes = bytes(64)) -> bytes:
    text = header.encode().ljust(-(-(len(header) + 11) // 64) * 64 - 11) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + body


def _masks() -> Iterator[Case]:
    def case(kind: str, data: bytes, verdict: Verdict = "shown", name: str = "mask.npy") -> Case:
        return Case(f"mask {kind}", name, data, verdict, None if verdict == "refused" else LABELS, door="mask")

    def claims(shape: str, kind: str = "'|u1'") -> bytes:
        return _npy_header(f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}")

    indexed = Image.fromarray(LABELS)
    indexed.putpalette([*RED, *GREEN, *BLUE] * 8)
    yield case("indexed png", encode(indexed, "PNG"), name="mask.png")
    yield case("grey png", encode(Image.fromarray(LABELS), "PNG"), name="mask.png")
    yield case("gif", encode(indexed, "GIF"), name="mask.gif")
    yield case("png named as a jpeg", encode(indexed, "PNG"), name="mask.jpg")
    small = np.zeros((5, 7), np.uint8)
    for kind, name, data in (("png", "png", encode(Image.fromarray(small), "PNG")), ("array", "npy", _npy(small))):
        yield Case(f"mask of another size, {kind}", f"mask.{name}", data, picture=small, door="mask")
    yield case("png of colours", encode(IMAGE, "PNG"), "refused", "mask.png")
    deep = LABELS.astype(np.uint16)
    yield case("png of 16 bits", encode(Image.fromarray(deep), "PNG"), name="mask.png")
    yield case("png of 16 bits, stretched", encode(Image.fromarray(deep * 257), "PNG"), "refused", "mask.png")
    tree = Hierarchy.default()
    colors = [(0, 0, 0)] + [tree.colors[tree.labels.index(label)] for label in range(1, 7)]
    rendered = np.array(colors, np.uint8)[LABELS]
    dropped = Image.fromarray(6 - LABELS)
    dropped.putpalette(np.array(colors[::-1], np.uint8).tobytes())
    yield case("indexed png in another order", encode(dropped, "PNG"), name="mask.png")
    yield case("png in the tree's colours", encode(Image.fromarray(rendered), "PNG"), name="mask.png")
    mixed = rendered ^ (LABELS == 5)[:, :, None].astype(np.uint8)
    yield case("png in the tree's colours and another", encode(Image.fromarray(mixed), "PNG"), "refused", "mask.png")
    two = Image.fromarray((LABELS > 3).astype(np.uint8))
    two.putpalette([0, 0, 0, 255, 255, 255])
    yield case("indexed png in black and white", encode(two, "PNG"), "refused", "mask.png")
    yield case("png of one bit", encode(Image.fromarray(LABELS > 3), "PNG"), "refused", "mask.png")
    yield case("png with alpha", encode(IMAGE.convert("LA"), "PNG"), "refused", "mask.png")
    yield case(
        "png of 20000 by 20000 pixels by its header", png(20_000, 20_000, 8, 0, idat(b"")), "refused", "mask.png"
    )
    yield case("png with exif whose entries overlap", encode(indexed, "PNG", exif=_exif_bomb()), name="mask.png")
    yield case(
        "tiff whose entries overlap", next(c.data for c in _tiffs() if "entries" in c.kind), "refused", "mask.tif"
    )
    yield case("jpeg", _jpeg(Image.fromarray(LABELS)), "refused", "mask.jpg")
    yield case("empty png", b"", "refused", "mask.png")
    yield case("png that is an array", _npy(LABELS), name="mask.png")
    for name in ("u1", "<i8", ">i2", "<u4"):
        yield case(f"array of {name}", _npy(LABELS.astype(name)))
    yield case("array in Fortran's order", _npy(np.asfortranarray(LABELS)))
    yield case("array of version 2", _npy(LABELS, (2, 0)))
    yield case("array of version 3", _npy(LABELS, (3, 0)))
    yield case("array of version 9", b"\x93NUMPY\x09\0" + _npy(LABELS)[8:], "refused")
    yield case("array with more behind it", _npy(LABELS) + bytes(999))
    broken = LABELS.astype(np.float32)
    broken[3, 4] = np.nan
    for kind, array in {
        "no numbers": broken,
        "floats that are whole": LABELS.astype(np.float64),
        "truth values": LABELS > 3,
        "complex numbers": LABELS.astype(np.complex64),
        "words": LABELS.astype("U1"),
        "time spans": LABELS.astype("m8[s]"),
        "records": np.zeros((3, 4), [("label", "u1"), ("score", "f4")]),
        "negative numbers": LABELS.astype(np.int8) - 1,
        "numbers beyond 255": LABELS.astype(np.int16) + 254,
        "three dimensions": LABELS[:, :, None],
        "one dimension": LABELS.ravel(),
        "no dimension": np.array(3, np.uint8),
        "no pixels": LABELS[:0],
    }.items():
        yield case(f"array of {kind}", _npy(array), "refused")
    mark = LeavesAMark("unpickled")  # where the process runs
    file = io.BytesIO()
    np.save(file, np.array([[mark]], object), allow_pickle=True)
    yield case("array of objects", file.getvalue(), "refused")
    yield case("pickle", pickle.dumps(mark), "refused")
    yield case("pickle as a png", pickle.dumps(mark), "refused", "mask.png")
    yield case("array of 80 GB by its header", claims("(100000, 100000)", "'<i8'"), "refused")
    yield case("array of a negative side", claims("(-1, 64)"), "refused")
    yield case("array of two negative sides", claims("(-8, -8)"), "refused")
    yield case("array of a side beyond all numbers", claims(f"({10**30}, 1)"), "refused")
    yield case("array of arrays", claims("(2, 2)", "('|u1', (4, 4))"), "refused")
    yield case("array with code for its header", _npy_header("__import__('os').mkdir('run')"), "refused")
    yield case("array with a header of brackets", _npy_header("(" * 5000), "refused")
    yield case("array with half a header", _npy(LABELS)[:40], "refused")
    yield case("array cut short", _npy(LABELS)[:-1], "refused")
    yield case("array with no header", b"\x93NUMPY", "refused")
    yield case("empty array", b"", "refused")
    file = io.BytesIO()
    np.savez(file, mask=LABELS)
    yield case("archive of arrays", file.getvalue(), "refused", "mask.npz")
    yield case("archive of arrays named as one", file.getvalue(), "refused")


# In processes of their own -------------------------------------------------------------------------------------------


def _bounded(case: Case, path: Path) -> dict[str, Any]:
    """Examine a case in this process, from now on bounded."""
    resource.setrlimit(resource.RLIMIT_CPU, (COMPUTING, COMPUTING))
    size, resident = (resource.getpagesize() * int(pages) for pages in Path("/proc/self/statm").read_text().split()[:2])
    room = size + MEMORY - resident
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    started = time.process_time()
    wrong = examine(case, path)
    status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    seconds, megabytes = round(time.process_time() - started, 2), int(status["VmHWM"].split()[0]) >> 10
    return {"wrong": wrong, "seconds": seconds, "megabytes": megabytes}


def _measured(case: Case, path: Path) -> dict[str, Any]:
    """Examine a case in a fork of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.write(writing, json.dumps({"kind": case.kind, **_bounded(case, path)}).encode())
        finally:  # whatever happens, this process is not to go on with what the other does
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    path.unlink(missing_ok=True)
    return json.loads(told) if told else {"kind": case.kind, "wrong": f"its process ended, status {status}"}


def main(folder: Path) -> None:
    """Examine the whole corpus, file by file in a folder."""
    warnings.simplefilter("ignore")
    for case in corpus():
        print(json.dumps(_measured(case, folder / case.name)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
