"""What models of one stack and of two share: a token table, a vocabulary head, and how text is written with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate
from typing import Self

import torch
from torch import Tensor, nn

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models.laid_out import LaidOut
from hanformer.models.stack import Stack
from hanformer.nn.attention.state import DecodingState
from hanformer.nn.layers.embedding import Embeddings
from hanformer.nn.layers.norm import Conditioning


class LanguageModel(LaidOut, ABC):
    """A model that goes on with what it has read: `prompt` and `step` give logits, `read` and `advance` hidden states.

    可续写的模型：prompt、step 给出 logits，read、advance 给出隐状态。

    A model says how it reads, how many states that gives for each prompt, and which stack writes.
    """

    config: ModelConfig
    embeddings: Embeddings
    lm_head: nn.Module | None

    @property
    @abstractmethod
    def writing(self) -> Stack:
        """The stack that new tokens go through."""

    @abstractmethod
    def read(
        self,
        rows: Sequence[Sequence[int]],
        segments: Sequence[Sequence[int]] | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, DecodingState]:
        """Reads prompts in one pass: hidden states [N, C], and the state to go on from."""

    @abstractmethod
    def states_read(self, rows: Sequence[Sequence[int]]) -> list[int]:
        """How many hidden states `read` gives for each prompt."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embeddings.token.weight.device

    def initialise(self) -> Self:
        """Truncated normal weights of deviation `config.initial_deviation`; zero biases; unit gains.

        截断正态初始化。
        """
        initialise(self, self.config.initial_deviation)
        return self

    def lm_logits(self, hidden: Tensor, condition: Tensor | None = None) -> Tensor:
        """[M, C] to [M, V], under conditions [M, c] where norms are conditional.

        Raises UserError where the model has no vocabulary head.
        """
        if self.lm_head is None:
            raise UserError('this model has no vocabulary head: build or load it with heads=("lm",)')
        logits: Tensor = self.lm_head(hidden, condition)
        return logits

    @torch.no_grad()
    def prompt(
        self,
        rows: Sequence[Sequence[int]],
        segments: Sequence[Sequence[int]] | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, DecodingState]:
        """Reads prompts in one pass: next-token logits [B, V] at their ends, and the state to go on from.

        一次读入全部提示，返回各提示末尾的下一词元 logits 与解码状态。

        Arguments and errors are those of `read`.
        """
        hidden, state = self.read(rows, segments, condition)
        ends = torch.tensor(list(accumulate(self.states_read(rows))), device=hidden.device) - 1
        return self.lm_logits(hidden[ends], condition), state

    @torch.no_grad()
    def step(self, tokens: Tensor, state: DecodingState) -> Tensor:
        """Appends tokens [R, T] to the rows of the state; returns next-token logits [R, T, V].

        向每行追加词元并返回下一词元的 logits。

        Errors are those of `advance`.
        """
        hidden = self.advance(tokens, state).flatten(0, 1)
        return self.lm_logits(hidden, state.condition(tokens.shape[1])).unflatten(0, tokens.shape)

    @torch.no_grad()
    def advance(self, tokens: Tensor, state: DecodingState) -> Tensor:
        """Appends tokens [R, T] to the rows of the state; returns their hidden states [R, T, C].

        向每行追加词元并返回其隐状态。

        Raises UserError for a model in training mode, and for tokens of another shape.
        """
        refuse_training(self)
        if tokens.dim() != 2 or tokens.shape[0] != state.rows:
            raise UserError(f"step: expected tokens [{state.rows}, T], got {list(tokens.shape)}")
        layout = state.begin(tokens.shape[1])
        embedded = self.embeddings(tokens.flatten(), layout, state.condition(tokens.shape[1]))
        return self.writing.extend(embedded, state).unflatten(0, tokens.shape)


def initialise(module: nn.Module, deviation: float) -> None:
    """Truncated normal weights, zero biases; conditional parts start at zero. 截断正态初始化。"""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.trunc_normal_(part.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, Conditioning):
            part.zero()


def refuse_training(model: nn.Module) -> None:
    """Raises UserError in training mode, where dropout acts. 训练模式下拒绝解码。"""
    if model.training:
        raise UserError("decoding: the model is in training mode, where dropout acts; call model.eval()")
