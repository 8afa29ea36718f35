"""What trains a sequence-to-sequence model: by its architecture, and by whether it has a head that must stop."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hanformer.models.self_terminating import TerminatingTransformer, log_p_of
from hanformer.tasks.seq2seq.recipe import Seq2SeqRecipe
from hanformer.tasks.stop_head import logits_at
from hanformer.train.objective import Objective
from hanformer.train.sequence import predict_targets
from hanformer.train.tricks.crossing import CrossingBatch, encoded, predict_decoded


def objective_of(recipe: Seq2SeqRecipe, label_smoothing: float) -> Objective[Any]:
    """The objective of a recipe, with so much label smoothing. 配方对应的训练目标。"""
    if recipe.architecture == "unilm":
        return predict_targets(label_smoothing, logits_at)
    if recipe.stop.chosen:
        return predict_targets(label_smoothing, decoded_log_p)
    return predict_decoded(label_smoothing)


def decoded_log_p(model: TerminatingTransformer, batch: Any) -> Tensor:
    """log p [N, V] of an encoder-decoder with a head that must stop, at every place of a `CrossingBatch`.

    带终止层的编码器—解码器在目标各位置的对数概率。
    """
    stacks: Any = model.transformer
    known: CrossingBatch = batch if batch.memory is not None else encoded(stacks, batch)
    hidden = stacks.decode(batch.token_ids, batch.layout, known.memory, batch.source_layout)
    return log_p_of(model, hidden, batch)
