"""How well held-out tokens are predicted: what pretraining, sequence to sequence and chat watch while they train."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from hanformer.train.objective import Objective


@torch.no_grad()
def token_figures(objective: Objective[Any], model: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
    """The mean loss of a label in nats, and the share of labels that no other token is likelier than.

        loss = Σ loss / Σ count,  accuracy = share of labels y with z_y = max_v z_v

    各批次的平均损失与准确率。

    The objective leaves its logits [M, V] among its outputs, and a batch its labels [M]. Raises ZeroDivisionError where
    there is nothing to predict.
    """
    total = right = count = 0.0
    for batch in batches:
        loss = objective(model, batch)
        total, count = total + float(loss.total), count + float(loss.count)
        right += float(likeliest(loss.outputs["logits"], batch.labels).sum())
    return {"loss": total / count, "accuracy": right / count}


def likeliest(logits: Tensor, labels: Tensor) -> Tensor:
    """bool [M]: no value of a row [M, V] is above that of its label (never so in a row with NaN).

    标签是否为该行的最大值。 The greatest value is found several times faster than its place.
    """
    labels = labels.to(logits.device)
    return logits.gather(-1, labels[:, None]).squeeze(-1) == logits.amax(-1)
