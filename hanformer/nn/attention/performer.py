"""Performer: linear attention over random features, orthogonal in blocks and drawn anew from time to time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import lru_cache

import torch
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.mechanisms import Performer
from hanformer.nn.attention.feature_maps import FeatureMap, Positive, Rectified
from hanformer.nn.attention.linear import LinearAttention

DIGITS = 32
_KERNELS: dict[str, Callable[[Tensor, float], FeatureMap]] = {"softmax": Positive, "relu": Rectified}


class PerformerAttention(LinearAttention):
    """Softmax attention estimated by FAVOR+, at a cost linear in the length; numerator and denominator are unbiased
    where the norms are those of Gaussian vectors (chi).

    Performer：用正随机特征估计 softmax 注意力。

    Buffers, saved with the model: `projection` [m, D], and `passes`, the training passes since it was drawn, in binary
    digits, which no conversion to another format can round. Drawing uses torch's CPU generator, so that a resumed run
    draws what it would have drawn. Errors are those of `LinearAttention`.
    Source: Choromanski et al. 2020, arXiv 2009.14794; kexue.fm/archives/7921.
    """

    projection: Tensor
    passes: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if not isinstance(config.attention, Performer):
            raise TypeError(f"expected a config with a Performer, got {config.attention!r}")
        self.record = config.attention
        self.register_buffer("projection", torch.empty(self.record.features, self.key_size))
        self.register_buffer("passes", torch.zeros(DIGITS))
        if not self.projection.is_meta:
            self.redraw()

    def feature_map(self) -> FeatureMap:
        return _KERNELS[self.record.kernel](self.projection, self.scale)

    def begin_pass(self) -> None:
        """Counts a pass in training mode, which may begin with new features. 训练中计数，必要时重新抽取特征。"""
        if not self.training or not self.record.redraw:
            return
        count = count_of(self.passes)
        if count >= self.record.redraw:
            self.redraw()
            count = 0
        self.passes = digits_of(count + 1).to(self.passes)

    def redraw(self) -> None:
        """Draws all features anew. 重新抽取随机特征。"""
        drawn = random_features(self.record, self.key_size)
        # A new tensor: what an earlier pass saved for its gradient stays as it was.
        self.projection = drawn.to(self.projection)
        self.passes = torch.zeros_like(self.passes)

    def twice(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Both times it is computed with the features that it has now."""
        with_these = _Given(self, self.projection)
        return with_these, with_these

    def exchange(self, projection: Tensor) -> Tensor:
        """Puts other features in the place of these, which it gives back. 换上另一组特征，返回原有的。"""
        own, self.projection = self.projection, projection
        return own

    def fresh(self, name: str) -> Tensor | None:
        """What a buffer holds that no checkpoint brings. 检查点中没有的缓冲区的初值。"""
        if name == "passes":
            return digits_of(0)
        return random_features(self.record, self.key_size) if name == "projection" else None


class _Given(AbstractContextManager[None]):
    """Inside, an attention has the given features; it may be entered again."""

    def __init__(self, part: PerformerAttention, projection: Tensor) -> None:
        self._part, self._projection = part, projection

    def __enter__(self) -> None:
        self._own = self._part.exchange(self._projection)

    def __exit__(self, *problem: object) -> None:
        self._part.exchange(self._own)


def digits_of(count: int) -> Tensor:
    """A whole number in binary digits, the lowest first: float32 [DIGITS]. 整数的二进制数字。"""
    return torch.tensor([float(count >> place & 1) for place in range(DIGITS)])


def count_of(digits: Tensor) -> int:
    """The way back of `digits_of`. 由二进制数字还原整数。"""
    return sum(int(digit) << place for place, digit in enumerate(digits.tolist()))


def random_features(record: Performer, size: int) -> Tensor:
    """ω [m, D] from torch's CPU generator: directions, orthogonal in blocks of D or independent, times norms.

    随机向量：方向（分块正交或独立）与模长的乘积。

    Source: Choromanski et al. 2020, arXiv 2009.14794; stratified norms: kexue.fm/archives/7921.
    """
    # Factorised in float64: in float32 products of a block's vectors are as large as 1e-6.
    with torch.device("cpu"):
        if record.orthogonal:
            blocks = [_orthogonal(size) for _ in range(-(-record.features // size))]
            directions = torch.cat(blocks)[: record.features]
        else:
            drawn = torch.randn(record.features, size, dtype=torch.float64)
            directions = drawn / drawn.norm(dim=1, keepdim=True)
        return (directions * norms(record, size)[:, None]).float()


def _orthogonal(size: int) -> Tensor:
    """A rotation or reflection drawn evenly: QR of a Gaussian matrix, signs as the diagonal of R has them."""
    q, r = torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))
    return (q * r.diagonal().sign()).mT.contiguous()


def norms(record: Performer, size: int) -> Tensor:
    """The length of each random vector: float64 [m]. 随机向量的模长。"""
    if record.norms == "root":
        return torch.full((record.features,), size**0.5, dtype=torch.float64)
    if record.norms == "chi":
        return torch.randn(record.features, size, dtype=torch.float64).norm(dim=1)
    # In another order each time, so that no block is always short.
    return strata(record.features, size)[torch.randperm(record.features)]


@lru_cache(maxsize=32)
def strata(count: int, size: int) -> Tensor:
    """R_i with P(|ω| ≤ R_i) = i / (count + 1): float64 [count]. 分层模长。"""
    return chi_quantiles(torch.arange(1, count + 1, dtype=torch.float64) / (count + 1), size)


def chi_quantiles(levels: Tensor, size: int) -> Tensor:
    """R with P(|ω| ≤ R) = level for Gaussian ω of `size` channels, by bisection of the incomplete gamma function.

    卡分布的分位数（二分法）。
    """
    low = torch.zeros_like(levels)
    high = torch.full_like(levels, size**0.5 + 10.0)
    half = torch.full_like(levels, size / 2)
    for _ in range(60):
        middle = (low + high) / 2
        below = torch.special.gammainc(half, middle.square() / 2) < levels
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2
