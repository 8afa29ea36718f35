"""Models that write, on disk: opened with the head that must stop where one lies beside the weights.

可生成文本的模型的读写：若权重旁有终止层则一并读取。
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save as to_bytes

from hanformer.errors import UserError
from hanformer.models.checkpoint import STOP_FILE, STOP_WEIGHTS_FILE, LeftOut, read_raw, weights_folder
from hanformer.models.loading import Model, load
from hanformer.models.saving import own_files, write_model
from hanformer.models.self_terminating import TerminatingTransformer
from hanformer.nn.layers.self_terminating import NonMonotonic, SelfTerminating
from hanformer.weights.atomic import write_bytes
from hanformer.weights.source import open_source

WritingModel = Model | TerminatingTransformer
"""What writes text. 可生成文本的模型。"""

#: How a termination is called in files and recipes.
KINDS: Final[dict[str, type[SelfTerminating] | type[NonMonotonic]]] = {
    "self_terminating": SelfTerminating,
    "non_monotonic": NonMonotonic,
}


def load_writing(
    path: str | Path,
    *,
    family: str | None = None,
    application: str | None = None,
    heads: Sequence[str] | None = None,
    config: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Any:
    """`load` for models that write: a head that must stop, where one lies beside the weights, comes with them.

    打开可生成文本的模型；若旁边有终止层，返回带终止层的模型。

    Returns what `load` gives, or a `TerminatingTransformer` of it. Raises UserError as `load` does, and where the head
    is incomplete or does not fit.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeftOut)
        model = load(
            path,
            family=family,
            application=application,
            heads=heads,
            config=config,
            changes=changes,
            device=device,
            dtype=dtype,
        )
    folder = weights_folder(path)
    found = [name for name in (STOP_FILE, STOP_WEIGHTS_FILE) if (folder / name).is_file()]
    return _with_head(model, folder) if found else model


def stack_of(model: Any) -> Any:
    """The model without its head that must stop. 去掉终止层的模型。"""
    return model.transformer if isinstance(model, TerminatingTransformer) else model


def save_terminating(model: TerminatingTransformer, folder: str | Path) -> None:
    """Writes the model as `save` does, which `load` opens without the head, and the head beside it.

    保存模型与终止层；不带终止层时可照常读取。

    Raises UserError where the folder cannot be written, or the termination is not one of ours.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in model.stop.state_dict().items()}
    head = {STOP_WEIGHTS_FILE: to_bytes(weights), STOP_FILE: _described(model)}
    # The head comes first: a kill in between never leaves a model that seems to have none.
    write_model(folder, {**head, **own_files(model.transformer)})


def write_termination(model: TerminatingTransformer, folder: Path) -> None:
    """Writes stop.json alone: what kind of head it is. 写入终止层的说明。"""
    write_bytes(folder / STOP_FILE, _described(model))


def _described(model: TerminatingTransformer) -> bytes:
    rule = model.stop.termination
    if not isinstance(rule, (SelfTerminating, NonMonotonic)):
        raise UserError(f"expected a SelfTerminating or NonMonotonic head to save, got {type(rule).__name__}")
    values = {
        "termination": next(name for name, kind in KINDS.items() if isinstance(rule, kind)),
        "epsilon": rule.epsilon,
        "end_id": model.stop.end_id,
        "counts_prompt": model.counts_prompt,
    }
    return (json.dumps(values, indent=2) + "\n").encode()


def _with_head(model: Any, folder: Path) -> TerminatingTransformer:
    """The model within the head of its folder."""
    if not isinstance(model, Model):
        raise UserError(
            f"{folder}: a head that must stop belongs to a Transformer, not to {type(model).__name__}"
        )
    whole = _terminating(model, folder / STOP_FILE)
    stored = open_source(folder / STOP_WEIGHTS_FILE)
    expected = {name: value.shape for name, value in whole.stop.state_dict().items()}
    found = {name: torch.Size(stored.info(name).shape) for name in stored.names()}
    if found != expected:
        raise UserError(f"{folder / STOP_WEIGHTS_FILE}: expected {_shapes(expected)}, found {_shapes(found)}")
    whole.stop.load_state_dict({name: stored.read(name) for name in expected})
    return whole.eval()


def _terminating(model: Model, path: Path) -> TerminatingTransformer:
    """The model within a new head of the described kind."""
    if not path.is_file():
        raise UserError(
            f"{path}: is missing beside {STOP_WEIGHTS_FILE}; write what run.toml says of the head, such as "
            '{"termination": "non_monotonic", "epsilon": 0.001, "end_id": 3}, or train again'
        )
    described = read_raw(path)
    kind = KINDS.get(str(described.get("termination")))
    epsilon, end_id = described.get("epsilon"), described.get("end_id")
    counts = described.get("counts_prompt", False)
    if kind is None or not isinstance(epsilon, float) or type(end_id) is not int or type(counts) is not bool:
        raise UserError(
            f"{path}: expected a termination ({' or '.join(KINDS)}), an epsilon, an end_id and counts_prompt, "
            f"got {described}"
        )
    return TerminatingTransformer(model, end_id, kind(epsilon), counts_prompt=counts)


def _shapes(shapes: Mapping[str, torch.Size]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
