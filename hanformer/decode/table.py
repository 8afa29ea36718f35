"""A table of transitions as a model: the smallest step function, for tests and for bigram models."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hanformer.decode.protocols import Step
from hanformer.errors import UserError


class TableState:
    """The tokens of each row, prompt and all: everything that a Markov model needs to remember.

    马尔可夫模型的状态：每行的全部词元（含提示）。
    """

    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens
        self.prompt_length = tokens.shape[1]

    @property
    def length(self) -> int:
        """Tokens appended after the prompt."""
        return self.tokens.shape[1] - self.prompt_length

    def append(self, tokens: Tensor) -> None:
        """Appends tokens [R, T]."""
        self.tokens = torch.cat([self.tokens, tokens], dim=1)

    def select(self, rows: Tensor) -> None:
        """Row r becomes the old row `rows[r]`."""
        self.tokens = self.tokens[rows.to(self.tokens.device)]

    def truncate(self, length: int) -> None:
        """Keeps the first `length` appended tokens."""
        self.tokens = self.tokens[:, : self.prompt_length + length]


def table_step(table: Tensor) -> Step[TableState]:
    """The step of a Markov model of order n: `table` [V, ..., V] with n + 1 axes holds logits.

    n 阶马尔可夫表的 step 函数。

        logits[r, t] = table[y_(t-n+1), ..., y_t]
    """

    def step(tokens: Tensor, state: TableState) -> Tensor:
        state.append(tokens)
        return lookup(table, state.tokens, tokens.shape[1])

    return step


def lookup(table: Tensor, tokens: Tensor, last: int) -> Tensor:
    """Logits [R, last, V] after each of the last tokens of the rows [R, L]."""
    order = table.dim() - 1
    if tokens.shape[1] < order + last - 1:
        raise UserError(f"expected at least {order + last - 1} tokens a row, got {tokens.shape[1]}")
    windows = tokens.unfold(1, order, 1)[:, -last:]
    return table[windows.unbind(-1)]


def table_prompt(table: Tensor, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, TableState]:
    """Next-token logits [B, V] and the state after prompts of at least as many tokens as the order.

    提示之后的 logits 与状态。

    Only the last tokens of a prompt count, so lengths may differ. Raises UserError for shorter prompts.
    """
    order = table.dim() - 1
    if any(len(prompt) < order for prompt in prompts):
        raise UserError(f"expected prompts of at least {order} tokens, got {[len(p) for p in prompts]}")
    recent = torch.tensor([list(p)[-order:] for p in prompts], dtype=torch.long, device=table.device)
    recent = recent.view(-1, order)
    return lookup(table, recent, 1)[:, 0], TableState(recent)
