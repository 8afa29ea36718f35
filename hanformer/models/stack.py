"""A stack of blocks: what encoders, language models and decoders share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hanformer.config import ModelConfig
from hanformer.models.skeletons import repeated
from hanformer.nn.attention.cache import KeyValueCache
from hanformer.nn.attention.passing import Pass
from hanformer.nn.attention.relative import relative_of
from hanformer.nn.attention.state import DecodingState, Memory, Opening
from hanformer.nn.functional.attend import SameKernels
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.visibility import Full, Rule, Visibility
from hanformer.nn.layers.block import Block, block_of
from hanformer.nn.layers.norm import norm_of


class Stack(nn.Module):
    """Blocks one upon the other, one set of relative positions for all, and the final norm of pre-norm models.

    若干层的堆叠，含共享的相对位置与（前归一化模型的）末层归一化。

    Shapes: [N, C] to [N, C]. With `config.share_layers` all layers are one block (ALBERT). `crosses` gives every
    block a second attention, over a memory. `cross_bias` lets the relative positions act there too, as
    bert4keras does. With `recompute` a block keeps its input alone in training, and computes the rest again on the
    way back.
    """

    def __init__(
        self,
        config: ModelConfig,
        rule: Rule,
        *,
        layers: int | None = None,
        crosses: bool = False,
        cross_bias: bool = False,
    ) -> None:
        super().__init__()
        self.rule = config.attention.restrict(rule)
        self.layers = config.layers if layers is None else layers
        self.residual, self.cross_bias = config.residual_attention, cross_bias
        count = min(self.layers, 1) if config.share_layers else self.layers
        self.blocks = nn.ModuleList(repeated(partial(block_of, config, crosses), count))
        self.final_norm: nn.Module | None = norm_of(config) if config.norm_place == "pre" else None
        self.relative = relative_of(config, bidirectional=not rule.is_causal)
        self.recompute = False

    def each(self) -> Iterator[tuple[int, Block]]:
        """Every layer's number and block; a shared block comes once for each layer."""
        last = len(self.blocks) - 1
        for layer in range(self.layers):
            yield layer, cast(Block, self.blocks[min(layer, last)])

    def begin(self, layout: Layout, keep: bool = False) -> Pass:
        """What the layers share in one pass over a batch, which begins with this."""
        for block in self.blocks:
            cast(Block, block).attention.begin_pass()
        return Pass(self.rule.bind(layout), self.relative, residual=self.residual, keep=keep)

    def begin_cross(self, query: Layout, key: Layout, keep: bool = False) -> Pass:
        """The same for looking at a memory."""
        relative = self.relative if self.cross_bias else None
        return Pass(Visibility(Full(), query, key), relative, residual=self.residual, keep=keep)

    def forward(
        self,
        hidden: Tensor,
        batch: Pass,
        *,
        condition: Tensor | None = None,
        memory: tuple[Tensor, Pass] | None = None,
        collect: list[Tensor] | None = None,
    ) -> Tensor:
        """[N, C] to [N, C]; `memory` are encoder states and the pass over them; `collect` receives every layer,
        the last one after the final norm."""
        for _, block in self.each():
            if self.recompute and torch.is_grad_enabled() and not batch.keep:
                again = block.attention.twice
                given = (SameKernels(), block, hidden, batch, condition, memory)
                hidden = checkpoint(_layer, *given, use_reentrant=False, context_fn=again)
            else:
                hidden = _through(block, hidden, batch, condition, memory)
            if collect is not None:
                collect.append(hidden)
        finished = self.finish(hidden, condition)
        if collect:
            collect[-1] = finished
        return finished

    def finish(self, hidden: Tensor, condition: Tensor | None = None) -> Tensor:
        """The final norm, where there is one."""
        if self.final_norm is None:
            return hidden
        normed: Tensor = self.final_norm(hidden, condition)
        return normed

    def open_cache(
        self,
        layout: Layout,
        segment: int,
        memory: tuple[Tensor, Layout] | None = None,
        condition: Tensor | None = None,
    ) -> DecodingState:
        """An empty state for these prompts; the memory's keys and values are made here, once."""
        kept = None
        if memory is not None:
            kept = Memory(memory[1], self.layers)
            for layer, block in self.each():
                if block.cross is not None:
                    kept.store(layer, *block.cross.project_memory(memory[0]))
        opening = Opening(
            self.rule, layout, self.layers, segment, self.relative, self.residual, kept, condition
        )
        return self._state_kind()(opening)

    def _state_kind(self) -> type[DecodingState]:
        """What the layers' attention keeps; a stack without layers keeps nothing, whatever the kind."""
        for _, block in self.each():
            return block.attention.state_kind(self.rule)
        return KeyValueCache

    def read(
        self,
        hidden: Tensor,
        layout: Layout,
        cache: DecodingState,
        memory: tuple[Tensor, Layout] | None = None,
    ) -> Tensor:
        """`forward` over prompts [N, C] that fills the cache."""
        batch = self.begin(layout)
        cross = None if memory is None else self.begin_cross(layout, memory[1])
        condition = cache.condition_of(layout)
        for layer, block in self.each():
            attention = partial(block.attention.remember, batch=batch, cache=cache, layer=layer)
            across = None
            if cross is not None and memory is not None and block.cross is not None:
                across = partial(block.cross.across, memory=memory[0], batch=cross)
            hidden = block(hidden, attention, condition, across)
        return self.finish(hidden, condition)

    def extend(self, hidden: Tensor, cache: DecodingState) -> Tensor:
        """[R * T, C] of announced tokens to the same; the cache then holds them."""
        condition = cache.condition(len(hidden) // max(cache.rows, 1))
        relative = self.relative if self.cross_bias else None
        for layer, block in self.each():
            attention = partial(block.attention.extend, cache=cache, layer=layer)
            across = None
            if cache.memory is not None and block.cross is not None:
                across = partial(block.cross.recall, cache=cache, layer=layer, relative=relative)
            hidden = block(hidden, attention, condition, across)
        cache.commit()
        return self.finish(hidden, condition)


def _through(
    block: Block, hidden: Tensor, batch: Pass, condition: Tensor | None, memory: tuple[Tensor, Pass] | None
) -> Tensor:
    cross = None
    if memory is not None and block.cross is not None:
        cross = partial(block.cross.across, memory=memory[0], batch=memory[1])
    passed: Tensor = block(hidden, partial(block.attention, batch=batch), condition, cross)
    return passed


def _layer(
    kernels: SameKernels,
    block: Block,
    hidden: Tensor,
    batch: Pass,
    condition: Tensor | None,
    memory: tuple[Tensor, Pass] | None,
) -> Tensor:
    # Passes of its own: a layer that is computed twice must make each time what layers else share.
    own = None if memory is None else (memory[0], copy(memory[1]))
    # The way back may begin where other kernels are allowed than the ones that the pass was computed with.
    with kernels:
        return _through(block, hidden, copy(batch), condition, own)


def prompt_tensors(
    rows: Sequence[Sequence[int]], segments: Sequence[Sequence[int]] | None, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Rows of ids, and of segments if given, as packed tensors [N]. 把各行编号打包为张量。"""
    ids = torch.tensor([token for row in rows for token in row], dtype=torch.int64, device=device)
    if segments is None:
        return ids, None
    named = torch.tensor([value for row in segments for value in row], dtype=torch.int64, device=device)
    return ids, named
