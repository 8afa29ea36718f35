"""The seam between a trainer and the processes that share its work: here, one process that does all of it.

Several processes are started by `torchrun` or `accelerate launch`; `working_together` finds them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.train.checkpoint import load_weights, random_state, restore_random_state, weights_of
from hanformer.train.groups import Group
from hanformer.train.objective import Loss, Objective

Batch = TypeVar("Batch")
Result = TypeVar("Result")

#: How long the others wait for what the leader makes of a large text.
_PATIENCE = timedelta(days=7)
#: What a launcher tells each of its processes.
SIZE, RANK, LOCAL_RANK = "WORLD_SIZE", "RANK", "LOCAL_RANK"


class Workers:
    """One process alone; the subclasses share an update among several, so that each computes what one would.

    单进程；子类把一次更新分给多个进程，结果与单进程一致。

    rank: this process's number; size: how many there are. All processes call the same methods in the same order.
    """

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    # Beginning

    def divide(self, model: nn.Module, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Parameter groups of the model to those that this process updates."""
        return groups

    def seed(self, seed: int) -> None:
        """Seeds torch, every process in another way."""
        torch.manual_seed(seed + self.rank)

    def first(self, read: Callable[[], Result]) -> Result:
        """Calls in the leader, and in the others after it."""
        return read()

    def watched(self) -> AbstractContextManager[None]:
        """A context in which the loss of another process is a UserError."""
        return nullcontext()

    # One update

    def share(self, group: Group[Batch]) -> Group[Batch]:
        """This process's micro-batches of an update."""
        return replace(group, rank=self.rank, workers=self.size)

    def rounds(self, group: Group[Batch], own: Iterable[Batch]) -> Iterable[Any]:
        """The same micro-batches, and stand-ins where other processes have more."""
        return own

    def loss(self, model: nn.Module, objective: Objective[Batch], batch: Batch) -> Loss:
        """The objective's loss of a micro-batch."""
        return objective(model, batch)

    def agreed(self, count: Tensor) -> Tensor:
        """One divisor for all processes, near their counts."""
        return count

    def summed(self, values: Tensor) -> Tensor:
        """The sum over processes."""
        return values

    def collect(self) -> None:
        """Leaves in the parameters that this process updates the gradient of all processes' losses, summed."""

    def norm(self, gradients: Sequence[Tensor]) -> Tensor:
        """The norm of the whole gradient."""
        return torch.nn.utils.get_total_norm(gradients)

    # Agreement

    def same(self, values: Sequence[float]) -> list[float]:
        """The leader's numbers, in every process."""
        return list(values)

    def any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        return flag

    # State: what is saved is always whole

    def look(self, model: nn.Module, work: Callable[[nn.Module], Result]) -> Result:
        """Calls with a model whose weights are whole."""
        return work(model)

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The whole weights by name, for the leader to save."""
        return weights_of(model)

    def load(self, model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
        """Copies whole weights into the model; raises UserError as `load_weights` does."""
        load_weights(model, weights, where)

    def whole(self, state: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
        """Whole tensors of a state whose names, cut at dots, have a parameter's number at `place`."""
        return dict(state)

    def part(self, state: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
        """What this process keeps of a whole state."""
        return dict(state)

    def random_state(self) -> dict[str, Tensor]:
        """The random states of all processes."""
        return random_state()

    def restore_random_state(self, states: Mapping[str, Tensor]) -> None:
        """Takes back this process's; a process that had none goes on from its seed."""
        restore_random_state(states)


def worker_count() -> int:
    """How many processes a launcher has started, 1 without one; raises UserError for a word. 启动的进程数。"""
    return _number(SIZE, 1)


def device_of_worker(device: torch.device) -> torch.device:
    """A GPU of this process's own where `device` is just "cuda" and there are several processes.

    多进程时，每个进程使用自己的 GPU。
    """
    if worker_count() == 1 or device.type != "cuda" or device.index is not None:
        return device
    own = torch.device("cuda", _number(LOCAL_RANK, 0))
    if own.index >= torch.cuda.device_count():
        raise UserError(
            f"{own}: there are {torch.cuda.device_count()} GPUs for more processes; start one process a GPU"
        )
    torch.cuda.set_device(own)
    return own


@contextmanager
def working_together(device: torch.device, shard: bool = False) -> Iterator[Workers]:
    """The processes that `torchrun` or `accelerate launch` has started, connected while the block lasts.

    连接由 torchrun 或 accelerate launch 启动的各进程。

    shard: divide the weights too (FSDP2), not only the batches. Without a launcher it is one process alone.
    Raises UserError where the processes cannot find each other.
    """
    if worker_count() == 1:
        yield Workers()
        return
    from torch import distributed

    from hanformer.train.replicas import Replicas
    from hanformer.train.shards import Shards

    ours = not distributed.is_initialized()
    if ours:
        _connect(device)
    try:
        yield (Shards if shard else Replicas)(device)
    finally:
        if ours:
            distributed.destroy_process_group()


def made_once(make: Callable[[], Result], find: Callable[[], Result]) -> Result:
    """What the leader makes, and the others find where it has made it; alone, what is made.

    由主进程制作，其他进程等它完成后再读取；单进程时直接制作。

    For files in a run folder, which several processes must not write at once. All must call it at the same places.
    """
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return make()
    waiting = distributed.new_group(backend="gloo", timeout=_PATIENCE)
    try:
        if distributed.get_rank() == 0:
            return make()
    finally:
        distributed.barrier(waiting)
    return find()


def _connect(device: torch.device) -> None:
    from torch import distributed

    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        distributed.init_process_group(backend)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"the workers do not find each other ({_first_line(error)}); start them with "
            "`torchrun --nproc-per-node N -m hanformer train ...` or `accelerate launch`"
        ) from None


def _number(name: str, default: int) -> int:
    word = os.environ.get(name, str(default))
    if not word.isdigit():
        raise UserError(f"{name}: expected the whole number that a launcher sets, got {word!r}")
    return int(word)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
