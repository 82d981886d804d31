"""Tests, in folders that mirror the source, and their shared helpers."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
CHECKPOINTS = ("bce", "ftm", "leaf")  # those that are published
HANGS = 600  # seconds that only end what hangs; what works on a slow or busy machine takes as long as it takes
