"""Maximum entropy Markov model, read in both directions: each label given its neighbour."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from hanformer.errors import UserError
from hanformer.nn.functional.packing import Layout, padded_right
from hanformer.train.losses.chain import Neighbours
from hanformer.train.losses.numerics import widened


def memm(emissions: Tensor, labels: Tensor, transitions: Neighbours, layout: Layout) -> Tensor:
    """−[log p(y_t | y_{t−1}) + log p(y_t | y_{t+1})] / 2, one number a token.

    双向最大熵马尔可夫模型：正反两个方向的条件概率取平均。

    p(k | y_{t−1}) = softmax((e_t(k) + T(y_{t−1}, k)) / 2), p(k | y_{t+1}) = softmax((e_t(k) + T(k, y_{t+1})) / 2), and
    softmax(e_t) where there is no neighbour. No recursion, so faster than a CRF; `memm_steps` is its decoding.
    Shapes: emissions [N, K] packed, labels int64 [N]; to [N], in fp32 at least.
    Raises UserError for emissions that are not those of the layout. Source: kexue.fm/archives/7213; bert4keras.
    """
    _check(emissions, layout)
    place = layout.index_of_token
    first, last = place == 0, place.roll(-1) == 0
    scores = widened(emissions)
    forward = _met(scores, transitions.after(labels.roll(1)), first)
    backward = _met(scores, transitions.before(labels.roll(-1)), last)
    losses = [F.cross_entropy(met, labels, reduction="none") for met in (forward, backward)]
    return (losses[0] + losses[1]) / 2


def memm_steps(emissions: Tensor, transitions: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """The same model as a chain for `viterbi`: nodes [N, K] and edges [B, T − 1, K, K].

    化为维特比所需的节点分与逐步转移分。

    The score of a path is −Σ memm of its labels: log-probabilities of both directions, halved, on the edge between two
    labels; those of the first and the last, which have no neighbour, on their nodes. Memory B T K².
    Raises UserError for emissions that are not those of the layout.
    """
    _check(emissions, layout)
    packing, place = padded_right(layout), layout.index_of_token
    scores, steps = widened(emissions), widened(transitions)
    alone = scores.log_softmax(-1) / 2
    ends = (place == 0).to(alone.dtype) + (place.roll(-1) == 0).to(alone.dtype)
    rows = packing.unpack(scores)
    forward = ((rows[:, 1:, None, :] + steps) / 2).log_softmax(-1)
    backward = ((rows[:, :-1, :, None] + steps) / 2).log_softmax(-2)
    return alone * ends[:, None], (forward + backward) / 2


def _met(scores: Tensor, neighbour: Tensor, alone: Tensor) -> Tensor:
    """(e + T) / 2, or e where there is no neighbour."""
    return ((scores + neighbour) / 2).where(~alone[:, None], scores)


def _check(emissions: Tensor, layout: Layout) -> None:
    if emissions.dim() != 2 or len(emissions) != layout.total:
        raise UserError(f"memm: expected emissions [{layout.total}, labels], got {list(emissions.shape)}")
