"""The batches of an update whose loss was not a number, kept as a file to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save as to_bytes
from torch import Tensor

from hanformer.train.groups import Group
from hanformer.weights.atomic import write_bytes


@dataclass(frozen=True, eq=False)
class Moment:
    """An update, before it is made, and its micro-batches. 某次更新及其微批次。"""

    update: int
    group: Group[Any]

    def __str__(self) -> str:
        return f"update {self.update} ({self.group.place})"


def save_batches(folder: Path, moment: Moment) -> Path:
    """Writes the micro-batches of an update, those of all workers, as one safetensors file; returns its path.

    把一次更新的全部微批次写成 safetensors 文件。

    Tensors are named by the batch's place in its epoch and the path of fields to it (12.layout.positions); all other
    values stand as JSON under "values" in the file's metadata. Raises UserError where it cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index in range(moment.group.start, moment.group.stop):
        _flatten(str(index), moment.group.batches[index], tensors, values)
    metadata = {
        "update": str(moment.update),
        "epoch": str(moment.group.epoch),
        "values": json.dumps(values, ensure_ascii=False),
    }
    path = folder / f"bad_batch_{moment.update}.safetensors"
    write_bytes(path, to_bytes(tensors, metadata))
    return path


def _flatten(name: str, value: Any, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
    elif is_dataclass(value):
        for entry in fields(value):
            _flatten(f"{name}.{entry.name}", getattr(value, entry.name), tensors, values)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _flatten(f"{name}.{key}", item, tensors, values)
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            _flatten(f"{name}.{place}", item, tensors, values)
    else:
        values[name] = value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
