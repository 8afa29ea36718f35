"""Several processes with a copy of the model each: plain data parallel training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, distributed, nn

from hanformer.errors import UserError
from hanformer.train.checkpoint import random_state, restore_random_state
from hanformer.train.gathering import standing_by
from hanformer.train.groups import Group
from hanformer.train.objective import Loss, Objective
from hanformer.train.workers import Workers

Batch = TypeVar("Batch")
Result = TypeVar("Result")

# Words that errors of the two libraries of communication carry.
_LIBRARIES = ("gloo", "nccl", "process group", "connection", "tcpstore", "socket")


@dataclass(frozen=True, eq=False)
class Idle(Generic[Batch]):
    """Stands in where this process has no micro-batch left: computed, and counted as nothing.

    占位批次：照常计算，但不计入结果。
    """

    batch: Batch


class Replicas(Workers):
    """Micro-batches are dealt out in turn; gradients are summed over processes before the one division by counts.

    数据并行：轮流分配微批次，梯度跨进程求和后再统一除以计数。

    So an update of `size` processes with `accumulate` micro-batches each is that of one process with
    `size * accumulate`, to rounding. Every process validates, saves nothing unless it leads, and stops when any does.
    device: where tensors are exchanged that lie on no device of their own.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self._parameters: list[nn.Parameter] = []

    def divide(self, model: nn.Module, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        self._parameters = [parameter for group in groups for parameter in group["params"]]
        with self.watched(), torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                distributed.broadcast(tensor.detach(), 0)
        return groups

    def first(self, read: Callable[[], Result]) -> Result:
        if not self.leads:
            self._wait()
        try:
            return read()
        finally:
            if self.leads:
                self._wait()

    def watched(self) -> AbstractContextManager[None]:
        return _watched(self.rank)

    def rounds(self, group: Group[Batch], own: Iterable[Batch]) -> Iterator[Any]:
        done = 0
        for batch in own:
            done += 1
            yield batch
        if done < -(-(group.stop - group.start) // self.size):
            yield Idle(group.batches[group.start])

    def loss(self, model: nn.Module, objective: Objective[Any], batch: Any) -> Loss:
        if not isinstance(batch, Idle):
            return objective(model, batch)
        with standing_by():
            loss = objective(model, batch.batch)
        return Loss(loss.total * 0.0, 0.0)

    def agreed(self, count: Tensor) -> Tensor:
        return self.summed(count) / self.size

    def summed(self, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    def collect(self) -> None:
        present = torch.tensor([p.grad is not None for p in self._parameters], dtype=torch.int32)
        distributed.all_reduce(present)
        waiting = []
        for parameter, holders in zip(self._parameters, present.tolist(), strict=True):
            if holders:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                waiting.append(distributed.all_reduce(parameter.grad, async_op=True))
        for work in waiting:
            work.wait()

    def same(self, values: Sequence[float]) -> list[float]:
        shared = torch.tensor(list(values), dtype=torch.float64)
        distributed.broadcast(shared, 0)
        numbers: list[float] = shared.tolist()
        return numbers

    def any(self, flag: bool) -> bool:
        shared = torch.tensor(int(flag))
        distributed.all_reduce(shared, op=distributed.ReduceOp.MAX)
        return bool(shared)

    def random_state(self) -> dict[str, Tensor]:
        return {
            (f"worker{rank}.{name}" if rank else name): state
            for name, own in random_state().items()
            for rank, state in enumerate(self._everyone(own))
        }

    def restore_random_state(self, states: Mapping[str, Tensor]) -> None:
        prefix = f"worker{self.rank}." if self.rank else ""
        own = {
            name.removeprefix(prefix): state
            for name, state in states.items()
            if name.startswith(prefix or ("cpu", "cuda"))
        }
        if own:
            restore_random_state(own)

    def _everyone(self, own: Tensor) -> list[Tensor]:
        found = [torch.empty_like(own) for _ in range(self.size)]
        distributed.all_gather(found, own)
        return found

    def _wait(self) -> None:
        self.any(False)


@contextmanager
def _watched(rank: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        text = str(error).lower()
        if not any(word in text for word in _LIBRARIES):
            raise
        reason = (str(error).splitlines() or ["?"])[0][:200]
        raise UserError(
            f"worker {rank}: another worker was lost ({reason}); its own message stands above or in its log. "
            "The last checkpoint is whole: start the same command with --resume"
        ) from None
