"""BERT-of-Theseus: a deep model becomes a shallow one, its blocks replaced by chance while it runs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.models.stack import Stack
from hanformer.models.transformer import RULES, Transformer
from hanformer.nn.attention.passing import Pass
from hanformer.nn.functional.packing import Layout
from hanformer.nn.layers.block import Block

Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Theseus:
    """How a training first puts new layers in the place of a trained model's: `layers` of them (0: it does not), each
    with probability `first` in a pass, which grows linearly to 1 over `grows_over` passes where that is given.

    训练前先做层替换的选项：新层数（0 表示不替换）、替换概率及其增长。

    Raises UserError for what `begin_theseus` would refuse whatever the model.
    """

    layers: int = 0
    first: float = 0.5
    grows_over: int | None = None

    def __post_init__(self) -> None:
        if self.layers < 0:
            raise UserError(
                f"theseus.layers: expected a number of new layers, or 0 for none, got {self.layers}"
            )
        _check_chances(self.first, self.grows_over)


class TheseusStack(Stack):
    """Old blocks (the predecessor) and fewer new ones (the successor), mixed anew in every pass of training.

    忒修斯层堆叠：训练时每次前向按概率在旧模块（若干层）与新模块（一层）之间选择。

    Of L old and k new blocks, module i is the old ones i L/k to (i + 1) L/k − 1, or new block i: one draw a module and
    pass, until one of them is new. It is with probability `first`, which grows linearly to 1 over `grows_over`
    passes where that is given. In eval mode the new blocks run alone. `blocks` are the new ones, `old` the others;
    the number of passes is a buffer, so that a resumed run goes on.
    Source: Xu et al., arXiv 2002.02925; kexue.fm/archives/7575.
    """

    passes: Tensor

    def __init__(self, model: Transformer, layers: int, first: float, grows_over: int | None) -> None:
        super().__init__(model.config, RULES[model.config.application], layers=0)
        old = model.stack
        self.final_norm, self.relative, self.old = old.final_norm, old.relative, old.blocks
        self.blocks = nn.ModuleList([copy.deepcopy(block) for block in list(old.blocks)[:layers]])
        self.layers, self.first, self.grows_over = layers, first, grows_over
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64, device=model.device))

    @property
    def probability(self) -> float:
        """With which a module is new in the next pass of training."""
        if self.grows_over is None:
            return self.first
        return min(1.0, self.first + (1 - self.first) * int(self.passes) / self.grows_over)

    def begin(self, layout: Layout, keep: bool = False) -> Pass:
        """As the base; the pass begins for the old blocks too, whichever are drawn."""
        for block in self.old:
            cast(Block, block).attention.begin_pass()
        return super().begin(layout, keep)

    def each(self) -> Iterator[tuple[int, Block]]:
        """The blocks of this pass, numbered one after the other."""
        return enumerate(cast(Block, block) for block in (self._drawn() if self.training else self.blocks))

    def _drawn(self) -> list[nn.Module]:
        group = len(self.old) // len(self.blocks)
        new = draw_modules(len(self.blocks), self.probability)
        self.passes += 1
        modules = [list(self.old)[start : start + group] for start in range(0, len(self.old), group)]
        return [
            block
            for place, is_new in enumerate(new)
            for block in ([self.blocks[place]] if is_new else modules[place])
        ]


def draw_modules(count: int, probability: float) -> list[bool]:
    """Which modules are new, each with this probability, given that one of them is: a pass of old ones teaches nothing.

    抽取哪些模块为新模块（至少一个）。

    Probability 0 makes none new, 1 all.
    """
    if not probability:
        return [False] * count
    # The first new one by its own distribution, then those behind it. On the CPU: the host must know.
    chances = torch.tensor([probability * (1 - probability) ** place for place in range(count)])
    first = int(torch.multinomial(chances, 1))
    behind = torch.rand(count - first - 1) < probability
    return [False] * first + [True] + behind.tolist()


def begin_theseus(model: Model, layers: int, *, first: float = 0.5, grows_over: int | None = None) -> Model:
    """Makes the model's Transformer replaceable, in place: afterwards only `layers` new blocks learn.

    进入替换阶段：冻结原模型，只训练新模块。

    The model may be a Transformer or hold one (a classifier). New blocks start as its first ones; all other weights,
    embeddings and heads too, are shared and frozen. bert4keras replaces the embeddings by chance as well. Train it as
    any model, call `end_theseus`, and train on. `first` and `grows_over` (passes, not updates: accumulated
    micro-batches count) are those of `TheseusStack`.
    Raises UserError for a number of layers that does not divide the model's, shared layers, a probability
    outside 0 to 1, layers that are frozen already, and a model without a Transformer.
    """
    part = _transformer(model)
    depth = part.config.layers
    if part.config.share_layers or isinstance(part.stack, TheseusStack):
        raise UserError(
            "theseus: expected a model whose layers are its own, not shared, and not yet replaced"
        )
    if not all(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(
            "theseus: the old layers are frozen until the new ones can do without; leave out freeze"
        )
    if not 1 <= layers <= depth or depth % layers:
        raise UserError(f"theseus: expected a number of layers that divides {depth}, got {layers}")
    _check_chances(first, grows_over)
    stack = TheseusStack(part, layers, first, grows_over).train(part.stack.training)
    part.stack = stack
    model.requires_grad_(False)
    stack.blocks.requires_grad_(True)
    return model


def _check_chances(first: float, grows_over: int | None) -> None:
    if not 0 <= first <= 1 or (grows_over is not None and grows_over < 1):
        raise UserError(
            "theseus: expected a probability `first` from 0 to 1 and `grows_over` of 1 or more passes, "
            f"got {first} and {grows_over}"
        )


def end_theseus(model: Model) -> Model:
    """Leaves the successor: the model with the new blocks alone, in place, all its weights learning again.

    结束替换阶段：只保留新模块，并解冻全部参数。

    Its config says how many layers it has, and it is saved as any model. Raises UserError where `begin_theseus` did
    not come before.
    """
    part = _transformer(model)
    mixed = part.stack
    if not isinstance(mixed, TheseusStack):
        raise UserError("theseus: the model is not being replaced; call begin_theseus first")
    part.config = part.config.changed({"layers": mixed.layers})
    stack = Stack(part.config, RULES[part.config.application], layers=0)
    stack.final_norm, stack.relative = mixed.final_norm, mixed.relative
    stack.blocks, stack.layers = mixed.blocks, mixed.layers
    part.stack = stack.train(mixed.training)
    model.requires_grad_(True)
    return model


def _transformer(model: nn.Module) -> Transformer:
    found = [part for part in model.modules() if isinstance(part, Transformer)]
    if len(found) != 1:
        raise UserError(
            f"theseus: expected a model with one Transformer in it, {type(model).__name__} has {len(found)}"
        )
    return found[0]
