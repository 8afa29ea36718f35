"""Models without weights, and how weights are put into them: the steps of loading that take no memory.

不含权重的空模型，以及把权重放入其中。
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ModuleT = TypeVar("ModuleT", bound=nn.Module)
#: Whether models are being built to be filled: only then may their blocks share tensors for the while.
_TO_BE_FILLED: ContextVar[bool] = ContextVar("to_be_filled", default=False)


@contextmanager
def to_be_filled() -> Iterator[None]:
    """Inside, models are built on the meta device, without weights, for `place` to fill them.

    在此上下文中建立空模型，随后由 place 放入权重。
    """
    token = _TO_BE_FILLED.set(True)
    try:
        with torch.device("meta"), _WithoutWeights():
            yield
    finally:
        _TO_BE_FILLED.reset(token)


class _WithoutWeights(TorchFunctionMode):
    """Torch draws initial weights on the meta device through its compiler, which takes a second to import."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_):
            return None
        return func(*args, **(kwargs or {}))


def like(module: ModuleT) -> ModuleT:
    """Another module of the same parts, which shares the tensors of this one until it is given its own.

    结构相同的另一个模块；在赋予自己的权重之前共享张量。

    Many times faster than building it, and of use only where weights are placed into it afterwards.
    """
    made = copy(module)
    for name, value in vars(module).items():
        if isinstance(value, dict):
            made.__dict__[name] = value.copy()
    children = {name: None if child is None else like(child) for name, child in module._modules.items()}
    made.__dict__["_modules"] = children
    return made


def repeated(build: Callable[[], ModuleT], count: int) -> list[ModuleT]:
    """So many modules alike. Where they are to be filled, one is built and the rest follow its structure.

    建立若干相同的模块；若随后会放入权重，则只建一个，其余照其结构复制。
    """
    if count > 1 and _TO_BE_FILLED.get():
        first = build()
        return [first, *(like(first) for _ in range(count - 1))]
    return [build() for _ in range(count)]


def place(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Puts tensors, one for each parameter and buffer that is saved, into a model in place of its own.

    把张量放入模型，替换原有的参数与缓冲区。

    Raises KeyError for a name of the model that is not there.
    """
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for name, old in module._parameters.items():
            if old is not None:
                module._parameters[name] = nn.Parameter(state[prefix + name], old.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in module._non_persistent_buffers_set:
                module._buffers[name] = state[prefix + name]
