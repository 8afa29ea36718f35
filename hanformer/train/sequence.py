"""The objective of sequence to sequence in one stack: predict each token of the target."""

from __future__ import annotations

from hanformer.data.sequences import SequenceBatch
from hanformer.models import Transformer
from hanformer.train.losses.cross_entropy import cross_entropy
from hanformer.train.objective import Loss, Objective


def predict_targets(label_smoothing: float = 0.0) -> Objective[SequenceBatch]:
    """−Σ log p(target token | source, earlier target tokens), counted by target tokens.

    序列到序列目标：预测目标序列的每个词元，按目标词元数计数。

    The vocabulary head runs at the predicting places alone. Source: UniLM, arXiv 1905.03197.
    """

    def objective(model: Transformer, batch: SequenceBatch) -> Loss:
        batch = batch.to(model.embeddings.token.weight.device)
        hidden = model.body(model.embed(batch.token_ids, batch.layout), batch.layout)
        logits = model.lm_logits(hidden.index_select(0, batch.predictors))
        return cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)

    return objective  # type: ignore[return-value]
