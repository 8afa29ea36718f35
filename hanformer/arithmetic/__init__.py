"""Chinese arithmetic word problems: from text to an expression and its exact answer.

中文算术应用题：由题面得到算式与精确答案。
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Public name -> module that holds it; loaded when first used, so that looking at data does not load torch.
_PUBLIC = {
    "DEFAULT": "recipe",
    "DEMO": "recipe",
    "Problem": "records",
    "Recipe": "recipe",
    "Solution": "solver",
    "Solver": "solver",
    "evaluate": "evaluation",
    "load_solver": "training",
    "open_data": "data_sets",
    "read_problems": "records",
    "train": "training",
}

__all__ = [
    "DEFAULT",
    "DEMO",
    "Problem",
    "Recipe",
    "Solution",
    "Solver",
    "evaluate",
    "load_solver",
    "open_data",
    "read_problems",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'hanformer.arithmetic' has no attribute {name!r}")
    return getattr(import_module(f"hanformer.arithmetic.{_PUBLIC[name]}"), name)
