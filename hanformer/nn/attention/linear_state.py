"""The state of decoding with linear attention: a sum of fixed size for each layer, head and row."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hanformer.nn.attention.linear_sums import added, meet
from hanformer.nn.attention.state import DecodingState, Opening
from hanformer.nn.functional.visibility import Tokens

#: Features [R, H, T, m] and values with ones [R, H, T, E] of some tokens.
Block = tuple[Tensor, Tensor]


class LinearState(DecodingState):
    """Σ_j ϕ(k_j) v_jᵀ of every row, [R, H, m, E] a layer, whatever the length.

    线性注意力的解码状态：每层每行一个固定大小的和，与长度无关。

    The tokens of the last step are kept beside the sums until the next one begins, so that they can be taken back, one
    or all: what a draft that guessed wrong needs. `truncate` refuses to go back further.
    """

    def __init__(self, opening: Opening) -> None:
        super().__init__(opening)
        self._sums = [torch.empty(0)] * opening.layers
        self._step: list[Block] = []
        self._new: dict[int, Block] = {}
        self._held = 0

    def tensors(self) -> Iterator[Tensor]:
        """The sums, and the tokens of the last step."""
        yield from self._sums
        for block in self._step:
            yield from block

    @property
    def earliest(self) -> int:
        """The length before the last step."""
        return self.length - self._held

    def store_prompt(self, layer: int, sums: Tensor) -> None:
        """Keeps the sums over each prompt: [P, H, m, E]."""
        self._sums[layer] = sums

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Appends features [R, H, T, m] and values [R, H, T, E]; the sums that queries see: [R, H, T, E]."""
        self._new[layer] = (key, value)
        return meet(query, key, value, self._sums[layer])

    def _announce(self, own: Tokens, positions: Tensor) -> None:
        """The last step can no longer be taken back."""
        for layer, (key, value) in enumerate(self._step):
            self._sums[layer] = added(self._sums[layer], key, value)
        self._step, self._held = [], 0
        self._new.clear()

    def commit(self) -> None:
        """Counts the announced tokens as appended; they can be taken back until the next ones are announced."""
        self._step = [self._new[layer] for layer in range(self.layers)]
        self._held = self._fresh
        self._new.clear()
        super().commit()

    def _cut(self, length: int) -> None:
        self._held -= self.length - length
        self._step = [(key[:, :, : self._held], value[:, :, : self._held]) for key, value in self._step]

    def _select_rows(self, rows: Tensor) -> None:
        device = self.prompt_of_row.device
        rows = rows.to(device)
        self._sums = [sums[rows] for sums in self._sums]
        self._step = [(key[rows], value[rows]) for key, value in self._step]

    def _forget_prompts(self, used: Tensor) -> None:
        """Rows own their sums: there is nothing of prompts to forget."""
