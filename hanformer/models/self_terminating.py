"""A model that writes, with a head that must stop: trained and decoded as the model that it wraps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models.encoder_decoder import EncoderDecoder
from hanformer.models.transformer import Transformer
from hanformer.nn.attention.state import DecodingState
from hanformer.nn.functional.packing import Layout
from hanformer.nn.layers.self_terminating import StopHead, Termination, log_going_on, with_end


class Targets(Protocol):
    """What training says of a packed batch: the places that predict [M], and their labels [M].

    批次的预测位置与标签。
    """

    @property
    def layout(self) -> Layout:
        """The rows that the places stand in."""
        ...

    @property
    def predictors(self) -> Tensor:
        """Places on the packed axis."""
        ...

    @property
    def labels(self) -> Tensor:
        """The tokens that they should predict."""
        ...


class PackedTargets(Targets, Protocol):
    """The same with the tokens [N] that one stack reads. 另含单栈模型读入的词元。"""

    @property
    def token_ids(self) -> Tensor:
        """What the model reads."""
        ...


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

    def append(self, lasting: Tensor) -> None:
        """Adds what new tokens [R, T] carry on."""
        sums = torch.cat([self.carried[:, -1:], lasting], dim=1).cumsum(1)
        self.carried = torch.cat([self.carried, sums[:, 1:]], dim=1)

    def select(self, rows: Tensor) -> None:
        """Row r becomes the old row `rows[r]`."""
        self.inner.select(rows)
        self.carried = self.carried[rows.to(self.carried.device)]

    def truncate(self, length: int) -> None:
        """Keeps the first `length` appended tokens."""
        self.inner.truncate(length)
        self.carried = self.carried[:, : 1 + length]


class TerminatingTransformer(nn.Module):
    """A model whose end token is decided by a `StopHead`; `prompt` and `step` give log-probabilities.

    由终止层决定结束符的模型（单栈或编码器—解码器）；解码接口与普通模型相同。

    The running sum starts with the first token that is predicted: tokens of the prompt do not count, unless the model
    `counts_prompt`, as one does that learned whole texts from their first token on. The model inside is the part named
    `transformer`, the head the part named `stop`: so a run keeps them apart. Raises UserError for a model without a
    vocabulary head, an encoder, or an end token outside the vocabulary.
    """

    def __init__(
        self,
        model: Transformer | EncoderDecoder,
        end_id: int,
        termination: Termination,
        *,
        counts_prompt: bool = False,
    ) -> None:
        super().__init__()
        encodes = isinstance(model, Transformer) and model.config.application == "encoder"
        if "lm" not in model.heads or encodes:
            raise UserError(
                "a head that must stop needs a model that generates: load one with "
                'application="lm" or "unilm" and heads=("lm",)'
            )
        if not 0 <= end_id < model.config.vocab_size:
            raise UserError(f"expected an end token in 0..{model.config.vocab_size - 1}, got {end_id}")
        self.transformer, self.counts_prompt = model, counts_prompt
        self.stop = StopHead(model.config.hidden_size, end_id, termination).to(
            model.device, model.embeddings.token.weight.dtype
        )

    @property
    def config(self) -> ModelConfig:
        """That of the model inside."""
        return self.transformer.config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.transformer.device

    @torch.no_grad()
    def prompt(
        self, rows: Sequence[Sequence[int]], segments: Sequence[Sequence[int]] | None = None
    ) -> tuple[Tensor, TerminatingState]:
        """Reads prompts: log p [B, V] of the first new tokens, and the state to go on from.

        读入提示。

        Arguments and errors are those of `read`.
        """
        hidden, state = self.read(rows, segments)
        ends = torch.tensor(list(accumulate(self.states_read(rows))), device=hidden.device) - 1
        return self.log_p(hidden[ends][:, None], state)[:, 0], state

    @torch.no_grad()
    def step(self, tokens: Tensor, state: TerminatingState) -> Tensor:
        """Appends tokens [R, T]; returns log p [R, T, V] of what follows each. 追加词元。"""
        return self.log_p(self.advance(tokens, state), state)

    @torch.no_grad()
    def read(
        self, rows: Sequence[Sequence[int]], segments: Sequence[Sequence[int]] | None = None
    ) -> tuple[Tensor, TerminatingState]:
        """Reads prompts: the hidden states [N, C] of the model inside, and the state to go on from.

        读入提示，返回隐状态与解码状态。

        Arguments and errors are those of the model inside.
        """
        hidden, inner = self.transformer.read(rows, segments)
        rows_of = self._lasting(hidden).split(self.states_read(rows))
        carried = [each.sum() if self.counts_prompt else each[-1] for each in rows_of]
        return hidden, TerminatingState(inner, torch.stack(carried)[:, None])

    def states_read(self, rows: Sequence[Sequence[int]]) -> list[int]:
        """How many hidden states `read` gives for each prompt. 每个提示的隐状态个数。"""
        return self.transformer.states_read(rows)

    @torch.no_grad()
    def advance(self, tokens: Tensor, state: TerminatingState) -> Tensor:
        """Appends tokens [R, T]; returns their hidden states [R, T, C]. 追加词元并返回隐状态。"""
        hidden = self.transformer.advance(tokens, state.inner)
        state.append(self._lasting(hidden))
        return hidden

    @torch.no_grad()
    def log_p(self, hidden: Tensor, state: TerminatingState) -> Tensor:
        """log p [R, T, V] of what follows the last T tokens of a state, whose hidden states are [R, T, C].

        由状态最后 T 个词元的隐状态得到对数概率。
        """
        count = hidden.shape[1]
        going_on = state.carried[:, -count:] + self.stop.termination.passing(self.stop.scores(hidden))
        logits = self.transformer.lm_logits(hidden.flatten(0, 1)).unflatten(0, going_on.shape)
        return with_end(logits, going_on, self.stop.end_id)

    def _lasting(self, hidden: Tensor) -> Tensor:
        return self.stop.termination.lasting(self.stop.scores(hidden))


def terminating_log_p(model: TerminatingTransformer, batch: PackedTargets) -> Tensor:
    """log p [M, V] at the predicting places of a packed batch, to train one stack with: `logits_of` of
    `predict_targets`.

    训练时在预测位置计算对数概率（单栈模型）。

    Raises UserError for an encoder-decoder. Source: Welleck et al. 2020, arXiv 2002.02492.
    """
    hidden, going_on = going_on_at(model, batch)
    return with_end(model.transformer.lm_logits(hidden), going_on, model.stop.end_id)


def going_on_at(model: TerminatingTransformer, batch: PackedTargets) -> tuple[Tensor, Tensor]:
    """Hidden states [M, C] and log(1 - p(end)) [M] at the predicting places. 预测位置的隐状态与继续概率对数。"""
    stack = model.transformer
    if isinstance(stack, EncoderDecoder):
        raise UserError("expected a model of one stack: an encoder-decoder takes sources and targets apart")
    whole = stack.body(stack.embed(batch.token_ids, batch.layout), batch.layout)
    hidden = whole.index_select(0, batch.predictors)
    return hidden, log_going_on_of(model.stop, hidden, batch)


def log_p_of(model: TerminatingTransformer, hidden: Tensor, batch: Targets) -> Tensor:
    """log p [M, V] from the hidden states [M, C] of the predicting places, whatever they were computed by.

    由预测位置的隐状态得到对数概率。
    """
    going_on = log_going_on_of(model.stop, hidden, batch)
    return with_end(model.transformer.lm_logits(hidden), going_on, model.stop.end_id)


def log_going_on_of(stop: StopHead, hidden: Tensor, batch: Targets) -> Tensor:
    """log(1 - p(end)) [M] at the predicting places; the running sums start anew with each target.

    预测位置的继续概率对数；各目标分别累加。
    """
    return log_going_on(stop.termination, stop.scores(hidden), target_lengths(batch, stop.end_id))


def target_lengths(batch: Targets, end_id: int) -> list[int]:
    """How many predictions each target has: one is over behind an end token, and where its row is.

    各目标的预测个数：遇结束符或行末即止。
    """
    rows = batch.layout.row_of_token[batch.predictors]
    last = batch.labels == end_id
    last[:-1] |= rows[1:] != rows[:-1]
    last[-1:] = True
    ends = last.nonzero().squeeze(1).tolist()
    return [end - before for before, end in pairwise([-1, *ends])]
