"""The gated attention unit: one head of attention inside a gate, in the place of attention and feed-forward layer.

Source: Hua et al. 2022, arXiv 2202.10447; kexue.fm/archives/8934.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.mechanisms import GatedUnit
from hanformer.nn.attention.cache import KeyValueCache
from hanformer.nn.attention.passing import Pass
from hanformer.nn.attention.softmax import SoftmaxAttention
from hanformer.nn.attention.state import DecodingState, state_as
from hanformer.nn.functional.activations import activation
from hanformer.nn.functional.attend import Normaliser, softmax

#: softmax_plus leaves logits as they are for 512 keys, and takes no fewer than 16 for what they are.
_USUAL, _FEWEST = 512, 16


def squared_relu(logits: Tensor) -> Tensor:
    """relu(a)² / l over the l visible keys of each row; hidden entries (-inf) give 0. 除以可见键数的平方 ReLU。

    Computed in float32 at least, and left in it where the logits are float16: weights are not bounded, and 65,504 is
    soon passed. Rows need not sum to 1. Source: kexue.fm/archives/8934.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    hidden = wide.isneginf()
    count = (~hidden).sum(-1, keepdim=True).clamp(min=1)
    weights = wide.masked_fill(hidden, 0.0).relu().square() / count
    return weights if logits.dtype == torch.float16 else weights.to(logits.dtype)


def softmax_plus(logits: Tensor) -> Tensor:
    """softmax(a · ln max(l, 16) / ln 512) over the l visible keys of each row. 按可见键数缩放的 softmax。

    The entropy then grows less with the length. Each row knows its own l alone. Source: kexue.fm/archives/8823.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    count = (~wide.isneginf()).sum(-1, keepdim=True).clamp(min=_FEWEST)
    return softmax(wide * (count.to(wide.dtype).log() / math.log(_USUAL))).to(logits.dtype)


NORMALISERS: dict[str, Normaliser] = {
    "squared_relu": squared_relu,
    "softmax": softmax,
    "softmax_plus": softmax_plus,
}


class GatedUnitAttention(SoftmaxAttention):
    """W_o (u ⊙ A v), with u, v, z = act(x W) and A = n(q kᵀ/√s), q = γ_q z + β_q, k = γ_k z + β_k.

    门控注意力单元：单头注意力与门控合为一层。

    u and v have E channels (`intermediate_size`), z has s (`key_size` of the record), n is squared_relu, softmax or
    softmax_plus. Shapes: [N, C] to [N, C]. Raises UserError for positions that a single head with values of another
    size than its keys cannot carry. Source: Hua et al. 2022, arXiv 2202.10447; kexue.fm/archives/8934.
    """

    def __init__(self, config: ModelConfig) -> None:
        options = config.attention
        if not isinstance(options, GatedUnit):
            raise UserError(f"attention: expected a GatedUnit, got {options!r}")
        _refuse_positions(config)
        sizes = {"attention_key_size": options.key_size, "attention_head_size": config.intermediate_size}
        super().__init__(config.changed({**sizes, "attention_heads": 1, "key_value_heads": None}))
        del self.query, self.key
        biased = config.biases != "none"
        self.shared = nn.Linear(config.hidden_size, self.key_size, bias=biased)
        self.gate = nn.Linear(config.hidden_size, config.intermediate_size, bias=biased)
        # γ of queries and of keys, which start as all weights do; β, which start at zero.
        self.gains = nn.Embedding(2, self.key_size)
        self.offset_bias = nn.Parameter(torch.zeros(2 * self.key_size))
        self.activation = activation(config.activation)
        self.normalise = NORMALISERS[options.normaliser]

    def joinable(self) -> tuple[nn.Linear, ...]:
        """None: queries and keys have one layer together."""
        return ()

    def project(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[N, C] to queries and keys [N, 1, s] and values [N, 1, E]; values in float32 where weights need it."""
        shared = self.activation(self.shared(hidden))[:, None]
        offsets = self.offset_bias.unflatten(0, (2, -1))
        query, key = (shared * gain + offset for gain, offset in zip(self.gains.weight, offsets, strict=True))
        value = self.activation(self.value(hidden))[:, None]
        narrow = value.dtype == torch.float16 and self.normalise is squared_relu
        return query, key, value.float() if narrow else value

    def mix(self, query: Tensor, key: Tensor, value: Tensor, batch: Pass) -> Tensor:
        """[N, 1, s] twice and [N, 1, E] to [N, 1, E]."""
        rate = self.dropout if self.training else 0.0
        with _as_given(value):
            return batch.mix(query, key, value, self.scale, rate, self.normalise)

    def merge(self, mixed: Tensor) -> Tensor:
        """[N, 1, E] to [N, E]: the gate comes before the last product."""
        return mixed.flatten(-2)

    def forward(self, hidden: Tensor, batch: Pass) -> Tensor:
        """[N, C] to [N, C]."""
        return self._gated(hidden, super().forward(hidden, batch))

    def remember(self, hidden: Tensor, batch: Pass, cache: DecodingState, layer: int) -> Tensor:
        """`forward` over prompts that also stores their keys and values in the cache."""
        return self._gated(hidden, super().remember(hidden, batch, cache, layer))

    def extend(self, hidden: Tensor, cache: DecodingState, layer: int) -> Tensor:
        """Appended tokens [R * T, C] over the prompt and what was appended before them."""
        query, key, value = self.project(hidden)
        query, key = self.place(query, key, cache.layout)
        own = state_as(cache, KeyValueCache)
        with _as_given(value):
            mixed = own.attend(layer, query, key, value, self.scale, self.normalise)
        return self._gated(hidden, self.merge(mixed))

    def _gated(self, hidden: Tensor, mixed: Tensor) -> Tensor:
        gate = self.activation(self.gate(hidden))
        gated: Tensor = self.output((gate * mixed).to(gate.dtype))
        return gated


def _as_given(value: Tensor) -> AbstractContextManager[object]:
    """Where values were made wide, automatic mixed precision would make them narrow again."""
    device = value.device.type
    narrows = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
    return (
        torch.autocast(device, enabled=False) if narrows and value.dtype == torch.float32 else nullcontext()
    )


def _refuse_positions(config: ModelConfig) -> None:
    if config.position == "relative_sinusoidal":
        raise UserError(
            "attention: relative_sinusoidal adds codes of the key size to the values, which are wider in a gated "
            "unit; take another position, such as rotary"
        )
    if config.position in ("relative_buckets", "alibi") and config.attention_heads != 1:
        raise UserError(
            f"attention: a gated unit has one head, and {config.position} would have a bias for each of "
            f"{config.attention_heads}; set attention_heads=1, or take another position"
        )
