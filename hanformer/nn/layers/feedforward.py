"""The position-wise feed-forward layer."""

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
        self.expand = nn.Linear(config.hidden_size, config.intermediate_size)
        self.contract = nn.Linear(config.intermediate_size, config.hidden_size)
        self.activation = activation(config.activation)

    def forward(self, hidden: Tensor) -> Tensor:
        """[N, C] to [N, C]."""
        return self.contract(self.activation(self.expand(hidden)))
