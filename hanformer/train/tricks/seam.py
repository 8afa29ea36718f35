"""The seam at which tricks meet a model: the vectors that its token table gives, before anything is added to them.

A forward hook stands at the token table of every `Embeddings` inside the model (of a `Transformer`, an
`EncoderDecoder`, or whatever wraps one), or at the only `nn.Embedding` of a model of another kind. The weights are
never touched, so there is nothing to restore, a tied output table stays as it is, and the rows are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from hanformer.errors import UserError
from hanformer.nn.functional.packing import Layout
from hanformer.nn.layers.embedding import Embeddings
from hanformer.train.objective import Loss, Objective
from hanformer.train.tricks.rows import Rows

Batch = TypeVar("Batch")

Change = Callable[[Tensor, Rows], Tensor]
"""Embedded tokens [..., E] and their rows, to what takes their place. 对词向量的改动。"""


@dataclass(frozen=True, eq=False)
class LookUp:
    """One look-up of a pass: the embedded tokens [..., E], which require a gradient, and their rows.

    一次查表所得的词向量。
    """

    embedded: Tensor
    rows: Rows


@contextmanager
def embeddings_changed(model: nn.Module, change: Change) -> Iterator[None]:
    """Inside, what the model's token table gives goes through `change` before anything else sees it.

    在此上下文中，词嵌入表的输出先经过 change。

    Contexts may be nested: the innermost changes first. One look-up of an `Embeddings` is one call, for its
    tokens; segments that share the table are left. An encoder-decoder looks up twice, source then target.
    Raises UserError for a model without a token table, or with several that are not `Embeddings`.
    """
    with ExitStack() as hooks:
        for part in _parts(model):
            for handle in _hook(part, change):
                hooks.callback(handle.remove)
        yield


def look_ups(
    objective: Objective[Batch], model: nn.Module, batch: Batch, shifts: Sequence[Tensor] | None = None
) -> tuple[Loss, list[LookUp]]:
    """The loss, and every look-up of its pass, ready for a gradient; `shifts` are added to them first.

    计算损失并收集词向量，以便求其梯度。

    Works under `torch.no_grad` and with frozen tables. Raises UserError where nothing was looked up, and for weights
    that are divided among workers.
    """
    check_whole(model)
    found: list[LookUp] = []

    def keep(embedded: Tensor, rows: Rows) -> Tensor:
        found.append(LookUp(embedded if embedded.requires_grad else embedded.detach().requires_grad_(), rows))
        return found[-1].embedded

    with ExitStack() as contexts:
        contexts.enter_context(torch.enable_grad())
        contexts.enter_context(embeddings_changed(model, keep))
        if shifts is not None:
            contexts.enter_context(embeddings_changed(model, added(shifts)))
        loss = objective(model, batch)
    if not found:
        raise UserError("the objective looks up no tokens in this model; tricks on embeddings have no place")
    return loss, found


def added(shifts: Sequence[Tensor]) -> Change:
    """The change that adds the shifts to the look-ups of one pass, in their order.

    依次给各次查表结果加上扰动。
    """
    left = iter(shifts)
    return lambda embedded, rows: embedded + next(left)


def gradients_of(
    loss: Loss, found: Sequence[LookUp], *, keep: bool = False, again: bool = False
) -> list[Tensor]:
    """The gradient of the total by every look-up's embedded tokens; those of weights are not computed.

    总损失对词向量的梯度。

    `keep` the graph for a later backward; `again` lets the gradients themselves have one.
    """
    wanted = [look_up.embedded for look_up in found]
    with torch.enable_grad():
        return list(
            torch.autograd.grad(
                loss.total, wanted, retain_graph=keep or again, create_graph=again, materialize_grads=True
            )
        )


def check_whole(model: nn.Module) -> None:
    """Raises UserError for weights that are divided among workers, which are whole for one pass and its way back alone.

    内层求梯度的技巧要求各进程持有完整权重。
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    from torch.distributed.tensor import DTensor

    if any(isinstance(weight, DTensor) for weight in model.parameters()):
        raise UserError(
            "tricks that take a gradient inside the objective (fgm, fgm_of_table, pgd, gradient_penalty, "
            "noise_penalty, vat) need whole weights, which --set train.shard=true divides: train without shards, or "
            "without the trick"
        )


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in eval mode; afterwards every part is in the mode that it was in.

    在此上下文中关闭 dropout，之后恢复各模块原来的模式。
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def token_tables(model: nn.Module) -> list[nn.Embedding]:
    """The token tables at which the tricks act; raises UserError as `embeddings_changed` does.

    各词嵌入表。
    """
    return [part.token if isinstance(part, Embeddings) else part for part in _parts(model)]


def _parts(model: nn.Module) -> Sequence[Embeddings | nn.Embedding]:
    embeddings = [module for module in model.modules() if isinstance(module, Embeddings)]
    if embeddings:
        return embeddings
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    if len(tables) != 1:
        raise UserError(
            "tricks on embeddings: expected a model with an Embeddings part, or with one nn.Embedding; "
            f"{type(model).__name__} has {len(tables)}"
        )
    return tables


def _hook(part: Embeddings | nn.Embedding, change: Change) -> list[torch.utils.hooks.RemovableHandle]:
    if isinstance(part, Embeddings):
        watch = _Watch(change)
        return [
            part.register_forward_pre_hook(watch.begin, prepend=True, with_kwargs=True),
            part.token.register_forward_hook(watch.looked_up, prepend=True),
        ]

    def looked_up(module: nn.Module, given: Any, embedded: Tensor) -> Tensor:
        return change(embedded, Rows.of_first_axis(embedded))

    return [part.register_forward_hook(looked_up, prepend=True)]


class _Watch:
    """Between the start of an `Embeddings` and its first use of the token table, the layout is known."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self._layouts: list[Layout] = []

    def begin(self, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._layouts = [named["layout"] if "layout" in named else given[1]]

    def looked_up(self, module: nn.Module, given: Any, embedded: Tensor) -> Tensor:
        if not self._layouts:
            return embedded
        return self._change(embedded, Rows.of_layout(self._layouts.pop()))
