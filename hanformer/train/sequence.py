"""The objective of sequence to sequence in one stack: predict each token of the target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from hanformer.data.sequences import SequenceBatch
from hanformer.models import Transformer
from hanformer.train.losses.cross_entropy import cross_entropy
from hanformer.train.objective import Loss, Objective


def target_logits(model: Transformer, batch: SequenceBatch) -> Tensor:
    """[M, V] at the predicting places of a packed batch; the vocabulary head runs there alone.

    仅在需要预测的位置计算 logits。

    Rows with a condition are read and predicted under it.
    """
    layout, numbers = batch.layout, batch.conditions
    condition = None if numbers is None else model.learned_condition(numbers, layout)
    hidden = model.body(model.embed(batch.token_ids, layout, condition), layout, condition)
    told = None if condition is None else condition.index_select(0, batch.predictors)
    return model.lm_logits(hidden.index_select(0, batch.predictors), told)


def predict_targets(
    label_smoothing: float = 0.0, logits_of: Callable[[Any, SequenceBatch], Tensor] = target_logits
) -> Objective[SequenceBatch]:
    """−Σ log p(target token | source, earlier target tokens), counted by target tokens.

    序列到序列目标：预测目标序列的每个词元，按目标词元数计数。

    `logits_of` a model and a batch gives [M, V]; they stand in the loss's outputs as "logits".
    Source: UniLM, arXiv 1905.03197.
    """

    def objective(model: nn.Module, batch: SequenceBatch) -> Loss:
        batch = batch.to(next(model.parameters()).device)
        logits = logits_of(model, batch)
        loss = cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)
        return Loss(loss.total, loss.count, {"logits": logits})

    return objective
