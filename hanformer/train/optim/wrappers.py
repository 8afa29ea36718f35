"""Optimizers around optimizers: each acts on what the inner one did, and may itself be wrapped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from hanformer.train.optim.base import OptimizerFactory, check_count, loss_of, pieces

Kept = TypeVar("Kept")


class Wrapper(torch.optim.Optimizer, ABC, Generic[Kept]):
    """An optimizer that looks before and after each step of another, whose groups and state it shares.

    包装器：在内层优化器的每一步前后做处理，共享其参数组与状态。

    The order of wrapping is the order of acting: Lookahead(LayerAdaptation(AdamW)) adapts, then looks ahead.
    """

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__(inner.param_groups, {})
        self.inner = inner
        self._share()

    @abstractmethod
    def before(self) -> Kept:
        """What must be known of the weights before the step. 更新前的记录。"""

    @abstractmethod
    def after(self, kept: Kept) -> None:
        """Changes what the inner step left. 更新后的处理。"""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of the inner optimizer, and what the wrapper makes of it. 更新一步。"""
        loss = loss_of(closure)
        kept = self.before()
        self.inner.step()
        self.after(kept)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Hands the state to the inner optimizer. 恢复状态。"""
        self.inner.load_state_dict(state_dict)
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state = self.inner.param_groups, self.inner.state

    def _moving(self, group: dict[str, Any]) -> list[Tensor]:
        return [parameter for parameter in group["params"] if parameter.grad is not None]


class Scratch:
    """Memory that a wrapper keeps for copies: on a CPU fresh memory costs more than the copy itself.

    包装器的暂存空间；CPU 上重复使用。

    Elsewhere torch's own cache does this, and memory is not held between steps.
    """

    def __init__(self) -> None:
        self._kept: dict[Tensor, Tensor] = {}

    def like(self, tensor: Tensor) -> Tensor:
        """A contiguous tensor of that shape and format, its values whatever they are."""
        if tensor.device.type != "cpu":
            return torch.empty_like(tensor, memory_format=torch.contiguous_format)
        if tensor not in self._kept:
            self._kept[tensor] = torch.empty_like(tensor, memory_format=torch.contiguous_format)
        return self._kept[tensor]


class Lookahead(Wrapper[list[Tensor]]):
    """Every `every` updates, slow weights s ← s + a(w - s), and w ← s; s starts as the weights are.

    Lookahead：快慢两套权重。

    Slow weights have the format of the weights. Differs from bert4keras, whose slow weights start at zero and
    halve the model in the first update. Source: Zhang et al., arXiv 1907.08610. Raises UserError for every < 1.
    """

    def __init__(self, inner: torch.optim.Optimizer, every: int = 5, share: float = 0.5) -> None:
        super().__init__(inner)
        check_count("every", every)
        self._every, self._share_of_fast = every, share

    def before(self) -> list[Tensor]:
        """Copies of the weights that move for the first time."""
        return [p.clone() for p in self._all_moving() if "slow" not in self.state[p]]

    def after(self, kept: list[Tensor]) -> None:
        """Counts the update, and brings both sets together when it is due."""
        moving = self._all_moving()
        # Only now: an inner optimizer takes a parameter with a state for one that it has met.
        new = [parameter for parameter in moving if "slow" not in self.state[parameter]]
        for parameter, start in zip(new, kept, strict=True):
            self.state[parameter]["slow"] = start
        first = self.param_groups[0]
        first["lookahead_updates"] = first.get("lookahead_updates", 0) + 1
        if first["lookahead_updates"] % self._every == 0:
            known = [p for group in self.param_groups for p in group["params"] if "slow" in self.state[p]]
            slow = [self.state[parameter]["slow"] for parameter in known]
            if known:
                torch._foreach_lerp_(slow, known, self._share_of_fast)
                torch._foreach_copy_(known, slow)

    def _all_moving(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in self._moving(group)]


class LayerAdaptation(Wrapper[list[tuple[dict[str, Any], list[Tensor], list[Tensor]]]]):
    """w ← w + r(w' - w), r = ‖w‖ / ‖(w' - w) / η‖ a tensor, w' by the inner rule: LAMB where that is AdamW.

    层自适应：每个张量的更新量按参数范数缩放；内层为 AdamW 时即 LAMB。

    r is 1 where either norm is 0, and for the kinds in `spare`. The inner rule's decay is adapted too. Costs a
    copy of the weights, on a CPU for good. Source: You et al., arXiv 1904.00962; bert4keras.
    """

    def __init__(self, inner: torch.optim.Optimizer, spare: Sequence[str] = ("bias", "norm")) -> None:
        super().__init__(inner)
        self._spare, self._scratch = frozenset(spare), Scratch()

    def before(self) -> list[tuple[dict[str, Any], list[Tensor], list[Tensor]]]:
        """By group: the weights to adapt, and copies."""
        groups = [group for group in self.param_groups if group.get("kind") not in self._spare]
        found = [(group, self._moving(group)) for group in groups if group["lr"] > 0]
        return [(group, moving, [self._scratch.like(p).copy_(p) for p in moving]) for group, moving in found]

    def after(self, kept: list[tuple[dict[str, Any], list[Tensor], list[Tensor]]]) -> None:
        """w' + (1 - r)(w - w')."""
        for group, weights, before in kept:
            for weight, old in zip(weights, before, strict=True):
                size, distance = _sizes(weight, old)
                moved = distance / group["lr"]
                ratio = torch.where((size > 0) & (moved > 0), size / moved, 1.0)
                weight.lerp_(old, (1 - ratio).to(old.dtype))


class LazyRows(Wrapper[list[tuple[Tensor, Tensor, Tensor]]]):
    """Rows of embedding tables that have no gradient stay as they are, bit for bit; their moments still decay.

    惰性更新：没有梯度的嵌入行保持不变。

    A row counts as idle where its gradient is zero throughout, so a table that is tied to the output layer, or
    decayed in the loss, has no idle rows and nothing changes. Acts on the kind embedding.
    Differs from torch.optim.SparseAdam, which leaves the moments of idle rows too.
    Source: kexue.fm/archives/6869; bert4keras.
    """

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__(inner)
        self._scratch = Scratch()

    def before(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each table: itself, the places of its idle rows, and those rows."""
        tables = [p for g in self.param_groups if g.get("kind") == "embedding" for p in self._moving(g)]
        return [(table, *self._idle(table)) for table in tables]

    def _idle(self, table: Tensor) -> tuple[Tensor, Tensor]:
        idle = _idle_rows(table)
        return idle, torch.index_select(table, 0, idle, out=self._scratch.like(table)[: len(idle)])

    def after(self, kept: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Puts the idle rows back."""
        for table, idle, rows in kept:
            table.index_copy_(0, idle, rows)


def _idle_rows(table: Tensor) -> Tensor:
    assert table.grad is not None
    gradient = table.grad.to_dense() if table.grad.is_sparse else table.grad
    # The sum of absolute values, not of squares: those of small gradients would vanish.
    sizes = torch.linalg.vector_norm(gradient.flatten(1), ord=1, dim=1)
    return (sizes == 0).nonzero().squeeze(1)


def _sizes(new: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
    """The norms of `old` and of the difference, which on a CPU is never built whole; float32 at least."""
    dtype = torch.promote_types(old.dtype, torch.float32)
    norms: tuple[list[Tensor], list[Tensor]] = ([], [])
    for (after,), (before,) in pieces([new.contiguous()], [old]):
        norms[0].append(torch.linalg.vector_norm(before, dtype=dtype))
        norms[1].append(torch.linalg.vector_norm(after.sub(before), dtype=dtype))
    return torch.stack(norms[0]).norm(), torch.stack(norms[1]).norm()


def lookahead(rule: OptimizerFactory) -> OptimizerFactory:
    """The rule with `Lookahead`, 5 updates and a share of 0.5. 加上 Lookahead。"""
    return lambda groups, options: Lookahead(rule(groups, options))


def layerwise(rule: OptimizerFactory) -> OptimizerFactory:
    """The rule with `LayerAdaptation` for matrices and embeddings. 加上层自适应。"""
    return lambda groups, options: LayerAdaptation(rule(groups, options))


def lazy(rule: OptimizerFactory) -> OptimizerFactory:
    """The rule with `LazyRows`. 加上惰性更新。"""
    return lambda groups, options: LazyRows(rule(groups, options))
