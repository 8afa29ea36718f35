"""ZLPR: softmax cross-entropy for any number of labels, with a threshold of its own at score 0."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hanformer.errors import UserError
from hanformer.train.losses.numerics import widened


def zlpr(logits: Tensor, targets: Tensor, allowed: Tensor | None = None) -> Tensor:
    """log(1 + Σ_i (1 − t_i) e^{s_i}) + log(1 + Σ_i t_i e^{−s_i}), one number a row.

    多标签分类交叉熵（ZLPR）：把“softmax + 交叉熵”推广到多标签，支持软标签与屏蔽。

    A class with score −inf, or that is not `allowed`, contributes nothing to either side. Scores must range over
    all reals: no sigmoid or softmax before. Not for one label of many, where softmax says more.
    Shapes: logits s [..., K], targets t [..., K] in [0, 1], allowed bool, broadcast to logits; to [...], in fp32 at
    least. Minimal at t_i = sigmoid(2 s_i), which `zlpr_probabilities` uses.
    Raises UserError for targets of another shape.
    Source: Su et al., arXiv 2208.02955; kexue.fm/archives/7359 and 9064 (soft labels).
    """
    if targets.shape != logits.shape:
        raise UserError(
            f"zlpr: expected one target a logit, {list(logits.shape)}, got {list(targets.shape)}; "
            "label ids go to zlpr_sparse"
        )
    scores = widened(logits)
    scores = scores if allowed is None else scores.masked_fill(~allowed, -math.inf)
    targets = targets.to(scores.dtype)
    return _two_sides(scores, _log(targets), _log(1 - targets))


def zlpr_sparse(logits: Tensor, positives: Tensor, *, mask_zero: bool = False) -> Tensor:
    """`zlpr` where the labels are given by their ids, for many classes of which few apply.

    稀疏形式：只给出正类的编号。

    A negative id is padding, and an id that comes twice counts once. With `mask_zero`, as in bert4keras, 0 is
    padding and class 0 does not exist. The sum over negatives is made directly and not as a difference, so that it
    is exact, with a gradient, where positives carry almost all the mass.
    Shapes: logits [..., K], positives int64 [..., P] below K; to [...].
    Raises UserError for positives whose rows are not those of the logits.
    Source: kexue.fm/archives/7359; bert4keras, `sparse_multilabel_categorical_crossentropy`.
    """
    if positives.shape[:-1] != logits.shape[:-1]:
        raise UserError(
            f"zlpr_sparse: expected the ids of {list(logits.shape[:-1])} rows, got {list(positives.shape)}"
        )
    if mask_zero:
        logits, positives = logits[..., 1:], positives - 1
    positives = _once(positives)
    real = positives >= 0
    # Two classes before the others: the first takes what is padding, the second is the threshold, score 0.
    scores = F.pad(widened(logits), (2, 0))
    places = torch.where(real, positives + 2, 0)
    taken = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, places, True)
    taken[..., 0] = True
    chosen = scores.gather(-1, places)
    lost = ~real | (chosen == -math.inf)
    return scores.masked_fill(taken, -math.inf).logsumexp(-1) + _above_one(
        (-chosen).masked_fill(lost, -math.inf)
    )


def zlpr_divergence(given: Tensor, logits: Tensor) -> Tensor:
    """How much worse `logits` score than `given` would, the labels being what `given` says: 0 where they agree.

    多标签打分之间的散度，用于 R-Drop 与虚拟对抗训练。

    zlpr(s, sigmoid(2u)) − 2 log(1 + Σ_i 1 / (2 cosh u_i)), u given and s the logits: the loss less the least that it
    can be, for R-Drop and virtual adversarial training. A class with score −inf in either contributes nothing.
    Shapes: [..., K] twice to [...]. Source: derived from the soft labels of kexue.fm/archives/9064.
    """
    given, scores = widened(given), widened(logits)
    lost = (given == -math.inf) | (scores == -math.inf)
    given, scores = given.masked_fill(lost, 0.0), scores.masked_fill(lost, -math.inf)
    loss = _two_sides(scores, F.logsigmoid(2 * given), F.logsigmoid(-2 * given))
    least = -given.abs() - F.softplus(-2 * given.abs())
    return loss - 2 * _above_one(least.masked_fill(lost, -math.inf))


def zlpr_probabilities(logits: Tensor) -> Tensor:
    """sigmoid(2 s): the probabilities at which the loss is at its minimum; one half is score 0.

    训练好的打分对应的概率是 sigmoid(2s)，不是 sigmoid(s)。

    Source: kexue.fm/archives/9064.
    """
    return torch.sigmoid(2 * logits)


def zlpr_labels(logits: Tensor, threshold: float | Tensor = 0.0) -> Tensor:
    """Which labels apply: s > threshold, 0 unless F1 on other data chose another (`best_thresholds`).

    预测的标签：打分大于阈值，默认阈值为零。
    """
    return logits > threshold


def _two_sides(scores: Tensor, log_positive: Tensor, log_negative: Tensor) -> Tensor:
    # −inf in the scores is +inf on the positive side, or NaN: both sides are filled, and pass no gradient.
    lost = scores == -math.inf
    positive = (log_positive - scores).masked_fill(lost, -math.inf)
    negative = (log_negative + scores).masked_fill(lost, -math.inf)
    return _above_one(negative) + _above_one(positive)


def _above_one(values: Tensor) -> Tensor:
    """log(1 + Σ exp)."""
    return F.pad(values, (0, 1)).logsumexp(-1)


def _log(values: Tensor) -> Tensor:
    """log, −inf at 0, where the gradient is 0."""
    nothing = values <= 0
    return values.masked_fill(nothing, 1.0).log().masked_fill(nothing, -math.inf)


def _once(ids: Tensor) -> Tensor:
    """Sorted ids, all but the first of equal ones −1."""
    ids = ids.sort(-1).values
    repeated = F.pad(ids[..., 1:] == ids[..., :-1], (1, 0)) if ids.shape[-1] else ids.bool()
    return ids.masked_fill(repeated, -1)
