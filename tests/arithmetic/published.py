"""The published data, read once for all tests of this room."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from hanformer.arithmetic.cleaning import Cleaning, clean_all
from hanformer.arithmetic.records import Problem, read_problems
from hanformer.arithmetic.splits import Split, read_split


@cache
def math23k(data_folder: Path) -> Split:
    """Math23K: 22,162 problems to train on, 1,000 to test on."""
    return read_split(data_folder / "math" / "math23k")


@cache
def ape210k(data_folder: Path) -> list[Problem]:
    """Ape210k's 5,000 validation problems."""
    return read_problems(data_folder / "math" / "ape210k" / "valid.ape.json.gz")


@cache
def cleaned_ape210k(data_folder: Path) -> Cleaning:
    """The same, checked by the cleaning rules."""
    return clean_all(ape210k(data_folder))
