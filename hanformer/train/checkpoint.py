"""The state of a run on disk, from which it goes on as if it had never stopped.

`last/` holds model.safetensors (the weights that train), state.safetensors (optimiser, averages, random
states) and state.json (counters, options, history); `best/` holds model.safetensors (averaged, if the run
averages) and metrics.json. Both are replaced whole. Nothing in them is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.weights.atomic import atomic_folder, recover_folder
from hanformer.weights.safetensors_files import SafetensorsFile

VERSION = 1
WEIGHTS_FILE = "model.safetensors"
TENSORS_FILE = "state.safetensors"
VALUES_FILE = "state.json"
METRICS_FILE = "metrics.json"


@dataclass
class Progress:
    """Where a run stands: updates done, the place of the next batch, seconds used, and the best validation.

    训练进度：已完成的更新、下一批次的位置、用时与最佳验证结果。
    """

    update: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_update: int = 0
    validations_since_best: int = 0


@dataclass(frozen=True, eq=False)
class TrainState:
    """All that a run needs to go on: its progress, tensors and plain values by name.

    续训所需的全部状态。

    weights: of the model; tensors: "optimizer.*", "average.*", "random.*"; values: JSON (options, optimiser
    groups, loss scale, history, batches in the current epoch).
    """

    progress: Progress
    weights: Mapping[str, Tensor]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names start with `name` and a dot, without it."""
        return {
            key[len(name) + 1 :]: value for key, value in self.tensors.items() if key.startswith(f"{name}.")
        }


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and persistent buffers by name; a tensor that two names share stands under the first.

    模型的参数与缓冲区；共享的张量只保留一份。
    """
    kept: dict[str, Tensor] = {}
    seen: set[tuple[Any, ...]] = set()
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride()) if tensor.numel() else (name,)
        if place not in seen:
            seen.add(place)
            kept[name] = tensor
    return kept


@torch.no_grad()
def load_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Copies weights into a model in place, so that the optimiser still holds its parameters.

    把权重原地复制进模型。

    Raises UserError where names or shapes differ: `where` names the file in the message.
    """
    own = weights_of(model)
    check_names(own, weights, where)
    for name, tensor in own.items():
        tensor.copy_(weights[name])


def check_names(own: Mapping[str, Tensor], weights: Mapping[str, Tensor], where: str) -> None:
    """Raises UserError where names or shapes of weights are not those of the model's own.

    检查权重的名称与形状。
    """
    wrong = sorted(own.keys() ^ weights.keys())
    wrong += [name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape]
    if wrong:
        names = ", ".join(wrong[:3])
        raise UserError(
            f"{where}: these weights belong to another model ({names}); use the configuration of the run"
        )


