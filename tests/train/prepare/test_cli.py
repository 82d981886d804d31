"""Tests of train.prepare.cli: the options of a command line reach the source's function."""

from __future__ import annotations

import argparse
import inspect
from importlib import import_module

import pytest

from train.prepare.cli import add_sources

REQUIRED = {
    "pascal": ("--photos", "--annotations", "--out"),
    "coco": ("--images", "--annotations", "--out"),
    "clothing": ("--photos", "--annotations", "--out"),
    "nobody": ("--photos", "--out"),
}


@pytest.mark.parametrize("source", REQUIRED)
def test_the_options_of_a_source_are_the_arguments_of_its_prepare(source: str) -> None:
    parser = argparse.ArgumentParser()
    add_sources(parser)
    options = parser.parse_args([source, *(word for option in REQUIRED[source] for word in (option, "folder"))])
    taken = inspect.signature(import_module(f"train.prepare.{source}").prepare).parameters
    assert vars(options).keys() - {"run", "source"} == set(taken)
