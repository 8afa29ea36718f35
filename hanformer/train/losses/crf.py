"""Linear-chain conditional random field: the whole path of labels is normalised at once."""

from __future__ import annotations

import torch
from torch import Tensor

from hanformer.nn.functional.packing import Layout, padded_right
from hanformer.train.losses.chain import check_chain
from hanformer.train.losses.numerics import log_sum, widened


def crf(emissions: Tensor, labels: Tensor, transitions: Tensor, layout: Layout) -> Tensor:
    """log Z − score of the labels, one number a row: −log p(path | emissions).

    条件随机场：整条路径的负对数似然。

    A row without tokens has one path, and loss 0. A transition of −inf is forbidden. `Transitions(K, rate).matrix` are
    transitions that learn faster than the encoder, `viterbi` finds the best path.
    Shapes: emissions [N, K] packed, labels int64 [N], transitions [K, K]; to [B], in fp32 at least.
    Raises UserError for shapes that do not fit. Source: Lafferty et al. 2001; kexue.fm/archives/5542 and 7196.
    """
    return log_partition(emissions, transitions, layout) - path_score(emissions, labels, transitions, layout)


def path_score(emissions: Tensor, labels: Tensor, transitions: Tensor, layout: Layout) -> Tensor:
    """Σ_t e_t(y_t) + Σ_t T(y_{t−1}, y_t), without potentials of start and end: [B].

    路径得分：发射分与转移分之和。
    """
    check_chain(emissions, layout, transitions)
    own = widened(emissions).gather(-1, labels[:, None]).squeeze(-1)
    steps = widened(transitions)[labels.roll(1), labels].masked_fill(layout.index_of_token == 0, 0.0)
    # Rows are summed padded: adding by index has no fixed order on a GPU.
    return padded_right(layout).unpack(own + steps).sum(1)


def log_partition(emissions: Tensor, transitions: Tensor, layout: Layout) -> Tensor:
    """log Σ over all paths of e^{score}: [B].

    对数配分函数：所有路径得分的 logsumexp。
    """
    check_chain(emissions, layout, transitions)
    nodes = padded_right(layout).unpack(widened(emissions))
    steps = widened(transitions)
    lengths = torch.tensor(layout.lengths, dtype=torch.int64, device=nodes.device)
    if not layout.total:
        return nodes.flatten(1).sum(1)
    states = nodes[:, 0]
    for place in range(1, nodes.shape[1]):
        reached = log_sum(states[:, :, None] + steps, 1) + nodes[:, place]
        states = torch.where(lengths[:, None] > place, reached, states)
    return log_sum(states, -1).masked_fill(lengths == 0, 0.0)


def marginals(emissions: Tensor, transitions: Tensor, layout: Layout) -> Tensor:
    """p(y_t = k | row), the gradient of log Z by the emissions: [N, K], without a graph.

    每个位置的边缘概率。
    """
    with torch.enable_grad():
        scores = widened(emissions.detach()).requires_grad_()
        total = log_partition(scores, transitions.detach(), layout).sum()
        return torch.autograd.grad(total, scores)[0]
