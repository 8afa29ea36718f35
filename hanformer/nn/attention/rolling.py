"""Decoding with a window: what no token will look at again is forgotten, so that the state stays bounded."""

from __future__ import annotations

import torch
from torch import Tensor

from hanformer.nn.attention.cache import KeyValueCache
from hanformer.nn.attention.softmax import SoftmaxAttention
from hanformer.nn.attention.state import DecodingState, Opening
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.visibility import Rule, Tokens, rectangle

#: Room for this share of the window, and at least so many tokens, before what is out of sight is let go.
_RESERVE = 0.25
_LEAST_RESERVE = 16


class RollingCache(KeyValueCache):
    """The keys and values that the window of a rule still reaches: at most `window` tokens of prompt and row each.

    滚动的键值缓存：只保存窗口内还看得见的键与值，大小有上界。

    The same as a KeyValueCache in every number. `window` is how far back the rule looks. What rows own is let go in
    portions, so `truncate` can go back to `earliest`, which is never above the length before the last step.
    """

    def __init__(self, opening: Opening) -> None:
        super().__init__(opening)
        rule, prompts = opening.rule, opening.prompts
        self.window = max(-span.low for span in rule.spans)
        lengths = torch.tensor(prompts.lengths, device=prompts.positions.device)
        self._seen = prompts.index_of_token >= (lengths - self.window)[prompts.row_of_token]
        kept = Layout.of([min(length, self.window) for length in prompts.lengths], device=lengths.device)
        self._group = rectangle(kept)
        self._prompt_real = self._group.real()
        known = (prompts.index_of_token, prompts.segments, prompts.reach_of_token, prompts.positions)
        index, segments, reach, positions = (self._group.fill(values[self._seen]) for values in known)
        self._prompt_tokens, self._prompt_positions = Tokens(index, segments, reach), positions
        self._gone = self._first = 0

    def store_prompt(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Keeps of the packed prompts [N, G, D] what the first appended token can see."""
        super().store_prompt(layer, key[self._seen], value[self._seen])

    @property
    def earliest(self) -> int:
        """The least length whose next token sees nothing that is gone."""
        return self._gone + self.window if self._gone else 0

    @property
    def _filled(self) -> int:
        return self.length - self._gone

    def _announce(self, own: Tokens, positions: Tensor) -> None:
        """Looks at the window alone; lets go of what lies before it when the buffers are full."""
        self._first = max(0, self.length - self.window)
        rooms = [pair[0].shape[2] for pair in self._own if pair is not None]
        if rooms and self._filled + self._fresh > min(rooms) and self._first > self._gone:
            self._let_go()
        near = slice(self._first, None)
        near_own = Tokens(own.index[:, near], own.segment[:, near], own.reach[:, near])
        super()._announce(near_own, positions[:, near])

    def _let_go(self) -> None:
        """Buffers begin anew with the window. Rows that are so long do not see their prompts either."""
        begin, end = self._first - self._gone, self._filled
        for layer, pair in enumerate(self._own):
            if pair is not None:
                self._own[layer] = (pair[0][:, :, begin:end], pair[1][:, :, begin:end])
        if not self._gone:
            # Empty views would hold what they are views of.
            self._prompt = [(key[:, :, :0].clone(), value[:, :, :0].clone()) for key, value in self._prompt]
            tokens = self._prompt_tokens
            self._prompt_tokens = Tokens(tokens.index[:, :0], tokens.segment[:, :0], tokens.reach[:, :0])
            self._prompt_real = self._prompt_real[:, :0]
            self._prompt_positions = self._prompt_positions[:, :0]
        self._gone = self._first

    def _room(self, needed: int) -> int:
        most = self.window + max(_LEAST_RESERVE, int(self.window * _RESERVE)) + self._fresh
        return max(needed, min(super()._room(needed), most))

    def _append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = super()._append(layer, key, value)
        begin = self._first - self._gone
        return keys[:, :, begin:], values[:, :, begin:]


class WindowedAttention(SoftmaxAttention):
    """Softmax attention whose rule looks back a limited way, so that decoding forgets the rest.

    窗口注意力：解码状态有上界。
    """

    def state_kind(self, rule: Rule) -> type[DecodingState]:
        """A rolling cache."""
        return RollingCache
