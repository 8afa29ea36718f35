"""Sequence to sequence in two stacks: batches for an encoder-decoder, and their objective."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from hanformer.data.sequences import Pair
from hanformer.errors import UserError
from hanformer.models import EncoderDecoder
from hanformer.nn.functional.packing import Layout
from hanformer.train.losses.cross_entropy import cross_entropy
from hanformer.train.objective import Loss, Objective


@dataclass(frozen=True, eq=False)
class CrossingBatch:
    """Packed sources beside packed target inputs, row b of one belonging to row b of the other.

    编码器—解码器的打包批次。

    `source_ids` [S], `source_layout`; `token_ids` [N], the target shifted behind the start token, `layout`;
    `labels` [N]. `memory` [S, C] are the encoder's states where they are already known.
    """

    source_ids: Tensor
    source_layout: Layout
    token_ids: Tensor
    layout: Layout
    labels: Tensor
    memory: Tensor | None = None

    @property
    def predictors(self) -> Tensor:
        """The places that predict: all of them, int64 [N]."""
        return torch.arange(len(self.labels), device=self.labels.device)

    def to(self, device: torch.device) -> CrossingBatch:
        """The same batch on another device."""
        return CrossingBatch(
            self.source_ids.to(device),
            self.source_layout.to(device),
            self.token_ids.to(device),
            self.layout.to(device),
            self.labels.to(device),
            None if self.memory is None else self.memory.to(device),
        )


def cross_pairs(pairs: Sequence[Pair], start_id: int = 0) -> CrossingBatch:
    """Packs pairs for an encoder-decoder: the decoder reads the start token and the target without its end.

    为编码器—解码器打包（源，目标）对。
    """
    sources = [token for pair in pairs for token in pair.source]
    inputs = [token for pair in pairs for token in (start_id, *pair.target[:-1])]
    labels = [token for pair in pairs for token in pair.target]
    return CrossingBatch(
        torch.tensor(sources),
        Layout.of([len(pair.source) for pair in pairs]),
        torch.tensor(inputs),
        Layout.of([len(pair.target) for pair in pairs]),
        torch.tensor(labels),
    )


def encoded(model: nn.Module, batch: CrossingBatch) -> CrossingBatch:
    """The batch with the encoder's states in it, for objectives that decode more than once.

    先编码一次，供多次解码使用。
    """
    return replace(batch, memory=_two_stacks(model).encode(batch.source_ids, batch.source_layout))


def encoded_once(model: nn.Module, batch: Any) -> Any:
    """`encoded` for a `CrossingBatch`; another batch as it is. 编码器—解码器批次先编码一次，其余原样返回。"""
    return encoded(model, batch) if isinstance(batch, CrossingBatch) else batch


def predict_decoded(label_smoothing: float = 0.0) -> Objective[CrossingBatch]:
    """−Σ log p(target token | source, earlier target tokens) of an `EncoderDecoder`, counted by target tokens.

    编码器—解码器的序列到序列目标。

    The logits [N, V] stand in the outputs as "logits". Raises UserError for models of another kind.
    """

    def objective(model: nn.Module, batch: CrossingBatch) -> Loss:
        stacks = _two_stacks(model)
        batch = batch.to(stacks.device)
        known = batch if batch.memory is not None else encoded(model, batch)
        assert known.memory is not None
        hidden = stacks.decode(batch.token_ids, batch.layout, known.memory, batch.source_layout)
        logits = stacks.lm_logits(hidden)
        loss = cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)
        return Loss(loss.total, loss.count, {"logits": logits})

    return objective


def _two_stacks(model: nn.Module) -> EncoderDecoder:
    if not isinstance(model, EncoderDecoder):
        raise UserError(f"predict_decoded: expected an EncoderDecoder, got {type(model).__name__}")
    return model
