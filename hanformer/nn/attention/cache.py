"""Keys and values of what was read and written, for decoding.

A prompt is stored once, whatever the number of rows (beams) that continue it; each row owns what was appended
to it. Choosing rows therefore moves the appended part alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.nn.attention.relative import RelativePositions
from hanformer.nn.functional.attend import softmax
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.visibility import Rule, Tokens, rectangle, tokens_of

_FIRST_CAPACITY = 16


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

    def keep(self, used: Tensor) -> None:
        """Forgets all rows but these."""
        self.of_layer = [(key[used], value[used]) for key, value in self.of_layer]
        self.real, self.positions = self.real[used], self.positions[used]


class KeyValueCache:
    """The state of decoding with softmax attention: prompts, appended tokens, and which row continues which.

    解码用的键值缓存：提示只存一份，各行（束）只保存自己追加的部分。

    P prompts padded to Lp tokens; R rows, each the continuation of prompt `prompt_of_row[r]`; S appended tokens
    in every row. All rows are equally long in what was appended. Appended tokens carry segment `segment`.
    `relative` positions act on every layer, `residual` adds the logits of the layer below, `memory` is what a
    decoder looks back at, `condition` [P, c] what conditional norms are given.
    """

    def __init__(
        self,
        rule: Rule,
        prompts: Layout,
        layers: int,
        segment: int,
        *,
        relative: RelativePositions | None = None,
        residual: bool = False,
        memory: Memory | None = None,
        condition: Tensor | None = None,
    ) -> None:
        if not prompts.rows or not min(prompts.lengths):
            raise UserError("decoding: every prompt needs at least one token")
        self.rule, self.segment, self.length = rule, segment, 0
        self.relative, self.residual = relative, residual
        self.memory, self._condition = memory, condition
        self._below: dict[bool, Tensor] = {}
        self._group = rectangle(prompts)
        self._prompt_tokens = tokens_of(prompts, self._group)
        self._prompt_real = self._group.real()
        self._prompt_positions = self._group.fill(prompts.positions)
        device = prompts.positions.device
        last = torch.tensor(prompts.offsets[1:], device=device) - 1
        # Index, position and reach of the last prompt token: what appended tokens count on from.
        self._last = torch.stack(
            [prompts.index_of_token[last], prompts.positions[last], prompts.reach_of_token[last]]
        )
        self._prompt: list[tuple[Tensor, Tensor]] = [(torch.empty(0), torch.empty(0))] * layers
        self._own: list[tuple[Tensor, Tensor] | None] = [None] * layers
        # The same numbers twice: decisions are taken on the host, rows are fetched on the device.
        self._prompt_on_host = torch.arange(prompts.rows)
        self.prompt_of_row = self._prompt_on_host.to(device)
        self._group_size = 1
        self._fresh = 0
        self._hidden: Tensor | None = None
        self._places = (torch.empty(0), torch.empty(0))
        #: The layout of the tokens that `begin` announced last.
        self.layout = Layout.of((), device=device)

    @property
    def rows(self) -> int:
        """The number of rows, R."""
        return len(self.prompt_of_row)

    def store_prompt(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Keeps the keys and values [N, H, D] of the packed prompts as [P, H, Lp, D]."""
        self._prompt[layer] = (self._group.gather(key).contiguous(), self._group.gather(value).contiguous())

    def begin(self, count: int) -> Layout:
        """Announces `count` more tokens a row; returns their layout (positions and segments go on)."""
        if count < 1:
            raise UserError(f"decoding: expected at least one new token a row, got {count}")
        self._fresh = count
        index, position, reach = (values[self.prompt_of_row, None] for values in self._last)
        steps = torch.arange(1, self.length + count + 1, device=index.device)
        segments = torch.full((self.rows, len(steps)), self.segment, device=index.device)
        own = Tokens(index + steps, segments, reach + self.segment * steps)
        fresh = slice(self.length, None)
        query = Tokens(own.index[:, fresh], segments[:, fresh], own.reach[:, fresh]).as_queries()
        prompt = self._prompt_tokens.select(self.prompt_of_row)
        real = self._prompt_real[self.prompt_of_row, None, :]
        visible = [self.rule.allows(query, prompt.as_keys()) & real, self.rule.allows(query, own.as_keys())]
        hidden = ~torch.cat(visible, dim=-1)[:, None]
        # On a CPU looking is free, and most steps hide nothing; on a GPU it would wait for the queue.
        self._hidden = hidden if hidden.is_cuda or bool(hidden.any()) else None
        positions = position + steps
        self._places = (positions[:, fresh], positions)
        self._below.clear()
        self.layout = Layout(
            (count,) * self.rows, positions[:, fresh].flatten(), segments[:, fresh].flatten()
        )
        return self.layout

    def condition(self) -> Tensor | None:
        """The condition of every announced token: [R * T, c], or None."""
        if self._condition is None:
            return None
        return self._condition[self.prompt_of_row].repeat_interleave(self._fresh, 0)

    def condition_of(self, prompts: Layout) -> Tensor | None:
        """The condition of every prompt token: [N, c], or None."""
        return None if self._condition is None else self._condition[prompts.row_of_token]

    def _distance(self) -> Tensor:
        """From the announced tokens to everything they may see: [R, T, Lp + S]."""
        query, own = self._places
        keys = torch.cat([self._prompt_positions[self.prompt_of_row], own], dim=1)
        return keys[:, None, :] - query[:, :, None]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Appends this layer's keys and values [R * T, G, D]; returns what queries [R * T, H, D] see: the same."""
        shape = (self.rows, self._fresh)
        query, key, value = (x.unflatten(0, shape).transpose(1, 2) for x in (query * scale, key, value))
        own_key, own_value = self._append(layer, key, value)
        prompt = self._of_rows(self._prompt[layer])
        heads, groups = query.shape[1], key.shape[1]
        folded = _fold(query, groups)
        parts = [self._meet(folded, prompt[0].transpose(-1, -2)), folded @ own_key.transpose(-1, -2)]
        logits = _unfold(torch.cat(parts, dim=-1), heads)
        if self.relative is not None:
            logits = logits + self.relative.logits(query, self._distance())
        weights = self._weigh(self._add_below(logits, crossing=False), self._hidden)
        seen = _fold(weights, groups).split([parts[0].shape[-1], own_key.shape[2]], dim=-1)
        mixed = _unfold(self._meet(seen[0], prompt[1]) + seen[1] @ own_value, heads)
        moved = None if self.relative is None else self.relative.values(weights, self._distance())
        mixed = mixed if moved is None else mixed + moved
        return mixed.transpose(1, 2).flatten(0, 1)

    def recall(
        self, layer: int, query: Tensor, scale: float, relative: RelativePositions | None = None
    ) -> Tensor:
        """What queries [R * T, H, D] see of the memory: the same shape. `relative` is bert4keras' cross bias."""
        if self.memory is None:
            raise UserError("decoding: this state has no memory to look back at")
        query = (query * scale).unflatten(0, (self.rows, self._fresh)).transpose(1, 2)
        key, value = self._of_rows(self.memory.of_layer[layer])
        heads, groups = query.shape[1], key.shape[1]
        logits = _unfold(self._meet(_fold(query, groups), key.transpose(-1, -2)), heads)
        if relative is not None:
            distance = self.memory.positions[self.prompt_of_row][:, None, :] - self._places[0][:, :, None]
            logits = logits + relative.logits(query, distance)
        weights = softmax(
            self._add_below(logits, crossing=True).masked_fill(
                ~self.memory.real[self.prompt_of_row], float("-inf")
            )
        )
        mixed = _unfold(self._meet(_fold(weights, groups), value), heads)
        return mixed.transpose(1, 2).flatten(0, 1)

    def _add_below(self, logits: Tensor, crossing: bool) -> Tensor:
        """Adds the logits of the layer below, where the model does so, and keeps these for the one above."""
        if not self.residual:
            return logits
        below = self._below.get(crossing)
        self._below[crossing] = logits = logits if below is None else logits + below
        return logits

    def _weigh(self, logits: Tensor, hidden: Tensor | None) -> Tensor:
        """Softmax at least in float32. No row of it is empty: a token sees at least itself."""
        if hidden is not None:
            logits = logits.masked_fill(hidden, float("-inf"))
        return torch.softmax(logits, -1, torch.promote_types(logits.dtype, torch.float32)).to(logits.dtype)

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

    def _append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Writes [R, G, T, D] behind what the rows own; buffers grow by doubling."""
        own = self._own[layer] or (None, None)
        keys, values = (self._behind(*pair) for pair in zip(own, (key, value), strict=True))
        self._own[layer] = (keys, values)
        needed = self.length + self._fresh
        return keys[:, :, :needed], values[:, :, :needed]

    def _behind(self, buffer: Tensor | None, fresh: Tensor) -> Tensor:
        needed = self.length + self._fresh
        if buffer is None or buffer.shape[2] < needed:
            grown = fresh.new_empty(*fresh.shape[:2], max(_FIRST_CAPACITY, 2 * needed), fresh.shape[3])
            if buffer is not None:
                grown[:, :, : self.length] = buffer[:, :, : self.length]
            buffer = grown
        buffer[:, :, self.length : needed] = fresh
        return buffer

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
        for layer, own in enumerate(self._own):
            if own is not None:
                key, value = (_take_rows(buffer, rows, self.length) for buffer in own)
                self._own[layer] = (key, value)
        used, prompt_of_row = torch.unique(self._prompt_on_host[rows], return_inverse=True)
        self._keep_prompts(used.to(self._last.device))
        self._prompt_on_host = prompt_of_row
        self.prompt_of_row = prompt_of_row.to(self._last.device)
        self._group_size = _common_group(prompt_of_row, len(used))

    def _keep_prompts(self, used: Tensor) -> None:
        """Forgets prompts that no row continues."""
        if len(used) == self._last.shape[1]:
            return
        self._prompt = [(key[used], value[used]) for key, value in self._prompt]
        self._prompt_tokens = self._prompt_tokens.select(used)
        self._prompt_real, self._last = self._prompt_real[used], self._last[:, used]
        self._prompt_positions = self._prompt_positions[used]
        if self.memory is not None:
            self.memory.keep(used)
        if self._condition is not None:
            self._condition = self._condition[used]

    def truncate(self, length: int) -> None:
        """Forgets the appended tokens from `length` on."""
        if not 0 <= length <= self.length:
            raise UserError(f"truncate: expected a length from 0 to {self.length}, got {length}")
        self.length = length


def _fold(x: Tensor, groups: int) -> Tensor:
    """[R, H, T, X] to [R, G, H / G * T, X]: the query heads of one key head beside each other."""
    if x.shape[1] == groups:
        return x
    return x.unflatten(1, (groups, -1)).flatten(2, 3)


def _unfold(x: Tensor, heads: int) -> Tensor:
    """The way back of `_fold`."""
    if x.shape[1] == heads:
        return x
    return x.unflatten(2, (heads // x.shape[1], -1)).flatten(1, 2)


def _take_rows(buffer: Tensor, rows: Tensor, length: int) -> Tensor:
    """The chosen rows of [R, G, S, D]; in place where only some of them change."""
    if len(rows) != buffer.shape[0]:
        return buffer.index_select(0, rows.to(buffer.device))
    moved = (rows != torch.arange(len(rows))).nonzero().squeeze(1)
    target, origin = moved.to(buffer.device), rows[moved].to(buffer.device)
    buffer[target, :, :length] = buffer[origin, :, :length]
    return buffer


def _common_group(prompt_of_row: Tensor, prompts: int) -> int:
    """K where prompt p owns exactly the rows pK to (p + 1)K - 1; otherwise 0: prompts are fetched row by row."""
    size, rest = divmod(len(prompt_of_row), max(prompts, 1))
    if rest or not size:
        return 0
    expected = torch.arange(prompts).repeat_interleave(size)
    return size if torch.equal(prompt_of_row, expected) else 0
