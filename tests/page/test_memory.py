"""The server's heap, as the GNU C library itself describes it, and its garbage, in processes of their own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

with_heaps = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library has such heaps")

DESCRIBE = """
import ctypes, sys, threading
from hierseg.page import memory

def describe():
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    file = ctypes.c_void_p(library.fopen(b"/dev/stdout", b"w"))
    library.malloc_info(0, file)
    library.fclose(file)

def work(together):
    blocks = [bytearray(50_000) for _ in range(50)]
    together.wait()
"""


def described(code: str) -> str:
    return subprocess.run([sys.executable, "-c", DESCRIBE + code], check=True, capture_output=True, text=True).stdout


@with_heaps
@pytest.mark.parametrize("shared", [True, False])
def test_threads_share_a_heap_where_they_are_told_to(shared: bool) -> None:
    code = f"""
if {shared}:
    memory.share_one_heap()
together = threading.Barrier(4)
threads = [threading.Thread(target=work, args=[together]) for _ in range(3)]
for thread in threads:
    thread.start()
together.wait()
for thread in threads:
    thread.join()
describe()
"""
    assert (described(code).count("<heap ") == 1) is shared


@with_heaps
def test_free_memory_goes_back_though_something_above_it_is_in_use() -> None:
    code = """
def held():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

blocks = [bytearray(b"1") * 50_000 for _ in range(2000)]  # small enough for the heap: 100 MB
del blocks[:-1]
before = held()
memory.return_free()
print(before - held())
"""
    assert int(described(code)) > 80_000


def test_garbage_goes_and_what_was_loaded_is_not_looked_at_again() -> None:
    code = """
import gc, weakref

class Node:
    pass

def cycle():
    node = Node()
    node.itself = node
    return weakref.ref(node)

loaded = [Node() for _ in range(1000)]
memory.settle()
gc.disable()
left = cycle()
assert left() is not None
memory.return_free()
print(left(), any(each is loaded[0] for each in gc.get_objects()))
"""
    assert described(code) == "None False\n"


def test_other_libraries_are_left_alone() -> None:
    code = """
ctypes.CDLL = lambda name: object()
memory.share_one_heap()
memory.settle()
print("done")
"""
    assert described(code) == "done\n"
