"""Saving and loading a model with a head that must stop: the model's own folder, with the head in `stop/`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save as to_bytes

from hanformer.errors import UserError
from hanformer.models.checkpoint import read_raw
from hanformer.models.loading import load
from hanformer.models.saving import save
from hanformer.models.self_terminating import TerminatingTransformer
from hanformer.models.transformer import Transformer
from hanformer.nn.layers.self_terminating import NonMonotonic, SelfTerminating
from hanformer.weights.atomic import write_together
from hanformer.weights.source import open_source

FOLDER: Final = "stop"
WEIGHTS_FILE: Final = "stop.safetensors"
DESCRIPTION_FILE: Final = "stop.json"
#: How a termination is called in the file.
KINDS: Final[dict[str, type[SelfTerminating] | type[NonMonotonic]]] = {
    "self-terminating": SelfTerminating,
    "non-monotonic": NonMonotonic,
}


def save_terminating(model: TerminatingTransformer, folder: str | Path) -> None:
    """Writes the model as `save` does, which `load` opens without the head, and the head into a folder beside it.

    保存模型与终止层；不带终止层时可照常读取。

    Raises UserError where the folder cannot be written, or the termination is not one of ours.
    """
    rule = model.stop.termination
    if not isinstance(rule, (SelfTerminating, NonMonotonic)):
        raise UserError(f"expected a SelfTerminating or NonMonotonic head to save, got {type(rule).__name__}")
    name = next(name for name, kind in KINDS.items() if isinstance(rule, kind))
    described = {"termination": name, "epsilon": rule.epsilon, "end_id": model.stop.end_id}
    weights = {name: value.detach().cpu().contiguous() for name, value in model.stop.state_dict().items()}
    save(model.model, folder)
    content = (json.dumps(described, indent=2) + "\n").encode()
    write_together(Path(folder) / FOLDER, {WEIGHTS_FILE: to_bytes(weights), DESCRIPTION_FILE: content})


def load_terminating(
    folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> TerminatingTransformer:
    """Opens what `save_terminating` wrote, ready for inference. 读取带终止层的模型。

    Raises UserError where the folder holds no such model, or its head does not fit.
    """
    place = Path(folder) / FOLDER
    described = read_raw(place / DESCRIPTION_FILE)
    end_id, rule = _termination(place / DESCRIPTION_FILE, described)
    model = load(folder, device=device, dtype=dtype)
    if not isinstance(model, Transformer):
        raise UserError(f"{folder}: expected a model of one stack, found {type(model).__name__}")
    whole = TerminatingTransformer(model, end_id, rule)
    stored = open_source(place / WEIGHTS_FILE)
    expected = {name: value.shape for name, value in whole.stop.state_dict().items()}
    found = {name: torch.Size(stored.info(name).shape) for name in stored.names()}
    if found != expected:
        raise UserError(f"{place / WEIGHTS_FILE}: expected {_shapes(expected)}, found {_shapes(found)}")
    whole.stop.load_state_dict({name: stored.read(name) for name in expected})
    return whole.eval()


def _termination(path: Path, described: Mapping[str, Any]) -> tuple[int, SelfTerminating | NonMonotonic]:
    kind = KINDS.get(str(described.get("termination")))
    epsilon, end_id = described.get("epsilon"), described.get("end_id")
    if kind is None or not isinstance(epsilon, float) or not isinstance(end_id, int):
        raise UserError(
            f"{path}: expected a termination ({' or '.join(KINDS)}), an epsilon and an end_id, got {dict(described)}"
        )
    return end_id, kind(epsilon)


def _shapes(shapes: Mapping[str, torch.Size]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
