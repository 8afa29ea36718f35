"""A model with a pointer on disk: the Transformer's model folder, and pointer.safetensors in it.

So `hanformer.models.load` opens the folder as it opens any other, and gives the Transformer alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save as to_bytes
from torch import Tensor

from hanformer.arithmetic.pointer import PointerTransformer, SlotPointer, slot_ids
from hanformer.arithmetic.slot_layout import SlotLayout
from hanformer.models import Transformer
from hanformer.train.checkpoint import RunFolder, load_weights, read_tensors
from hanformer.weights.atomic import write_bytes

POINTER_FILE = "pointer.safetensors"
_STACK, _POINTER = "transformer.", "pointer."


class PointerRun(RunFolder):
    """A run whose `best/` is the model folder of the Transformer with the pointer's weights beside it.

    带指针的训练目录：best/ 是普通模型文件夹，指针权重另存一个文件。
    """

    def __init__(self, folder: str | Path, accompany: Callable[[Path], None]) -> None:
        super().__init__(folder)
        self._companions = accompany

    def save_best(self, weights: Mapping[str, Tensor], metrics: Mapping[str, Any]) -> None:
        """Replaces `best/`. Raises UserError where that fails; the previous one is then whole."""

        def accompany(folder: Path) -> None:
            write_pointer(_part(weights, _POINTER), folder)
            self._companions(folder)

        RunFolder(self.folder, accompany).save_best(_part(weights, _STACK), metrics)

    def best(self) -> dict[str, Tensor] | None:
        """The weights in `best/` by their names in the composed model, or None where there are none."""
        stack = super().best()
        if stack is None:
            return None
        pointer = read_tensors(self.folder / "best" / POINTER_FILE)
        return {
            **{f"{_STACK}{name}": tensor for name, tensor in stack.items()},
            **{f"{_POINTER}{name}": tensor for name, tensor in pointer.items()},
        }


def write_pointer(weights: Mapping[str, Tensor], folder: Path) -> None:
    """Writes pointer.safetensors. 写入指针权重。"""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_bytes(folder / POINTER_FILE, to_bytes(tensors))


def load_pointer(transformer: Transformer, layout: SlotLayout, folder: Path) -> PointerTransformer:
    """A Transformer opened from a folder, with the pointer that lies beside it, ready for inference.

    读取指针权重并与模型组合。

    Device and format of numbers are the Transformer's. Raises UserError for a missing, broken or foreign file.
    """
    path = folder / POINTER_FILE
    pointer = SlotPointer(transformer.config.hidden_size, slot_ids(layout))
    load_weights(pointer, read_tensors(path), str(path))
    weight = transformer.embeddings.token.weight
    return PointerTransformer(transformer, pointer.to(weight.device, weight.dtype)).eval()


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
