"""The golden cases: what bert4keras computes from a checkpoint of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hanformer.models import load

FOLDER = Path(__file__).parents[1] / "golden"
CASES = tuple(sorted(path.parent.name for path in FOLDER.glob("*/case.json")))
_HEADS = {"with_pool": "pool", "with_nsp": "nsp", "with_mlm": "lm"}


@dataclass(frozen=True)
class Case:
    """One model of bert4keras: its checkpoint, how it was built, what went in and what came out."""

    name: str

    @property
    def folder(self) -> Path:
        """Where the checkpoint lies."""
        return FOLDER / self.name

    @property
    def said(self) -> dict[str, Any]:
        """How bert4keras was asked to build it."""
        values: dict[str, Any] = json.loads((self.folder / "case.json").read_text(encoding="utf-8"))
        return values

    @property
    def family(self) -> str:
        """bert4keras' word for the model."""
        return str(self.said["bert4keras_model"])

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that it was built with; the GPT and T5 kinds always have theirs."""
        if self.family.startswith(("gpt", "t5", "mt5")):
            return ("lm",)
        return tuple(head for word, head in _HEADS.items() if self.said["kwargs"].get(word))

    def tensors(self) -> dict[str, Tensor]:
        """Inputs and outputs."""
        with np.load(self.folder / "golden.npz") as found:
            return {name: torch.from_numpy(found[name]) for name in found.files}

    def load(self, **more: Any) -> Any:
        """Our model of the checkpoint, as bert4keras computes it."""
        application = self.said["application"]
        return load(
            self.folder,
            family=self.family,
            heads=self.heads,
            convention="bert4keras" if "t5" in self.family else None,
            application=application,
            **more,
        )
