"""Norms: layer norm and root mean square, each with an optional condition."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hanformer.config import ModelConfig


class Conditioning(nn.Module):
    """What a condition adds to a norm's gain and bias: W_γ h(c) and W_β h(c).

    条件归一化：由条件向量给出增益与偏置的增量，初始为零。

    h is a bias-free linear map where `hidden_size` is given, else the condition itself. W starts at zero, so that
    a new model is the unconditional one. Source: kexue.fm/archives/7124.
    """

    def __init__(self, size: int, condition_size: int, hidden_size: int | None, bias: bool) -> None:
        super().__init__()
        width = hidden_size or condition_size
        self.hidden = nn.Linear(condition_size, width, bias=False) if hidden_size else nn.Identity()
        self.gain = nn.Linear(width, size, bias=False)
        self.bias = nn.Linear(width, size, bias=False) if bias else None

    def forward(self, normed: Tensor, bare: Tensor, condition: Tensor) -> Tensor:
        """γ'x̂ + β' from normed = γx̂ + β and bare = x̂: [N, C], with the condition [N, c]."""
        known = self.hidden(condition)
        moved: Tensor = normed + self.gain(known) * bare
        return moved if self.bias is None else moved + self.bias(known)

    def zero(self) -> None:
        """Starts as the unconditional norm."""
        for part in (self.gain, self.bias):
            if part is not None:
                nn.init.zeros_(part.weight)


class LayerNorm(nn.LayerNorm):
    """γ (x − mean x) / √(var x + ε) + β over channels.

    层归一化，可带条件。

    Shapes: [N, C] to [N, C]; a condition is [N, c]. Source: Ba et al. 2016, arXiv 1607.06450.
    """

    def __init__(self, size: int, eps: float, conditioning: Conditioning | None = None) -> None:
        super().__init__(size, eps=eps)
        self.conditioning = conditioning

    def forward(self, input: Tensor, condition: Tensor | None = None) -> Tensor:
        """[N, C] to [N, C]; without a condition the norm as it is."""
        normed = super().forward(input)
        if self.conditioning is None or condition is None:
            return normed
        bare = functional.layer_norm(input, self.normalized_shape, eps=self.eps)
        moved: Tensor = self.conditioning(normed, bare, condition)
        return moved


class RMSNorm(nn.Module):
    """γ x / √(mean x² + ε) over channels, in float32 at least; without a gain γ is 1.

    均方根归一化；可不带增益，可带条件。

    Shapes: [N, C] to [N, C]; a condition is [N, c]. Source: Zhang and Sennrich 2019, arXiv 1910.07467.
    """

    def __init__(
        self, size: int, eps: float, conditioning: Conditioning | None = None, gain: bool = True
    ) -> None:
        super().__init__()
        self.size, self.eps, self.conditioning = size, eps, conditioning
        self.weight = nn.Parameter(torch.ones(size)) if gain else None

    def forward(self, input: Tensor, condition: Tensor | None = None) -> Tensor:
        """[N, C] to [N, C]; without a condition the norm as it is."""
        wide = input.to(torch.promote_types(input.dtype, torch.float32))
        bare = functional.rms_norm(wide, (self.size,), eps=self.eps).to(input.dtype)
        normed = bare if self.weight is None else bare * self.weight
        if self.conditioning is None or condition is None:
            return normed
        moved: Tensor = self.conditioning(normed, bare, condition)
        return moved


def norm_of(
    config: ModelConfig, size: int | None = None, epsilon: float | None = None
) -> LayerNorm | RMSNorm:
    """The norm that a config asks for, over `size` channels (its hidden size unless given).

    按配置建立归一化层。
    """
    size, eps = size or config.hidden_size, epsilon or config.norm_epsilon
    layer = config.norm == "layer"
    conditioning = None
    if config.condition_size is not None:
        conditioning = Conditioning(size, config.condition_size, config.condition_hidden_size, bias=layer)
    if layer:
        return LayerNorm(size, eps, conditioning)
    return RMSNorm(size, eps, conditioning, gain=config.norm == "rms")
