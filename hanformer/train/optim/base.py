"""What an update rule is, and the base that every rule of ours stands on: lists of tensors in, in place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.train.options import TrainOptions

ParameterGroups = list[dict[str, Any]]
"""Groups as torch's optimizers take them: params, weight_decay, and the `kind` of the parameters.

参数组，含参数、权重衰减与种类。
"""

OptimizerFactory = Callable[[ParameterGroups, TrainOptions], torch.optim.Optimizer]
"""An update rule: a function from parameter groups and options to one of torch's optimizers.

更新规则：由参数组与选项得到优化器。
"""

#: The elements of a piece on a CPU: small enough for a cache, large enough to be worth the calls.
CPU_PIECE = 1 << 17


@dataclass(frozen=True, eq=False)
class Portion:
    """Parameters that are updated in one call, as lists in one order.

    一次更新的一部分参数，各列表顺序一致。

    step: the number of this update for these parameters, from 1. weights, gradients: contiguous, of one device
    and one number format, at least float32. states: what the rule keeps of each.
    """

    step: int
    weights: list[Tensor]
    gradients: list[Tensor]
    states: list[dict[str, Any]]

    def slot(self, name: str) -> list[Tensor]:
        """The tensors of that name in the states."""
        return [state[name] for state in self.states]


class MultiTensor(torch.optim.Optimizer, ABC):
    """A rule that updates lists of tensors: a subclass says what it keeps and how a portion is updated.

    多张量更新规则的基类。

    Weights of half precision, and those that are not contiguous, are updated in contiguous float32 copies and
    written back; states are always contiguous and at least float32, through saving and loading too. Parameters
    without a gradient stay as they are, and do not count the update. Sparse gradients are made dense.
    """

    def __init__(self, groups: ParameterGroups, learning_rate: float, weight_decay: float) -> None:
        super().__init__(groups, {"lr": learning_rate, "weight_decay": weight_decay, "kind": "matrix"})

    @abstractmethod
    def first_state(self, weight: Tensor) -> dict[str, Tensor]:
        """What is kept of a weight before its first update. 初始状态。"""

    @abstractmethod
    def update(self, portion: Portion, group: dict[str, Any]) -> None:
        """Changes weights and states of the portion in place. 就地更新。"""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of all parameters that have a gradient. 更新一步。"""
        loss = loss_of(closure)
        for group in self.param_groups:
            for step, parameters in self._by_step(group):
                self._update(step, parameters, group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes back a state bit for bit: torch alone would round it to the format of the weights.

        逐位恢复状态。
        """
        super().load_state_dict(state_dict)
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, slots in state_dict["state"].items():
            parameter = parameters[index]
            for name, value in slots.items():
                if isinstance(value, Tensor):
                    self.state[parameter][name] = value.to(parameter.device, copy=True)

    def _by_step(self, group: dict[str, Any]) -> Iterator[tuple[int, list[Tensor]]]:
        """Parameters with a gradient, those of one device, format and number of updates together."""
        alike: dict[tuple[torch.device, torch.dtype, int], list[Tensor]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if "step" not in state:
                state.update(self.first_state(_workable(parameter)), step=0)
            state["step"] += 1
            alike[parameter.device, parameter.dtype, state["step"]].append(parameter)
        return ((step, parameters) for (_, _, step), parameters in alike.items())

    def _update(self, step: int, parameters: list[Tensor], group: dict[str, Any]) -> None:
        weights = [_workable(parameter) for parameter in parameters]
        gradients = [_workable(parameter.grad) for parameter in parameters if parameter.grad is not None]
        self.update(Portion(step, weights, gradients, [self.state[p] for p in parameters]), group)
        for parameter, weight in zip(parameters, weights, strict=True):
            if weight is not parameter:
                parameter.copy_(weight)


def pieces(*columns: list[Tensor], elements: int = CPU_PIECE) -> Iterator[list[list[Tensor]]]:
    """Lists of contiguous tensors of equal shapes: on a CPU cut into flat pieces of equal places, elsewhere whole.

    CPU 上切成能放进缓存的小段，其他设备上整体给出。
    """
    if columns[0][0].device.type != "cpu":
        yield list(columns)
        return
    for tensors in zip(*columns, strict=True):
        for cut in zip(*(tensor.view(-1).split(elements) for tensor in tensors), strict=True):
            yield [[piece] for piece in cut]


def loss_of(closure: Callable[[], Any] | None) -> Any:
    """What the closure of a step gives, run with gradients; None without one. 运行闭包并返回损失。"""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def own_betas(options: TrainOptions, betas: tuple[float, float]) -> tuple[float, float]:
    """The betas of the options; where those are left at AdamW's default, the ones that a rule recommends.

    选项中的 betas；若为 AdamW 的默认值，则用该规则自己的推荐值。
    """
    return betas if options.betas == TrainOptions.betas else options.betas


def check_share(name: str, value: float) -> None:
    """Raises UserError unless 0 <= value < 1. 检查取值范围。"""
    if not 0 <= value < 1:
        raise UserError(f"{name}: expected a number from 0 up to 1, got {value}")


def check_count(name: str, value: int) -> None:
    """Raises UserError for a count below 1. 检查次数。"""
    if value < 1:
        raise UserError(f"{name}: expected at least 1, got {value}")


def _workable(tensor: Tensor) -> Tensor:
    """The tensor itself where a rule can work on it."""
    dense = tensor.to_dense() if tensor.is_sparse else tensor
    return dense.to(torch.promote_types(tensor.dtype, torch.float32)).contiguous()
