"""A coverage-guided fuzz of `open_photo` and `open_label_map`: `python -m tests.fuzz --seconds 600`.

It starts from the small files of `tests.hostile` and changes them at random. A file that takes a new path through the
Python code of Pillow, NumPy or hierseg is kept and changed further. Paths through decoders in C are not seen, but their
memory is limited too. A file is a failure if it gives neither a picture nor a plain error message, or exceeds a limit.
Limits count steps through code, not seconds, so that failures are the same on every machine. The file being opened is
always in the folder of failures, where it stays if the process crashes or hangs. The same seed and number of executions
give the same run.

Not Atheris: it needs a special build of Python. Not Hypothesis's `target`: it maximises scores and keeps no corpus.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import random
import resource
import struct
import sys
import time
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import PIL

from hierseg.photo import PhotoError, is_animated, label_map, open_photo, reading
from hierseg.photo.label_map import LabelMapError, open_label_map
from hierseg.tree import Hierarchy
from tests.hostile import complaint, corpus

Way = tuple[CodeType, int, int]  # a step from one line of a function to another

LARGEST_SEED = 4096  # bytes
PIXELS = 1_000_000  # instead of 64 million: the bounds below are as much tighter, and many more files are tried
STEPS = 1_000_000  # from line to line a file
GROWTH = 150 * 2**20  # bytes of memory a file
HANG = 120  # seconds after which the process ends itself
TRACED = (
    str(Path(PIL.__file__).parent),
    str(Path(reading.__file__).parent),
    str(Path(np.lib.__file__ or "").parent / "_format_impl"),
)
NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 1000, 32_767, 32_768, 65_535, 65_536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


@dataclass
class Fuzzer:
    """The state of a run.

    Attributes:
        failures: Folder of files that failed.
        chance: The random generator.
        entries: Files to change further: a name, which decides what opens it, and bytes.
        ways: All paths taken so far.
        executions: Number of files opened.
        failed: Number of files that failed.
    """

    failures: Path
    chance: random.Random
    entries: list[tuple[str, bytes]] = field(default_factory=list)
    ways: set[Way] = field(default_factory=set)
    executions: int = 0
    failed: int = 0

    def seed(self) -> None:
        """Start from the corpus."""
        for case in corpus():
            if len(case.data) <= LARGEST_SEED:
                self.run(("mask-" if case.door == "mask" else "photo-") + case.name, case.data)

    def step(self) -> None:
        """Change one entry and open it; the newest are changed most."""
        newest = self.chance.random() < 0.5
        name, data = self.chance.choice(self.entries[-50:] if newest else self.entries)
        _, other = self.chance.choice(self.entries)
        self.run(name, _changed(data, other, self.chance))

    def run(self, name: str, data: bytes) -> None:
        """Open a file, judge the result, and keep the file if it took a new path."""
        path = self.failures / name
        path.write_bytes(data)
        ways: Counter[Way] = Counter()
        memory = _peak()
        sys.settrace(_tracer(ways))
        try:
            wrong = _judge(path)
        finally:
            sys.settrace(None)
        steps, growth = ways.total(), _peak() - memory
        self.executions += 1
        if not wrong and (steps > STEPS or growth > GROWTH):
            wrong = f"it took {steps} steps and {growth >> 20} MB"
        if wrong:
            self.failed += 1
            kept = self.failures / f"{hashlib.sha256(data).hexdigest()[:12]}-{name}"
            kept.write_bytes(data)
            print(f"{kept}: {wrong}", flush=True)
        path.unlink()
        if ways.keys() - self.ways:
            self.ways |= ways.keys()
            self.entries.append((name, data))


def _judge(path: Path) -> str:
    try:
        if path.name.startswith("mask-"):
            opened = open_label_map(path, Hierarchy.default())
            fits = opened.ndim == 2
        else:
            opened = open_photo(path)
            is_animated(path.read_bytes())
            fits = opened.ndim == 3 and opened.shape[2] == 3
    except (PhotoError, LabelMapError) as refusal:
        # Whoever sends a file chose its name.
        return complaint(str(refusal).replace(path.name, "It"))
    except BaseException as error:
        return f"{type(error).__name__} came through: {error}"
    sound = fits and opened.dtype == np.uint8 and opened.size and opened.flags.c_contiguous and opened.flags.writeable
    return "" if sound else f"it became {opened.dtype} {opened.shape}"


def _peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _tracer(ways: Counter[Way]) -> Any:
    def on_call(frame: FrameType, event: str, _: Any) -> Any:
        code, before = frame.f_code, 0
        if not code.co_filename.startswith(TRACED):
            return None

        def on_line(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal before
            if event == "line":
                ways[code, before, frame.f_lineno] += 1
                before = frame.f_lineno
            return on_line

        return on_line

    return on_call


def _changed(data: bytes, other: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at = chance.randrange(min(len(changed) + 1, chance.choice((16, 64, 300, len(changed) + 1))))
        length = chance.choice((1, 2, 4, 8, 12, 40))
        what = chance.randrange(7)
        if what == 0 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif what == 1 and at < len(changed):
            changed[at] = chance.randrange(256)
        elif what == 2:
            number = chance.choice((*NUMBERS, len(changed)))
            packed = struct.pack(chance.choice("<>") + "Q", number)
            size = chance.choice((2, 4))
            changed[at : at + size] = packed[:size] if packed[0] or not packed[-1] else packed[-size:]
        elif what == 3:
            del changed[at : at + length]
        elif what == 4:
            changed[at:at] = changed[at : at + length] * chance.choice((1, 1, 2, 50))
        elif what == 5:
            start = chance.randrange(len(other) + 1)
            changed[at : at + length] = other[start : start + length]
        elif what == 6:
            changed[at:] = other[chance.randrange(len(other) + 1) :]
    return _with_checksums(bytes(changed)) if chance.random() < 0.9 else bytes(changed)


def _with_checksums(data: bytes) -> bytes:
    """Correct the checksums of a PNG's chunks, without which most changed files fail at once."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    mended, at = bytearray(data), 8
    while at + 12 <= len(mended):
        end = at + 8 + struct.unpack_from(">I", mended, at)[0]
        if end + 4 > len(mended):
            break
        struct.pack_into(">I", mended, end, zlib.crc32(mended[at + 4 : end]))
        at = end + 4
    return bytes(mended)


def main(arguments: list[str] | None = None) -> int:
    """Fuzz for some executions or some seconds; return 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--executions", type=int, default=None, help="10000 unless --seconds is given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--failures", type=Path, required=True, help="folder; made if it is not there")
    options = parser.parse_args(arguments)
    most = options.executions or (10_000 if options.seconds == float("inf") else sys.maxsize)
    options.failures.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    reading.MAX_PIXELS = label_map.MAX_PIXELS = PIXELS
    fuzzer = Fuzzer(options.failures, random.Random(options.seed))
    started = time.monotonic()
    faulthandler.dump_traceback_later(HANG, exit=True)
    fuzzer.seed()
    seeds, first = fuzzer.executions, len(fuzzer.ways)
    while fuzzer.executions < most and time.monotonic() - started < options.seconds:
        faulthandler.dump_traceback_later(HANG, exit=True)  # anew, from now on
        fuzzer.step()
    faulthandler.cancel_dump_traceback_later()
    print(
        f"{fuzzer.executions} executions, {seeds} of them seeds; {first} ways from the seeds, "
        f"{len(fuzzer.ways) - first} new; {len(fuzzer.entries)} files kept; {fuzzer.failed} failures"
    )
    return int(fuzzer.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
