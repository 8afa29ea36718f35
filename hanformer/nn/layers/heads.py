"""Heads: from hidden states to logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hanformer.config import ModelConfig
from hanformer.nn.functional.activations import activation
from hanformer.nn.layers.dropout import Dropout
from hanformer.nn.layers.norm import norm_of


class VocabularyHead(nn.Module):
    """Logits of all tokens: E · f(h) (+ bias), with E the token table (tied) or a table of its own.

    词表输出层的公共部分：与词嵌入表（共享或独立）相乘。

    Shapes: [M, C] to [M, V]. Kinds override `features`, f.
    """

    def __init__(self, config: ModelConfig, table: nn.Embedding) -> None:
        super().__init__()
        self.scale = config.hidden_size**-0.5 if config.scale_lm else 1.0
        self.bias: nn.Parameter | None = None
        # A tuple keeps the tied table from being registered, and saved, a second time.
        self._table = (table,)

    @property
    def table(self) -> Tensor:
        """The table [V, E] that features are compared with."""
        return self._table[0].weight

    def features(self, hidden: Tensor, condition: Tensor | None = None) -> Tensor:
        """[M, C] to [M, E]; a condition [M, c] moves the norm, where there is one."""
        return hidden if self.scale == 1.0 else hidden * self.scale

    def forward(self, hidden: Tensor, condition: Tensor | None = None) -> Tensor:
        """[M, C] to [M, V]."""
        return functional.linear(self.features(hidden, condition), self.table, self.bias)


class TransformHead(VocabularyHead):
    """BERT's: E · LN(act(W h + b)) + bias.

    BERT 的语言模型输出层：变换、激活、层归一化，再与词嵌入表相乘并加偏置。

    Shapes: [M, C] to [M, V].
    """

    def __init__(self, config: ModelConfig, table: nn.Embedding) -> None:
        super().__init__(config, table)
        self.transform = nn.Linear(config.hidden_size, config.embedding_width)
        self.activation = activation(config.activation)
        self.norm = norm_of(config, config.embedding_width)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def features(self, hidden: Tensor, condition: Tensor | None = None) -> Tensor:
        """[M, C] to [M, E]."""
        normed: Tensor = self.norm(self.activation(self.transform(hidden)), condition)
        return normed


class UntiedTransformHead(TransformHead):
    """BERT's over a table of its own: U · LN(act(W h + b)) + bias. 独立输出表的 BERT 输出层。

    Shapes: [M, C] to [M, V].
    """

    def __init__(self, config: ModelConfig, table: nn.Embedding) -> None:
        super().__init__(config, table)
        self.output = nn.Linear(config.embedding_width, config.vocab_size, bias=False)

    @property
    def table(self) -> Tensor:
        """The head's own table [V, E]."""
        return self.output.weight


class MappedHead(VocabularyHead):
    """RoFormerV2's: E · dropout(W h), W only where the widths differ.

    RoFormerV2 的输出层：必要时线性映射，再与词嵌入表相乘。

    Shapes: [M, C] to [M, V].
    """

    def __init__(self, config: ModelConfig, table: nn.Embedding) -> None:
        super().__init__(config, table)
        mapped = config.embedding_width != config.hidden_size
        self.map = nn.Linear(config.hidden_size, config.embedding_width, bias=False) if mapped else None
        self.dropout = Dropout(config.dropout)

    def features(self, hidden: Tensor, condition: Tensor | None = None) -> Tensor:
        """[M, C] to [M, E]."""
        return self.dropout(hidden if self.map is None else self.map(hidden))


class UntiedHead(VocabularyHead):
    """A table of its own, as T5.1.1 and Llama have it. 独立的输出表。 Shapes: [M, C] to [M, V]."""

    def __init__(self, config: ModelConfig, table: nn.Embedding) -> None:
        super().__init__(config, table)
        self.output = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @property
    def table(self) -> Tensor:
        """The head's own table [V, C]."""
        return self.output.weight


_HEADS = {
    "transform": TransformHead,
    "transform_untied": UntiedTransformHead,
    "tied": VocabularyHead,
    "mapped": MappedHead,
    "untied": UntiedHead,
}


def vocabulary_head(config: ModelConfig, table: nn.Embedding) -> VocabularyHead:
    """The vocabulary head that a config asks for. 按配置建立词表输出层。"""
    return _HEADS[config.lm_head](config, table)


class Pooler(nn.Module):
    """act(W x + b) of the first token of each row, act tanh or linear. 首词元经全连接与激活。

    Shapes: [B, C] to [B, C].
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = activation(config.pool_activation)

    def forward(self, first: Tensor) -> Tensor:
        """[B, C] to [B, C]."""
        return self.activation(self.dense(first))


class NextSentenceHead(nn.Module):
    """Two logits of the pooled vector: follows, does not follow. 下一句判断。 Shapes: [B, C] to [B, 2]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, 2)

    def forward(self, pooled: Tensor) -> Tensor:
        """[B, C] to [B, 2]."""
        logits: Tensor = self.dense(pooled)
        return logits


class DiscriminatorHead(nn.Module):
    """ELECTRA's: one logit a token, above 0 where the token was replaced: w · act(W h + b) + c.

    ELECTRA 判别器：每个词元一个 logit，大于零表示被替换。

    Shapes: [N, C] to [N]. Source: Clark et al. 2020, arXiv 2003.10555.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = activation(config.activation)
        self.output = nn.Linear(config.hidden_size, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """[N, C] to [N]."""
        logits: Tensor = self.output(self.activation(self.dense(hidden)))
        return logits.squeeze(-1)
