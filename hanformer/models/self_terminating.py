"""A language model with a head that must stop: trained and decoded as the model that it wraps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

from hanformer.config import ModelConfig
from hanformer.data.sequences import SequenceBatch
from hanformer.errors import UserError
from hanformer.models.transformer import Transformer
from hanformer.nn.attention.state import DecodingState
from hanformer.nn.layers.self_terminating import StopHead, Termination, log_going_on, with_end


class TerminatingState:
    """The model's own state, and what each row has carried on: both selected with the rows.

    模型状态与每行累积的继续概率，一同随行选择。

    `carried` [R, 1 + length] holds the running sum of `Termination.lasting` after every new token.
    """

    def __init__(self, inner: DecodingState, carried: Tensor) -> None:
        self.inner, self.carried = inner, carried

    @property
    def length(self) -> int:
        """Tokens appended after the prompts."""
        return self.inner.length

    def select(self, rows: Tensor) -> None:
        """Row r becomes the old row `rows[r]`."""
        self.inner.select(rows)
        self.carried = self.carried[rows.to(self.carried.device)]

    def truncate(self, length: int) -> None:
        """Keeps the first `length` appended tokens."""
        self.inner.truncate(length)
        self.carried = self.carried[:, : 1 + length]


class TerminatingTransformer(nn.Module):
    """A Transformer whose end token is decided by a `StopHead`; `prompt` and `step` give log-probabilities.

    由终止层决定结束符的 Transformer；解码接口与普通模型相同。

    Tokens of the prompt do not count: the running sum starts with the first token that is predicted.
    Raises UserError for a model without a vocabulary head, an encoder, or an end token outside the vocabulary.
    """

    def __init__(self, model: Transformer, end_id: int, termination: Termination) -> None:
        super().__init__()
        if "lm" not in model.heads or model.config.application == "encoder":
            raise UserError(
                "a head that must stop needs a model that generates: load one with "
                'application="lm" or "unilm" and heads=("lm",)'
            )
        if not 0 <= end_id < model.config.vocab_size:
            raise UserError(f"expected an end token in 0..{model.config.vocab_size - 1}, got {end_id}")
        self.model = model
        self.stop = StopHead(model.config.hidden_size, end_id, termination).to(
            model.device, model.embeddings.token.weight.dtype
        )

    @property
    def config(self) -> ModelConfig:
        """That of the model inside."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @torch.no_grad()
    def prompt(
        self, rows: Sequence[Sequence[int]], segments: Sequence[Sequence[int]] | None = None
    ) -> tuple[Tensor, TerminatingState]:
        """Reads prompts: log p [B, V] of the first new tokens, and the state to go on from.

        读入提示。

        Arguments and errors are those of `Transformer.read`.
        """
        hidden, inner = self.model.read(rows, segments)
        ends = torch.tensor(list(accumulate(map(len, rows))), device=hidden.device) - 1
        state = TerminatingState(inner, self._none(len(rows), hidden))
        return self._log_p(hidden[ends][:, None], state)[:, 0], state

    @torch.no_grad()
    def step(self, tokens: Tensor, state: TerminatingState) -> Tensor:
        """Appends tokens [R, T]; returns log p [R, T, V] of what follows each. 追加词元。"""
        return self._log_p(self.model.advance(tokens, state.inner), state)

    def _none(self, rows: int, hidden: Tensor) -> Tensor:
        return hidden.new_zeros(rows, 0, dtype=torch.promote_types(hidden.dtype, torch.float32))

    def _log_p(self, hidden: Tensor, state: TerminatingState) -> Tensor:
        """log p [R, T, V] from hidden states [R, T, C]; the state carries T steps more."""
        scores, rule = self.stop.scores(hidden), self.stop.termination
        steps = torch.cat([state.carried[:, -1:], rule.lasting(scores)], dim=1).cumsum(1)
        sums = steps[:, -scores.shape[1] :]
        state.carried = torch.cat([state.carried, sums], dim=1)
        logits = self.model.lm_logits(hidden.flatten(0, 1)).unflatten(0, scores.shape)
        return with_end(logits, sums + rule.passing(scores), self.stop.end_id)


def terminating_log_p(model: TerminatingTransformer, batch: SequenceBatch) -> Tensor:
    """log p [M, V] at the predicting places of a packed batch, to train with: `logits_of` of `predict_targets`.

    训练时在预测位置计算对数概率。

    The running sums start anew with each target. Source: Welleck et al. 2020, arXiv 2002.02492.
    """
    hidden, going_on = going_on_at(model, batch)
    return with_end(model.model.lm_logits(hidden), going_on, model.stop.end_id)


def going_on_at(model: TerminatingTransformer, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
    """Hidden states [M, C] and log(1 - p(end)) [M] at the predicting places. 预测位置的隐状态与继续概率对数。"""
    whole = model.model.body(model.model.embed(batch.token_ids, batch.layout), batch.layout)
    hidden = whole.index_select(0, batch.predictors)
    rows = batch.layout.row_of_token[batch.predictors]
    lengths = torch.bincount(rows, minlength=batch.layout.rows).tolist()
    return hidden, log_going_on(model.stop.termination, model.stop.scores(hidden), lengths)
