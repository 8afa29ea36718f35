"""Cross-entropy through a head that must stop, without making all log-probabilities."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hanformer.data.sequences import SequenceBatch
from hanformer.errors import UserError
from hanformer.models.self_terminating import TerminatingTransformer, going_on_at
from hanformer.nn.layers.self_terminating import check_end, log1mexp
from hanformer.train.losses.numerics import sum_rows, widened
from hanformer.train.objective import Loss, Objective


def self_terminating_cross_entropy(
    logits: Tensor, going_on: Tensor, targets: Tensor, end_id: int, *, ignore_id: int = -100
) -> Loss:
    """`cross_entropy(with_end(logits, going_on, end_id), targets)`, with one softmax and no scattering.

    自终止输出层的交叉熵。

        -log p(y) = -going_on - log softmax_(V without end)(y),   -log p(end) = -log(1 - exp(going_on))

    Shapes: logits [..., V] (their entry of the end token counts for nothing), going_on [...] = log(1 - p(end)),
    targets [...] ids, `ignore_id` where nothing is to be predicted. count: the targets that are not ignored.
    Raises UserError where the vocabulary has no such end token, or no other.
    Source: Welleck et al. 2020, arXiv 2002.02492; Choi et al. 2023, arXiv 2210.00660.
    """
    check_end(logits, end_id)
    wide = widened(logits).flatten(0, -2)
    labels, carried = targets.flatten(), widened(going_on).flatten()
    kept = labels != ignore_id
    ends = labels == end_id
    others = wide.index_fill(-1, torch.tensor([end_id], device=wide.device), -math.inf)
    chosen = others.gather(-1, labels.masked_fill(~kept | ends, _another(end_id))[:, None]).squeeze(-1)
    log_p = torch.where(ends, log1mexp(carried), carried + chosen - others.logsumexp(-1))
    return sum_rows(-log_p, kept.to(log_p.dtype))


def _another(end_id: int) -> int:
    """A token that is not the end token: what is looked up where the result is not used."""
    return int(end_id == 0)


def predict_and_stop() -> Objective[SequenceBatch]:
    """−Σ log p(target token | source, earlier target tokens) of a `TerminatingTransformer`, by target tokens.

    带终止层的序列到序列目标，按目标词元数计数。

    The same as `predict_targets(logits_of=terminating_log_p)` of `train.sequence`, in less memory.
    Source: Welleck et al. 2020, arXiv 2002.02492.
    """

    def objective(model: nn.Module, batch: SequenceBatch) -> Loss:
        if not isinstance(model, TerminatingTransformer):
            raise UserError(
                f"predict_and_stop: expected a TerminatingTransformer, got {type(model).__name__}"
            )
        batch = batch.to(model.device)
        hidden, going_on = going_on_at(model, batch)
        logits = model.transformer.lm_logits(hidden)
        return self_terminating_cross_entropy(logits, going_on, batch.labels, model.stop.end_id)

    return objective
