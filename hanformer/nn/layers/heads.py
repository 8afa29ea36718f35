"""Heads: from hidden states to logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hanformer.config import ModelConfig
from hanformer.nn.functional.activations import activation


class VocabularyHead(nn.Module):
    """BERT's language-model head: LN(act(W x + b)) against the token table, plus a bias per token.

    BERT 的语言模型输出层：变换、激活、层归一化，再与词嵌入表相乘并加偏置。

    logits = E · LN(act(W x + b)) + bias, with E the token embedding (tied). Shapes: [M, C] to [M, V].
    """

    def __init__(self, config: ModelConfig, table: nn.Embedding) -> None:
        super().__init__()
        self.transform = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = activation(config.activation)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        # A tuple keeps the tied table from being registered, and saved, a second time.
        self._table = (table,)

    def forward(self, hidden: Tensor) -> Tensor:
        """[M, C] to [M, V]."""
        features = self.norm(self.activation(self.transform(hidden)))
        return functional.linear(features, self._table[0].weight, self.bias)


class Pooler(nn.Module):
    """tanh(W x + b) of the first token of each row. 首词元经全连接与 tanh。 Shapes: [B, C] to [B, C]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, first: Tensor) -> Tensor:
        """[B, C] to [B, C]."""
        return torch.tanh(self.dense(first))
