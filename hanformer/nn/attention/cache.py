"""Keys and values of what was read and written, for decoding.

A prompt is stored once, whatever the number of rows (beams) that continue it; each row owns what was appended
to it. Choosing rows therefore moves the appended part alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.visibility import Group, Rule, Tokens, tokens_of

_FIRST_CAPACITY = 16


class KeyValueCache:
    """The state of decoding with softmax attention: prompts, appended tokens, and which row continues which.

    解码用的键值缓存：提示只存一份，各行（束）只保存自己追加的部分。

    P prompts padded to Lp tokens; R rows, each the continuation of prompt `prompt_of_row[r]`; S appended tokens
    in every row. All rows are equally long in what was appended. Appended tokens carry segment `segment`.
    """

    def __init__(self, rule: Rule, prompts: Layout, layers: int, segment: int) -> None:
        longest = max(prompts.lengths, default=0)
        if not prompts.rows or not min(prompts.lengths):
            raise UserError("decoding: every prompt needs at least one token")
        places = prompts.row_of_token * longest + prompts.index_of_token
        self.rule, self.segment, self.length = rule, segment, 0
        self._group = Group(prompts.rows, longest, slice(0, prompts.total), places)
        self._prompt_tokens = tokens_of(prompts, self._group)
        self._prompt_real = self._group.real()
        device = prompts.positions.device
        last = torch.tensor(prompts.offsets[1:], device=device) - 1
        # Index, position and reach of the last prompt token: what appended tokens count on from.
        self._last = torch.stack(
            [prompts.index_of_token[last], prompts.positions[last], prompts.reach_of_token[last]]
        )
        self._prompt: list[tuple[Tensor, Tensor]] = [(torch.empty(0), torch.empty(0))] * layers
        self._own: list[Tensor | None] = [None] * layers
        # The same numbers twice: decisions are taken on the host, rows are fetched on the device.
        self._prompt_on_host = torch.arange(prompts.rows)
        self.prompt_of_row = self._prompt_on_host.to(device)
        self._group_size = 1
        self._fresh = 0
        self._hidden: Tensor | None = None
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
        positions = (position + steps[fresh]).flatten()
        self.layout = Layout((count,) * self.rows, positions, segments[:, fresh].flatten())
        return self.layout

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Appends this layer's keys and values [R * T, H, D] and returns what the queries see: [R * T, H, D]."""
        shape = (self.rows, self._fresh)
        query, key, value = (x.unflatten(0, shape).transpose(1, 2) for x in (query * scale, key, value))
        own_key, own_value = self._append(layer, key, value)
        own_logits = query @ own_key.transpose(-1, -2)
        prompt_key, prompt_value = self._prompt[layer]
        if not self._group_size:
            prompt_key, prompt_value = prompt_key[self.prompt_of_row], prompt_value[self.prompt_of_row]
        prompt_logits = self._ungroup(self._regroup(query) @ prompt_key.transpose(-1, -2))
        logits = torch.cat([prompt_logits, own_logits], dim=-1)
        if self._hidden is not None:
            logits = logits.masked_fill(self._hidden, float("-inf"))
        # No row of this softmax is empty: a token sees at least itself.
        weights = torch.softmax(logits, -1, torch.promote_types(logits.dtype, torch.float32)).to(logits.dtype)
        prompt_weights, own_weights = weights.split([prompt_logits.shape[-1], own_logits.shape[-1]], dim=-1)
        mixed = self._ungroup(self._regroup(prompt_weights) @ prompt_value) + own_weights @ own_value
        return mixed.transpose(1, 2).flatten(0, 1)

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
        """Writes [R, H, T, D] behind what the rows own; buffers grow by doubling."""
        needed = self.length + self._fresh
        buffer = self._own[layer]
        if buffer is None or buffer.shape[3] < needed:
            grown = key.new_empty(2, *key.shape[:2], max(_FIRST_CAPACITY, 2 * needed), key.shape[3])
            if buffer is not None:
                grown[:, :, :, : self.length] = buffer[:, :, :, : self.length]
            self._own[layer] = buffer = grown
        buffer[0, :, :, self.length : needed] = key
        buffer[1, :, :, self.length : needed] = value
        return buffer[0, :, :, :needed], buffer[1, :, :, :needed]

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
        for layer, buffer in enumerate(self._own):
            if buffer is not None:
                self._own[layer] = _take_rows(buffer, rows, self.length)
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

    def truncate(self, length: int) -> None:
        """Forgets the appended tokens from `length` on."""
        if not 0 <= length <= self.length:
            raise UserError(f"truncate: expected a length from 0 to {self.length}, got {length}")
        self.length = length


def _take_rows(buffer: Tensor, rows: Tensor, length: int) -> Tensor:
    """The chosen rows of [2, R, H, S, D]; in place where only some of them change."""
    if len(rows) != buffer.shape[1]:
        return buffer.index_select(1, rows.to(buffer.device))
    moved = (rows != torch.arange(len(rows))).nonzero().squeeze(1)
    target, origin = moved.to(buffer.device), rows[moved].to(buffer.device)
    buffer[:, target, :, :length] = buffer[:, origin, :, :length]
    return buffer


def _common_group(prompt_of_row: Tensor, prompts: int) -> int:
    """K where prompt p owns exactly the rows pK to (p + 1)K - 1; otherwise 0: prompts are fetched row by row."""
    size, rest = divmod(len(prompt_of_row), max(prompts, 1))
    if rest or not size:
        return 0
    expected = torch.arange(prompts).repeat_interleave(size)
    return size if torch.equal(prompt_of_row, expected) else 0
