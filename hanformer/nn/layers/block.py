"""One layer of a Transformer: attention and feed-forward, each with a residual branch and norms."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.mechanisms import GatedUnit
from hanformer.nn.attention.kinds import attention_of
from hanformer.nn.attention.softmax import SoftmaxAttention
from hanformer.nn.layers.dropout import Dropout
from hanformer.nn.layers.feedforward import feedforward_of
from hanformer.nn.layers.norm import norm_of

#: A residual branch: [N, C] to [N, C].
Branch = Callable[[Tensor], Tensor]


class Block(nn.Module):
    """Post-norm: x ← N(x + f(x)), for f = attention, then feed-forward.

    Transformer 的一层（后归一化）。

    Shapes: [N, C] to [N, C]; a condition is [N, c]. A decoder's block looks at a memory between the two.
    """

    def __init__(self, config: ModelConfig, crosses: bool = False) -> None:
        super().__init__()
        self.attention = attention_of(config)
        self.attention_norm = norm_of(config)
        self.cross = SoftmaxAttention(config) if crosses else None
        self.cross_norm = norm_of(config) if crosses else None
        self.feedforward = feedforward_of(config)
        self.feedforward_norm = norm_of(config)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        hidden: Tensor,
        attention: Branch,
        condition: Tensor | None = None,
        cross: Branch | None = None,
    ) -> Tensor:
        """[N, C] to [N, C]; `attention` is this layer's own, bound to the batch (or to a cache)."""
        hidden = self.residual(hidden, self.attention_norm, attention, condition)
        if cross is not None and self.cross_norm is not None:
            hidden = self.residual(hidden, self.cross_norm, cross, condition)
        return self.residual(hidden, self.feedforward_norm, self.feedforward, condition)

    def seen_by_attention(self, hidden: Tensor, condition: Tensor | None = None) -> Tensor:
        """What the attention of this layer is given of its input [N, C]."""
        return hidden

    def residual(self, hidden: Tensor, norm: nn.Module, branch: Branch, condition: Tensor | None) -> Tensor:
        """x ← N(x + f(x))."""
        normed: Tensor = norm(hidden + self.dropout(branch(hidden)), condition)
        return normed


class PreNormBlock(Block):
    """x ← x + f(N(x)). 前归一化的一层。 Shapes: [N, C] to [N, C]."""

    def seen_by_attention(self, hidden: Tensor, condition: Tensor | None = None) -> Tensor:
        """N(x)."""
        normed: Tensor = self.attention_norm(hidden, condition)
        return normed

    def residual(self, hidden: Tensor, norm: nn.Module, branch: Branch, condition: Tensor | None) -> Tensor:
        """x ← x + f(N(x))."""
        return hidden + self.dropout(branch(norm(hidden, condition)))


class FeedForwardNormBlock(Block):
    """GPT2-ML's: a = x + attention(x); y = N₁(a + feedforward(N₀(a))).

    GPT2-ML 的一层：归一化只在前馈层的前后。

    Shapes: [N, C] to [N, C]. N₀ stands as `attention_norm`, N₁ as `feedforward_norm`.
    """

    def forward(
        self,
        hidden: Tensor,
        attention: Branch,
        condition: Tensor | None = None,
        cross: Branch | None = None,
    ) -> Tensor:
        """[N, C] to [N, C]."""
        hidden = hidden + self.dropout(attention(hidden))
        inner = self.feedforward(self.attention_norm(hidden, condition))
        normed: Tensor = self.feedforward_norm(hidden + self.dropout(inner), condition)
        return normed


class GatedUnitBlock(Block):
    """x ← N(x + f(x)) for a gated attention unit f, which is the whole layer.

    门控注意力单元自成一层，没有前馈层。 Shapes: [N, C] to [N, C].

    Raises UserError for a decoder's block, which would look at a memory between attention and feed-forward.
    """

    def __init__(self, config: ModelConfig, crosses: bool = False) -> None:
        if crosses:
            raise UserError(
                "attention: a gated unit is a layer of one stack; a decoder cannot look at a memory in it"
            )
        super().__init__(config)
        del self.feedforward, self.feedforward_norm

    def forward(
        self,
        hidden: Tensor,
        attention: Branch,
        condition: Tensor | None = None,
        cross: Branch | None = None,
    ) -> Tensor:
        """[N, C] to [N, C]."""
        return self.residual(hidden, self.attention_norm, attention, condition)


class PreNormGatedUnitBlock(GatedUnitBlock, PreNormBlock):
    """x ← x + f(N(x)) for a gated attention unit f. 前归一化的门控注意力单元。"""


_BLOCKS: dict[str, type[Block]] = {
    "post": Block,
    "pre": PreNormBlock,
    "feedforward": FeedForwardNormBlock,
}
_GATED_UNIT_BLOCKS: dict[str, type[Block]] = {"post": GatedUnitBlock, "pre": PreNormGatedUnitBlock}


def block_of(config: ModelConfig, crosses: bool = False) -> Block:
    """The block that a config asks for. 按配置建立一层。

    Raises UserError for what its attention cannot honour.
    """
    kinds = _GATED_UNIT_BLOCKS if isinstance(config.attention, GatedUnit) else _BLOCKS
    if config.norm_place not in kinds:
        raise UserError(
            f"attention: {config.attention.name} has norms at {', '.join(kinds)}, not at {config.norm_place!r}"
        )
    return kinds[config.norm_place](config, crosses)
