"""What every state of decoding is: rows that continue prompts, a layout for what is appended, and its size.

A mechanism says which kind it opens (`SoftmaxAttention.state_kind`), and its module fills it, layer by layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.nn.attention.relative import RelativePositions
from hanformer.nn.functional.attend import softmax
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.visibility import Rule, Tokens, rectangle

Kind = TypeVar("Kind", bound="DecodingState")


class Memory:
    """What decoders look back at: keys and values of encoder rows, one row for each prompt.

    编码器记忆：每个提示对应一行编码器的键与值。

    `rows` is the layout of P encoder rows, padded to Lm tokens inside. Rows may be empty: what nobody sees is 0.
    """

    def __init__(self, rows: Layout, layers: int) -> None:
        self._group = rectangle(rows)
        self.real = self._group.real()[:, None, None, :]
        self.positions = self._group.fill(rows.positions)
        self.of_layer: list[tuple[Tensor, Tensor]] = [(torch.empty(0), torch.empty(0))] * layers

    def store(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Keeps the keys and values [N, G, D] of packed encoder rows as [P, G, Lm, D]."""
        self.of_layer[layer] = (self._group.gather(key).contiguous(), self._group.gather(value).contiguous())

    def tensors(self) -> Iterator[Tensor]:
        """All keys and values."""
        return (tensor for pair in self.of_layer for tensor in pair)

    def keep(self, used: Tensor) -> None:
        """Forgets all rows but these."""
        self.of_layer = [(key[used], value[used]) for key, value in self.of_layer]
        self.real, self.positions = self.real[used], self.positions[used]


@dataclass(frozen=True)
class Opening:
    """What a state of decoding is opened with: P prompts, and what acts on them and on all that is appended.

    打开解码状态所需的一切：提示及其可见规则、层数、位置、记忆与条件。

    Appended tokens carry segment `segment`. `relative` positions act on every layer, `residual` adds the logits of the
    layer below, `memory` is what a decoder looks back at, `condition` [P, c] what conditional norms are given.
    """

    rule: Rule
    prompts: Layout
    layers: int
    segment: int
    relative: RelativePositions | None = None
    residual: bool = False
    memory: Memory | None = None
    condition: Tensor | None = None