def random_state() -> dict[str, Tensor]:
    """torch's random states: of the CPU, and of each GPU.

    torch 的随机状态。
    """
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda.{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def restore_random_state(states: Mapping[str, Tensor]) -> None:
    """Takes back what `random_state` gave, for the GPUs that are there.

    恢复随机状态。
    """
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            if f"cuda.{index}" in states:
                torch.cuda.set_rng_state(states[f"cuda.{index}"], index)


class RunFolder:
    """A run on disk: `last/` to go on from, `best/` to use.

    磁盘上的训练目录：last/ 用于续训，best/ 用于使用。

    accompany: writes what else makes best/ a model folder (config, tokenizer) into the folder that it is
    given.
    """

    def __init__(self, folder: str | Path, accompany: Callable[[Path], None] | None = None) -> None:
        self.folder = Path(folder)
        self._accompany = accompany

    def save_last(self, state: TrainState) -> None:
        """Replaces `last/`. Raises UserError where that fails; the previous one is then whole."""
        values = {"version": VERSION, "progress": asdict(state.progress), "values": dict(state.values)}
        with atomic_folder(self.folder / "last") as folder:
            (folder / WEIGHTS_FILE).write_bytes(_serialise(state.weights))
            (folder / TENSORS_FILE).write_bytes(_serialise(state.tensors))
            (folder / VALUES_FILE).write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")

    def save_best(self, weights: Mapping[str, Tensor], metrics: Mapping[str, Any]) -> None:
        """Replaces `best/`. Raises UserError where that fails; the previous one is then whole."""
        with atomic_folder(self.folder / "best") as folder:
            text = json.dumps(metrics, ensure_ascii=False, indent=2) + "\n"
            (folder / WEIGHTS_FILE).write_bytes(_serialise(weights))
            (folder / METRICS_FILE).write_text(text, encoding="utf-8")
            if self._accompany is not None:
                self._accompany(folder)

    def last(self) -> TrainState | None:
        """The state in `last/`, or None where the run has none yet.

        Raises UserError for one that is incomplete, broken or of another version.
        """
        folder = self.folder / "last"
        recover_folder(folder)
        if not folder.exists():
            return None
        values = _read_values(folder / VALUES_FILE)
        try:
            return TrainState(
                progress=Progress(**values["progress"]),
                weights=read_tensors(folder / WEIGHTS_FILE),
                tensors=read_tensors(folder / TENSORS_FILE),
                values=values["values"],
            )
        except (KeyError, TypeError):
            raise UserError(_incomplete(folder / VALUES_FILE, "its fields are not those of a run")) from None

    def best(self) -> dict[str, Tensor] | None:
        """The weights in `best/`, or None where there are none."""
        recover_folder(self.folder / "best")
        path = self.folder / "best" / WEIGHTS_FILE
        return read_tensors(path) if path.exists() else None


class FollowedRun:
    """The run of a process that does not lead: it reads what the leader has written, and writes nothing.

    非主进程看到的训练目录：只读。
    """

    def __init__(self, run: RunFolder | MemoryRun) -> None:
        self._run = run

    def save_last(self, state: TrainState) -> None:
        """Nothing: the leader does."""

    def save_best(self, weights: Mapping[str, Tensor], metrics: Mapping[str, Any]) -> None:
        """Nothing in a folder; in memory every process keeps its own."""
        if isinstance(self._run, MemoryRun):
            self._run.save_best(weights, metrics)

    def last(self) -> TrainState | None:
        """What the leader has saved."""
        return self._run.last()

    def best(self) -> dict[str, Tensor] | None:
        """What the leader has saved."""
        return self._run.best()


class MemoryRun:
    """A run without a folder: the best weights are kept in CPU memory, nothing can be resumed.

    不写磁盘的训练：只在内存中保留最佳权重。
    """

    def __init__(self) -> None:
        self._best: dict[str, Tensor] | None = None

    def save_last(self, state: TrainState) -> None:
        """Nothing: there is no folder."""

    def save_best(self, weights: Mapping[str, Tensor], metrics: Mapping[str, Any]) -> None:
        """Keeps a copy of the weights."""
        self._best = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()}

    def last(self) -> TrainState | None:
        """None."""
        return None

    def best(self) -> dict[str, Tensor] | None:
        """The copy, or None."""
        return self._best


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, in memory of their own.

    读取 safetensors 文件。

    Raises UserError where the file is missing or not whole.
    """
    try:
        source = SafetensorsFile(path)
    except UserError as error:
        raise UserError(_incomplete(path, str(error))) from None
    # Copied out of the memory map: the file may be replaced while its tensors are in use.
    return {name: source.read(name).clone() for name in source.names()}


def _read_values(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(_incomplete(path, "it is missing")) from None
    except (OSError, ValueError) as error:
        raise UserError(_incomplete(path, str(error))) from None
    version = values.get("version") if isinstance(values, dict) else None
    if version != VERSION:
        advice = "resume with the version of Hanformer that wrote it, or start in another folder"
        raise UserError(f"{path}: expected a run of version {VERSION}, got {version}; {advice}")
    return dict(values)


def _incomplete(path: Path, reason: str) -> str:
    return f"{path}: incomplete checkpoint ({reason}); put back a copy of the folder, or start in another one"


def _serialise(tensors: Mapping[str, Tensor]) -> bytes:
    return to_bytes({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
