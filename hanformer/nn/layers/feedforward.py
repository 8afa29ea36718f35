"""The position-wise feed-forward layer, plain and gated."""

from __future__ import annotations

from torch import Tensor, nn

from hanformer.config import ModelConfig
from hanformer.nn.functional.activations import activation


class FeedForward(nn.Module):
    """W_out · act(W_in · x + b_in) + b_out, for each token alone.

    逐位置前馈层。

    Shapes: [N, C] to [N, C]. Source: Vaswani et al. 2017.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.has_biases)
        self.contract = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.has_biases)
        self.activation = activation(config.activation)

    def forward(self, hidden: Tensor) -> Tensor:
        """[N, C] to [N, C]."""
        return self.contract(self.activation(self.expand(hidden)))


class GatedFeedForward(FeedForward):
    """W_out · (act(W_in · x) ⊙ W_gated · x), as T5.1.1 and Llama have it.

    门控前馈层（GLU 族）。

    Shapes: [N, C] to [N, C]. Source: Shazeer 2020, arXiv 2002.05202.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.gated = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.has_biases)

    def forward(self, hidden: Tensor) -> Tensor:
        """[N, C] to [N, C]."""
        return self.contract(self.activation(self.expand(hidden)) * self.gated(hidden))


def feedforward_of(config: ModelConfig) -> FeedForward:
    """The feed-forward layer that a config asks for. 按配置建立前馈层。"""
    return GatedFeedForward(config) if config.feedforward == "gated" else FeedForward(config)
