"""Pointer scoring: a slot is chosen by what its number means where it stands in the problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor, nn

from hanformer.arithmetic.slot_layout import SlotLayout
from hanformer.data.sequences import SequenceBatch
from hanformer.models import Transformer
from hanformer.nn.attention.state import DecodingState
from hanformer.nn.functional.packing import Layout
from hanformer.train.parts import load_part


@dataclass(frozen=True, eq=False)
class SlotKeys:
    """What the slots of P problems are compared with: `vectors` [P, S, C], and `present` [P, S].

    各题各槽位的键向量，以及该槽位是否存在。
    """

    vectors: Tensor
    present: Tensor


class SlotPointer(nn.Module):
    """Adds to the logit of each slot how well it answers what the predicting token asks for.

    指针打分：给每个槽位词元的 logit 加上“预测处的查询”与“题中该数处的键”的内积。

    logit_t[N_i] += (W_q h_t) · (W_k h_place(i)) / sqrt(C), with h_place(i) the hidden state of [N_i] in the
    problem. A slot that the problem does not have gets nothing. `slots` are the ids of [N0], [N1], ...
    Source: Vinyals et al., Pointer Networks, arXiv 1506.03134.
    """

    slots: Tensor

    def __init__(self, size: int, slots: Sequence[int]) -> None:
        super().__init__()
        self.query = nn.Linear(size, size, bias=False)
        self.key = nn.Linear(size, size, bias=False)
        # Not saved: the layout knows which ids are slots.
        self.register_buffer("slots", torch.tensor(slots, dtype=torch.int64), persistent=False)

    def keys(self, hidden: Tensor, token_ids: Tensor, layout: Layout) -> SlotKeys:
        """The keys of all slots in the packed problems: `hidden` [N, C], `token_ids` [N].

        打包题目中所有槽位的键。

        Tokens of segment 0 are looked at alone, and a slot stands at most once among those of a row.
        """
        cells = layout.rows * len(self.slots)
        matches = token_ids[:, None] == self.slots
        found = matches.any(1) & (layout.segments == 0)
        cell = layout.row_of_token * len(self.slots) + matches.long().argmax(1)
        # Every token writes its place, those that are no slots into one cell more: nothing waits for the device.
        cell = torch.where(found, cell, cells)
        tokens = torch.arange(len(token_ids), device=cell.device)
        places = cell.new_zeros(cells + 1).scatter(0, cell, tokens)[:-1]
        present = found.new_zeros(cells + 1).scatter(0, cell, True)[:-1]
        shape = (layout.rows, len(self.slots))
        vectors = self.key(hidden.index_select(0, places))
        return SlotKeys(vectors.unflatten(0, shape), present.unflatten(0, shape))

    def forward(self, logits: Tensor, hidden: Tensor, keys: SlotKeys, problems: Tensor) -> Tensor:
        """Logits [M, V] of hidden states [M, C] with the scores added; `problems` [M] says whose keys count."""
        query = self.query(hidden) * hidden.shape[-1] ** -0.5
        scores = torch.bmm(keys.vectors.index_select(0, problems), query[:, :, None]).squeeze(2)
        scores = scores.masked_fill(~keys.present.index_select(0, problems), 0.0)
        # Losses and decoding take half-precision logits to fp32 anyway: here the sum gains by it.
        wide = torch.promote_types(logits.dtype, torch.float32)
        return logits.to(wide).index_add(1, self.slots, scores.to(wide))


class PointerState:
    """The state of decoding with a pointer: the cache of the stack, and the keys of each prompt.

    带指针的解码状态：键值缓存与各题的槽位键。

    Row r continues the prompt `prompt_of_row[r]`, by the first numbering of the prompts: keys are small, and
    those that no row needs any more are kept.
    """

    def __init__(self, cache: DecodingState, keys: SlotKeys) -> None:
        self.cache, self.keys = cache, keys
        self.prompt_of_row = torch.arange(cache.rows, device=keys.present.device)

    @property
    def length(self) -> int:
        """How many tokens were appended after the prompt."""
        return self.cache.length

    def select(self, rows: Tensor) -> None:
        """Row r becomes old row rows[r]."""
        self.cache.select(rows)
        self.prompt_of_row = self.prompt_of_row[rows.to(self.prompt_of_row.device)]

    def truncate(self, length: int) -> None:
        """Forgets the appended tokens from `length` on."""
        self.cache.truncate(length)


class PointerTransformer(nn.Module):
    """A UniLM Transformer whose slots are scored by a pointer too.

    带指针打分的 UniLM Transformer。
    """

    def __init__(self, transformer: Transformer, pointer: SlotPointer) -> None:
        super().__init__()
        self.transformer, self.pointer = transformer, pointer

    def forward(self, batch: SequenceBatch) -> Tensor:
        """Logits [M, V] at the predicting places of a packed batch."""
        stack, layout = self.transformer, batch.layout
        hidden = stack.body(stack.embed(batch.token_ids, layout), layout)
        predicting = hidden.index_select(0, batch.predictors)
        keys = self.pointer.keys(hidden, batch.token_ids, layout)
        problems = layout.row_of_token.index_select(0, batch.predictors)
        return self._pointed(predicting, keys, problems)

    @torch.no_grad()
    def prompt(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, PointerState]:
        """Reads problems in one pass: next-token logits [P, V] at their ends, and the state to go on from.

        一次读入全部题目，返回末尾的下一词元 logits 与解码状态。

        Raises UserError for an empty prompt or no prompt, and for a model in training mode.
        """
        hidden, cache = self.transformer.read(rows)
        device = hidden.device
        ids = torch.tensor([token for row in rows for token in row], dtype=torch.int64, device=device)
        layout = Layout.of([len(row) for row in rows], device=device)
        state = PointerState(cache, self.pointer.keys(hidden, ids, layout))
        ends = torch.tensor(list(accumulate(map(len, rows))), device=device) - 1
        return self._pointed(hidden[ends], state.keys, state.prompt_of_row), state

    @torch.no_grad()
    def step(self, tokens: Tensor, state: PointerState) -> Tensor:
        """Appends tokens [R, T] to the rows of the state; returns next-token logits [R, T, V].

        向每行追加词元并返回下一词元的 logits。

        Raises UserError for a model in training mode, and for tokens of another shape.
        """
        hidden = self.transformer.advance(tokens, state.cache).flatten(0, 1)
        problems = state.prompt_of_row.repeat_interleave(tokens.shape[1])
        return self._pointed(hidden, state.keys, problems).unflatten(0, tokens.shape)

    def _pointed(self, hidden: Tensor, keys: SlotKeys, problems: Tensor) -> Tensor:
        pointed: Tensor = self.pointer(self.transformer.lm_logits(hidden), hidden, keys, problems)
        return pointed


def pointed_logits(model: PointerTransformer, batch: SequenceBatch) -> Tensor:
    """[M, V]: what `predict_targets` compares with the labels. 目标位置的 logits。"""
    logits: Tensor = model(batch)
    return logits


def add_pointer(transformer: Transformer, layout: SlotLayout) -> PointerTransformer:
    """The Transformer with a new pointer at the slots of the layout, drawn as its other matrices are.

    给模型加上新初始化的指针。
    """
    pointer = SlotPointer(transformer.config.hidden_size, slot_ids(layout))
    deviation = transformer.config.initial_deviation
    for weight in pointer.parameters():
        nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)
    return PointerTransformer(transformer, pointer)


def slot_ids(layout: SlotLayout) -> tuple[int, ...]:
    """The ids of [N0], [N1], ...: the operands that stand in a problem of that many numbers.

    各槽位词元的编号。
    """
    reading = layout.read("，".join(["1"] * layout.options.slots))
    operands = {token for operand in reading.operands.sequences for token in operand}
    return tuple(token for token in reading.source if token in operands)


def load_pointer(transformer: Transformer, layout: SlotLayout, folder: Path) -> PointerTransformer:
    """A Transformer opened from a folder, with the pointer that lies beside it, ready for inference.

    读取指针权重并与模型组合。

    Device and format of numbers are the Transformer's. Raises UserError for a missing, broken or foreign file.
    """
    pointer = SlotPointer(transformer.config.hidden_size, slot_ids(layout))
    load_part(pointer, "pointer", folder)
    weight = transformer.embeddings.token.weight
    return PointerTransformer(transformer, pointer.to(weight.device, weight.dtype)).eval()
