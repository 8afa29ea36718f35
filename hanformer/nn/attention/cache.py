"""Keys and values of what was read and written, for decoding.

A prompt is stored once, whatever the number of rows (beams) that continue it; each row owns what was appended
to it. Choosing rows therefore moves the appended part alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from hanformer.nn.attention.state import DecodingState, Opening, fold, unfold
from hanformer.nn.functional.attend import Normaliser
from hanformer.nn.functional.joint import without_overflow
from hanformer.nn.functional.visibility import Tokens, rectangle, tokens_of

_FIRST_CAPACITY = 16


class KeyValueCache(DecodingState):
    """The state of decoding with softmax attention: keys and values of prompts and of appended tokens.

    解码用的键值缓存：提示只存一份，各行（束）只保存自己追加的部分。

    P prompts padded to Lp tokens, S appended tokens in each of R rows; what every state is stands in
    `DecodingState`.
    """

    def __init__(self, opening: Opening) -> None:
        super().__init__(opening)
        prompts, layers = opening.prompts, opening.layers
        self._group = rectangle(prompts)
        self._prompt_tokens = tokens_of(prompts, self._group)
        self._prompt_real = self._group.real()
        self._prompt_positions = self._group.fill(prompts.positions)
        self._prompt: list[tuple[Tensor, Tensor]] = [(torch.empty(0), torch.empty(0))] * layers
        self._own: list[tuple[Tensor, Tensor] | None] = [None] * layers
        self._hidden: Tensor | None = None
        self._own_positions = torch.empty(0)

    def tensors(self) -> Iterator[Tensor]:
        """Keys and values of every layer, without the room that buffers keep in reserve."""
        for pair in self._prompt:
            yield from pair
        for own in self._own:
            if own is not None:
                yield from (buffer[:, :, : self._filled] for buffer in own)

    def store_prompt(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Keeps the keys and values [N, H, D] of the packed prompts as [P, H, Lp, D]."""
        self._prompt[layer] = (self._group.gather(key).contiguous(), self._group.gather(value).contiguous())

    def _announce(self, own: Tokens, positions: Tensor) -> None:
        """What announced tokens may not see: bool [R, 1, T, Lp + S], or None where that is nothing."""
        fresh = slice(-self._fresh, None)
        query = Tokens(own.index[:, fresh], own.segment[:, fresh], own.reach[:, fresh]).as_queries()
        prompt = self._prompt_tokens.select(self.prompt_of_row)
        real = self._prompt_real[self.prompt_of_row, None, :]
        visible = [self.rule.allows(query, prompt.as_keys()) & real, self.rule.allows(query, own.as_keys())]
        hidden = ~torch.cat(visible, dim=-1)[:, None]
        # On a CPU looking is free, and most steps hide nothing; on a GPU it would wait for the queue.
        self._hidden = hidden if hidden.is_cuda or bool(hidden.any()) else None
        self._own_positions = positions

    def _distance(self) -> Tensor:
        """From the announced tokens to everything they may see: [R, T, Lp + S]."""
        keys = torch.cat([self._prompt_positions[self.prompt_of_row], self._own_positions], dim=1)
        return keys[:, None, :] - self._query_positions[:, :, None]

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        normalise: Normaliser | None = None,
    ) -> Tensor:
        """Appends this layer's keys and values [R * T, G, D]; returns what queries [R * T, H, D] see: the same.

        `normalise` makes weights of logits; softmax unless given.
        """
        shape = (self.rows, self._fresh)
        query, key, value = (x.unflatten(0, shape).transpose(1, 2) for x in (query * scale, key, value))
        own_key, own_value = self._append(layer, key, value)
        prompt = self._of_rows(self._prompt[layer])
        heads, groups = query.shape[1], key.shape[1]
        folded = fold(query, groups)
        parts = [
            self._scores(folded, prompt[0], self._meet),
            self._scores(folded.to(own_key.dtype), own_key, torch.matmul),
        ]
        logits = unfold(torch.cat(parts, dim=-1), heads)
        if self.relative is not None:
            logits = logits + self.relative.logits(query, self._distance())
        weights = self._weigh(self._add_below(logits, crossing=False), self._hidden, normalise)
        seen = fold(weights, groups).split([parts[0].shape[-1], own_key.shape[2]], dim=-1)
        mixed = self._meet(seen[0].to(value.dtype), prompt[1]) + seen[1].to(own_value.dtype) @ own_value
        mixed = unfold(mixed, heads).to(value.dtype)
        moved = None
        if self.relative is not None:
            moved = self.relative.values(weights.to(value.dtype), self._distance())
        mixed = mixed if moved is None else mixed + moved
        return mixed.transpose(1, 2).flatten(0, 1)

    def _scores(self, query: Tensor, key: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        # A GPU keeps float16: copies of all keys at every step would cost more than the attention itself.
        if not query.is_cuda:
            query, key = without_overflow(query, key)
        return product(query, key.transpose(-1, -2))

    def _weigh(self, logits: Tensor, hidden: Tensor | None, normalise: Normaliser | None = None) -> Tensor:
        """Softmax at least in float32. No row of it is empty: a token sees at least itself."""
        if hidden is not None:
            logits = logits.masked_fill(hidden, float("-inf"))
        if normalise is not None:
            return normalise(logits)
        return torch.softmax(logits, -1, torch.promote_types(logits.dtype, torch.float32)).to(logits.dtype)

    def _append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Writes [R, G, T, D] behind what the rows own; buffers grow by doubling."""
        own = self._own[layer] or (None, None)
        keys, values = (self._behind(*pair) for pair in zip(own, (key, value), strict=True))
        self._own[layer] = (keys, values)
        needed = self._filled + self._fresh
        return keys[:, :, :needed], values[:, :, :needed]

    def _behind(self, buffer: Tensor | None, fresh: Tensor) -> Tensor:
        filled, needed = self._filled, self._filled + self._fresh
        if buffer is None or buffer.shape[2] < needed:
            room = (*fresh.shape[:2], self._room(needed), fresh.shape[3])
            grown = fresh.new_empty(room, dtype=_kept_as(fresh))
            if buffer is not None:
                grown[:, :, :filled] = buffer[:, :, :filled]
            buffer = grown
        buffer[:, :, filled:needed] = fresh
        return buffer

    @property
    def _filled(self) -> int:
        """How many appended tokens the buffers hold."""
        return self.length

    def _room(self, needed: int) -> int:
        """The size of buffers that are too small for so many tokens."""
        return max(_FIRST_CAPACITY, 2 * needed)

    def _select_rows(self, rows: Tensor) -> None:
        for layer, own in enumerate(self._own):
            if own is not None:
                key, value = (_take_rows(buffer, rows, self._filled) for buffer in own)
                self._own[layer] = (key, value)

    def _forget_prompts(self, used: Tensor) -> None:
        self._prompt = [(key[used], value[used]) for key, value in self._prompt]
        self._prompt_tokens = self._prompt_tokens.select(used)
        self._prompt_real = self._prompt_real[used]
        self._prompt_positions = self._prompt_positions[used]

    def _cut(self, length: int) -> None:
        """Nothing to do: what lies beyond the length is written over."""


def _kept_as(fresh: Tensor) -> torch.dtype:
    """A CPU copies parts of buffers in half precision before it multiplies them; float32 it reads where it lies."""
    return fresh.dtype if fresh.is_cuda else torch.promote_types(fresh.dtype, torch.float32)


def _take_rows(buffer: Tensor, rows: Tensor, length: int) -> Tensor:
    """The chosen rows of [R, G, S, D]; in place where only some of them change."""
    if len(rows) != buffer.shape[0]:
        return buffer.index_select(0, rows.to(buffer.device))
    moved = (rows != torch.arange(len(rows))).nonzero().squeeze(1)
    target, origin = moved.to(buffer.device), rows[moved].to(buffer.device)
    buffer[target, :, :length] = buffer[origin, :, :length]
    return buffer
