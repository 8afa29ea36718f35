"""Hanformer: a small, exact, fast toolkit for Chinese Transformers.

Hanformer：小巧、精确、快速的中文 Transformer 工具箱。
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Public name -> module that holds it; loaded when first used, so that `import hanformer` stays light.
_PUBLIC = {
    "ModelConfig": "hanformer.config",
    "UserError": "hanformer.errors",
    "build": "hanformer.models",
    "convert": "hanformer.tasks.conversion",
    "encode": "hanformer.similarity.encode",
    "fill_mask": "hanformer.tasks.fill_mask",
    "generate": "hanformer.tasks.generation",
    "inspect": "hanformer.tasks.inspection",
    "export": "hanformer.models.exporting",
    "load": "hanformer.models",
    "load_tokenizer": "hanformer.text.load",
    "prepacked": "hanformer.nn.layers.prepacked",
    "save": "hanformer.models",
}

__all__ = [
    "ModelConfig",
    "UserError",
    "__version__",
    "build",
    "convert",
    "encode",
    "export",
    "fill_mask",
    "generate",
    "inspect",
    "load",
    "load_tokenizer",
    "prepacked",
    "save",
]


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'hanformer' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
