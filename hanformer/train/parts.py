"""Models of several parts on disk: the Transformer as a model folder, each other part in a file of its own.

So `hanformer.load` opens the folder as it opens any other, and gives the Transformer alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from hanformer.train.checkpoint import RunFolder, load_weights, read_tensors, weights_of
from hanformer.weights.atomic import write_bytes

STACK = "transformer"


class PartsRun(RunFolder):
    """A run whose `best/` is the model folder of the part named `transformer`; every other part of the model, such as
    `pointer`, is written as pointer.safetensors beside it.

    由若干部分组成的模型的训练目录：best/ 是其 transformer 的模型文件夹，其余部分各存一个文件。
    """

    def __init__(self, folder: str | Path, accompany: Callable[[Path], None] | None = None) -> None:
        super().__init__(folder)
        self._companions = accompany

    def save_best(self, weights: Mapping[str, Tensor], metrics: Mapping[str, Any]) -> None:
        """Replaces `best/`. Raises UserError where that fails; the previous one is then whole."""

        def accompany(folder: Path) -> None:
            for part in _parts(weights) - {STACK}:
                _write(folder / f"{part}.safetensors", _of_part(weights, part))
            if self._companions is not None:
                self._companions(folder)

        RunFolder(self.folder, accompany).save_best(_of_part(weights, STACK), metrics)

    def best(self) -> dict[str, Tensor] | None:
        """The weights in `best/` by their names in the whole model, or None where there are none."""
        stack = super().best()
        if stack is None:
            return None
        files = sorted((self.folder / "best").glob("*.safetensors"))
        named = {file.stem: read_tensors(file) for file in files if file.stem != "model"}
        return {
            f"{part}.{name}": tensor
            for part, tensors in {STACK: stack, **named}.items()
            for name, tensor in tensors.items()
        }


def load_part(module: nn.Module, part: str, folder: Path) -> None:
    """Copies PART.safetensors of a folder into a module.

    读取模型某一部分的权重。

    Raises UserError for a missing, broken or foreign file.
    """
    path = folder / f"{part}.safetensors"
    load_weights(module, read_tensors(path), str(path))


def inherit_part(module: nn.Module, part: str, start_from: str, fits: Callable[[Path], bool]) -> bool:
    """Copies a part from the run that a training starts from, where that has the same one; says whether it had.

    若起点是带有同一部分（如分类层）的训练目录，则沿用其权重。

    `start_from` is a run, or its best/; the same part has the same names and shapes, and `fits` judges by what lies
    beside it, such as the names of classes. Raises UserError for a broken file.
    """
    places = (Path(start_from) / "best", Path(start_from)) if start_from else ()
    folder = next((place for place in places if (place / f"{part}.safetensors").is_file()), None)
    if folder is None or not fits(folder):
        return False
    found, own = read_tensors(folder / f"{part}.safetensors"), weights_of(module)
    if {name: tensor.shape for name, tensor in found.items()} != {n: w.shape for n, w in own.items()}:
        return False
    load_weights(module, found, str(folder))
    return True


def write_part(module: nn.Module, part: str, folder: Path) -> None:
    """Writes a module as PART.safetensors. 写入模型某一部分的权重。"""
    _write(folder / f"{part}.safetensors", module.state_dict())


def _write(path: Path, weights: Mapping[str, Tensor]) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    write_bytes(path, to_bytes(tensors))


def _parts(weights: Mapping[str, Tensor]) -> set[str]:
    return {name.partition(".")[0] for name in weights}


def _of_part(weights: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
