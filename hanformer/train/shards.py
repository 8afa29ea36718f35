"""Several processes with a part of every weight each: torch's FSDP2, which makes weights whole while they are used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.placement_types import Shard

from hanformer.nn.layers.block import Block
from hanformer.train.checkpoint import check_names
from hanformer.train.objective import Loss, Objective
from hanformer.train.replicas import Replicas

Result = TypeVar("Result")


class Frame(nn.Module):
    """Calls work on a model inside a forward pass of its own: there FSDP makes weights whole, whatever the work calls.

    在自身的前向过程中调用任意函数，使 FSDP 能在其间还原完整权重。
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[nn.Module], Any]) -> Any:
        """What `work` gives for the model."""
        return work(self.model)


class Shards(Replicas):
    """Weights, gradients and optimiser states divided among processes by rows; what is saved is whole.

    分片训练：权重、梯度与优化器状态按行分给各进程；保存的检查点是完整的。

    Each process updates plain tensors that are views of its rows, so rules that treat entries one by one work as ever.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._mesh: DeviceMesh = init_device_mesh(device.type, (self.size,))
        self._divided: list[DTensor] = []

    def divide(self, model: nn.Module, groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
        super().divide(model, groups)
        names = {parameter: name for name, parameter in model.named_parameters()}
        order = [names[parameter] for parameter in self._parameters]
        self._frame = self._wrapped(model)
        divided: dict[str, Any] = dict(model.named_parameters())
        self._divided = [divided[name] for name in order]
        self._parameters = [nn.Parameter(tensor.to_local().detach()) for tensor in self._divided]
        own = iter(self._parameters)
        return [{**group, "params": [next(own) for _ in group["params"]]} for group in groups]

    def _wrapped(self, model: nn.Module) -> nn.Module:
        for block in [module for module in model.modules() if isinstance(module, Block)]:
            fully_shard(block, mesh=self._mesh, reshard_after_forward=True)
        frame = Frame(model)
        fully_shard(frame, mesh=self._mesh, reshard_after_forward=True)
        for module in frame.modules():
            if isinstance(module, FSDPModule):
                # Sums: the one division, by the counts of all processes, is ours.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        return frame

    def loss(self, model: nn.Module, objective: Objective[Any], batch: Any) -> Loss:
        def work(whole: nn.Module) -> tuple[Tensor, float | Tensor]:
            loss = super(Shards, self).loss(whole, objective, batch)
            return loss.total, loss.count

        return Loss(*self._frame(work))

    def collect(self) -> None:
        for own, divided in zip(self._parameters, self._divided, strict=True):
            gradient: Any = divided.grad
            own.grad = None if gradient is None else gradient.to_local()
            divided.grad = None

    def norm(self, gradients: Sequence[Tensor]) -> Tensor:
        return self.summed(torch.nn.utils.get_total_norm(gradients).square()).sqrt()

    def look(self, model: nn.Module, work: Callable[[nn.Module], Result]) -> Result:
        result: Result = self._frame(work)
        return result

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {}
        for name, tensor in _once(model).items():
            full = tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor
            if self.leads:
                kept[name] = full
        return kept

    @torch.no_grad()
    def load(self, model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
        own = _once(model)
        check_names(own, weights, where)
        for name, tensor in own.items():
            if isinstance(tensor, DTensor):
                tensor.to_local().copy_(self._rows(weights[name]))
            else:
                tensor.copy_(weights[name])

    def whole(self, state: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {}
        for name, tensor in state.items():
            full = self._joined(tensor, int(name.split(".")[place])) if tensor.ndim else tensor
            if self.leads:
                kept[name] = full
        return kept

    def part(self, state: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
        return {name: self._rows(tensor) if tensor.ndim else tensor for name, tensor in state.items()}

    def _joined(self, rows: Tensor, index: int) -> Tensor:
        """The whole tensor on the CPU, of this process's rows of what belongs to parameter `index`."""
        shape = torch.Size((self._divided[index].shape[0], *rows.shape[1:]))
        stride = torch.empty(shape, device="meta").stride()
        local = rows.to(self.device).contiguous()
        divided = DTensor.from_local(
            local, self._mesh, [Shard(0)], run_check=False, shape=shape, stride=stride
        )
        return divided.full_tensor().cpu()

    def _rows(self, whole: Tensor) -> Tensor:
        """This process's rows, as FSDP deals them out; none where there are too few."""
        chunks = whole.chunk(self.size)
        return chunks[self.rank] if self.rank < len(chunks) else whole[:0]


def _once(model: nn.Module) -> dict[str, Any]:
    """Parameters and persistent buffers by name; what two names share stands under the first."""
    kept: dict[int, tuple[str, Any]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        kept.setdefault(id(tensor), (name, tensor.detach()))
    return dict(kept.values())
