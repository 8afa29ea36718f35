"""How well held-out text is predicted: loss and accuracy of each kind of row, with the same draws every time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from hanformer.data.sequences import SequenceBatch
from hanformer.tasks.stop_head import logits_at
from hanformer.tasks.token_figures import token_figures
from hanformer.train.sequence import predict_targets


def judge_kinds(
    model: nn.Module, kinds: Mapping[str, Iterable[SequenceBatch]], shares: Iterable[float]
) -> dict[str, float]:
    """The figures of every kind by name (mlm_loss, ...), and their means by the shares as loss and accuracy.

    各类样本的指标，以及按比例的平均。
    """
    objective = predict_targets(logits_of=logits_at)
    each = {kind: token_figures(objective, model, batches) for kind, batches in kinds.items()}
    means = {
        name: sum(share * found[name] for share, found in zip(shares, each.values(), strict=True))
        for name in ("loss", "accuracy")
    }
    if len(each) == 1:
        return means
    return means | {f"{kind}_{name}": value for kind, found in each.items() for name, value in found.items()}
