"""One layer of a Transformer: attention and feed-forward, each with a residual branch and a norm."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from hanformer.config import ModelConfig
from hanformer.nn.attention.softmax import SoftmaxAttention
from hanformer.nn.layers.dropout import Dropout
from hanformer.nn.layers.feedforward import FeedForward


class Block(nn.Module):
    """Post-norm: x ← LN(x + f(x)); pre-norm: x ← x + f(LN(x)), for f = attention, then feed-forward.

    Transformer 的一层；支持后归一化与前归一化。

    Shapes: [N, C] to [N, C].
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = SoftmaxAttention(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)
        self.feedforward = FeedForward(config)
        self.feedforward_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)
        self.dropout = Dropout(config.dropout)
        self._residual = self._pre_norm if config.norm_place == "pre" else self._post_norm

    def forward(self, hidden: Tensor, attention: Callable[[Tensor], Tensor]) -> Tensor:
        """[N, C] to [N, C]; `attention` is this layer's own, bound to the batch (or to a cache)."""
        hidden = self._residual(hidden, self.attention_norm, attention)
        return self._residual(hidden, self.feedforward_norm, self.feedforward)

    def _pre_norm(self, hidden: Tensor, norm: nn.Module, branch: Callable[[Tensor], Tensor]) -> Tensor:
        return hidden + self.dropout(branch(norm(hidden)))

    def _post_norm(self, hidden: Tensor, norm: nn.Module, branch: Callable[[Tensor], Tensor]) -> Tensor:
        normed: Tensor = norm(hidden + self.dropout(branch(hidden)))
        return normed