class DecodingState(ABC):
    """What decoding remembers, whatever the mechanism: which row continues which prompt, and where it stands.

    解码状态的共同部分：各行接续哪个提示、已追加多少词元、位置与条件。

    R rows, each the continuation of prompt `prompt_of_row[r]`; all rows are equally long in what was appended. A kind
    adds how a layer's prompts are stored and how appended tokens are mixed, and fills in the hooks.
    """

    def __init__(self, opening: Opening) -> None:
        prompts = opening.prompts
        if not prompts.rows or not min(prompts.lengths):
            raise UserError("decoding: every prompt needs at least one token")
        self.rule, self.layers, self.segment, self.length = opening.rule, opening.layers, opening.segment, 0
        self.relative, self.residual = opening.relative, opening.residual
        self.memory, self._condition = opening.memory, opening.condition
        self._below: dict[bool, Tensor] = {}
        device = prompts.positions.device
        last = torch.tensor(prompts.offsets[1:], device=device) - 1
        # Index, position and reach of the last prompt token: what appended tokens count on from.
        self._last = torch.stack(
            [prompts.index_of_token[last], prompts.positions[last], prompts.reach_of_token[last]]
        )
        # The same numbers twice: decisions are taken on the host, rows are fetched on the device.
        self._prompt_on_host = torch.arange(prompts.rows)
        self.prompt_of_row = self._prompt_on_host.to(device)
        self._group_size = 1
        self._fresh = 0
        self._query_positions = torch.empty(0)
        #: The layout of the tokens that `begin` announced last.
        self.layout = Layout.of((), device=device)

    # ------------------------------------------------------------------------------------------- hooks
    @abstractmethod
    def tensors(self) -> Iterator[Tensor]:
        """Everything kept of what was read and written, as far as it is filled: what `bytes` counts."""

    @abstractmethod
    def _select_rows(self, rows: Tensor) -> None:
        """Row r of what rows own becomes old row rows[r], on the host."""

    @abstractmethod
    def _cut(self, length: int) -> None:
        """Forgets appended tokens from `length` on, which is not below `earliest`."""

    @abstractmethod
    def _announce(self, own: Tokens, positions: Tensor) -> None:
        """Learns of all appended tokens [R, S], the announced ones last, and their positions [R, S]."""

    @abstractmethod
    def _forget_prompts(self, used: Tensor) -> None:
        """Keeps these prompts alone."""

    @property
    def earliest(self) -> int:
        """The least length that `truncate` can go back to. 可以截断到的最短长度。"""
        return 0

    # ------------------------------------------------------------------------------------------- rows
    @property
    def rows(self) -> int:
        """The number of rows, R."""
        return len(self.prompt_of_row)

    def bytes(self) -> int:
        """The size of the state: what was read and written, without the model. 状态占用的字节数。"""
        kept = [*self.tensors(), *([] if self.memory is None else self.memory.tensors())]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)

    def begin(self, count: int) -> Layout:
        """Announces `count` more tokens a row; returns their layout (positions and segments go on)."""
        if count < 1:
            raise UserError(f"decoding: expected at least one new token a row, got {count}")
        self._fresh = count
        index, position, reach = (values[self.prompt_of_row, None] for values in self._last)
        steps = torch.arange(1, self.length + count + 1, device=index.device)
        segments = torch.full((self.rows, len(steps)), self.segment, device=index.device)
        positions = position + steps
        self._query_positions = positions[:, self.length :]
        self._announce(Tokens(index + steps, segments, reach + self.segment * steps), positions)
        self._below.clear()
        self.layout = Layout(
            (count,) * self.rows, self._query_positions.flatten(), segments[:, self.length :].flatten()
        )
        return self.layout

    def condition(self, tokens: int) -> Tensor | None:
        """The condition of so many tokens of every row: [R * T, c], or None."""
        if self._condition is None:
            return None
        return self._condition[self.prompt_of_row].repeat_interleave(tokens, 0)

    def condition_of(self, prompts: Layout) -> Tensor | None:
        """The condition of every prompt token: [N, c], or None."""
        return None if self._condition is None else self._condition[prompts.row_of_token]

    def commit(self) -> None:
        """Counts the announced tokens as appended, once every layer has stored them."""
        self.length += self._fresh
        self._fresh = 0

    def select(self, rows: Tensor) -> None:
        """Row r becomes old row rows[r]; rows may be repeated, dropped and reordered."""
        count, rows = self.rows, rows.cpu()
        if rows.dim() != 1 or (rows.numel() and not 0 <= int(rows.min()) <= int(rows.max()) < count):
            raise UserError(f"select: expected row numbers below {count}, got {rows.tolist()}")
        if torch.equal(rows, torch.arange(count)):
            return
        self._select_rows(rows)
        used, prompt_of_row = torch.unique(self._prompt_on_host[rows], return_inverse=True)
        self._keep_prompts(used.to(self._last.device))
        self._prompt_on_host = prompt_of_row
        self.prompt_of_row = prompt_of_row.to(self._last.device)
        self._group_size = _common_group(prompt_of_row, len(used))

    def _keep_prompts(self, used: Tensor) -> None:
        """Forgets prompts that no row continues."""
        if len(used) == self._last.shape[1]:
            return
        self._last = self._last[:, used]
        self._forget_prompts(used)
        if self.memory is not None:
            self.memory.keep(used)
        if self._condition is not None:
            self._condition = self._condition[used]

    def truncate(self, length: int) -> None:
        """Forgets the appended tokens from `length` on.

        Raises UserError for a length that was never reached, or that the state cannot go back to.
        """
        if not 0 <= length <= self.length:
            raise UserError(f"truncate: expected a length from 0 to {self.length}, got {length}")
        if length < self.earliest:
            raise UserError(
                f"truncate: this state of fixed size can go back to length {self.earliest}, not to {length}: "
                "what was added to it before is not kept apart; read the prompt anew"
            )
        self._cut(length)
        self.length = length

    # ----------------------------------------------------------------------------------- looking back
    def recall(
        self, layer: int, query: Tensor, scale: float, relative: RelativePositions | None = None
    ) -> Tensor:
        """What queries [R * T, H, D] see of the memory: the same shape. `relative` is bert4keras' cross bias."""
        if self.memory is None:
            raise UserError("decoding: this state has no memory to look back at")
        query = (query * scale).unflatten(0, (self.rows, self._fresh)).transpose(1, 2)
        key, value = self._of_rows(self.memory.of_layer[layer])
        heads, groups = query.shape[1], key.shape[1]
        logits = unfold(self._meet(fold(query, groups), key.transpose(-1, -2)), heads)
        if relative is not None:
            distance = (
                self.memory.positions[self.prompt_of_row][:, None, :] - self._query_positions[:, :, None]
            )
            logits = logits + relative.logits(query, distance)
        weights = softmax(
            self._add_below(logits, crossing=True).masked_fill(
                ~self.memory.real[self.prompt_of_row], float("-inf")
            )
        )
        mixed = unfold(self._meet(fold(weights, groups), value), heads)
        return mixed.transpose(1, 2).flatten(0, 1)

    def _add_below(self, logits: Tensor, crossing: bool) -> Tensor:
        """Adds the logits of the layer below, where the model does so, and keeps these for the one above."""
        if not self.residual:
            return logits
        below = self._below.get(crossing)
        self._below[crossing] = logits = logits if below is None else logits + below
        return logits

    def _of_rows(self, stored: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Keys and values of prompts, fetched row by row where rows do not stand grouped by prompt."""
        if self._group_size:
            return stored
        return stored[0][self.prompt_of_row], stored[1][self.prompt_of_row]

    def _meet(self, folded: Tensor, stored: Tensor) -> Tensor:
        """[R, G, X, A] @ [P, G, A, B] to [R, G, X, B], all rows of a prompt in one product."""
        return self._ungroup(self._regroup(folded) @ stored)

    def _regroup(self, x: Tensor) -> Tensor:
        """[R, H, T, X] to [P, H, K * T, X]: the rows of one prompt beside each other."""
        if self._group_size <= 1:
            return x
        return x.unflatten(0, (-1, self._group_size)).transpose(1, 2).flatten(2, 3)

    def _ungroup(self, x: Tensor) -> Tensor:
        """The way back of `_regroup`."""
        if self._group_size <= 1:
            return x
        return x.unflatten(2, (self._group_size, -1)).transpose(1, 2).flatten(0, 1)


def state_as(state: DecodingState, kind: type[Kind]) -> Kind:
    """The state, known to be of the kind that a mechanism fills; raises UserError for another mechanism's.

    确认状态属于该机制。
    """
    if not isinstance(state, kind):
        raise UserError(
            f"step: expected a {kind.__name__}, got a {type(state).__name__}: "
            "a state can only be continued by the model that made it"
        )
    return state


def fold(x: Tensor, groups: int) -> Tensor:
    """[R, H, T, X] to [R, G, H / G * T, X]: the query heads of one key head beside each other."""
    if x.shape[1] == groups:
        return x
    return x.unflatten(1, (groups, -1)).flatten(2, 3)


def unfold(x: Tensor, heads: int) -> Tensor:
    """The way back of `fold`."""
    if x.shape[1] == heads:
        return x
    return x.unflatten(2, (heads // x.shape[1], -1)).flatten(1, 2)


def _common_group(prompt_of_row: Tensor, prompts: int) -> int:
    """K where prompt p owns exactly the rows pK to (p + 1)K - 1; otherwise 0: prompts are fetched row by row."""
    size, rest = divmod(len(prompt_of_row), max(prompts, 1))
    if rest or not size:
        return 0
    expected = torch.arange(prompts).repeat_interleave(size)
    return size if torch.equal(prompt_of_row, expected) else 0
