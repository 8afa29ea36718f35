"""Positions as functions: sinusoidal tables and rotary turns.

位置编码：正弦表与旋转变换。

Source: Vaswani et al. 2017; Su et al. 2021, arXiv 2104.09864; kexue.fm/archives/8231 and 8265.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hanformer.errors import UserError

BASE = 10000.0


def frequencies(size: int, base: float = BASE, device: torch.device | None = None) -> Tensor:
    """θ_i = base^(−2i/size) for i < size/2, in radians a position: float64 [size / 2].

    各维的角频率。

    Raises UserError for an odd size.
    """
    if size % 2:
        raise UserError(f"positions turn pairs of channels: expected an even size, got {size}")
    pair = torch.arange(size // 2, dtype=torch.float64, device=device)
    return base ** (-2 * pair / size)


def sinusoidal(
    positions: Tensor, size: int, base: float = BASE, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The sinusoidal code, interleaved: p[2i] = sin(m·θ_i), p[2i+1] = cos(m·θ_i).

    正弦位置编码，sin 与 cos 交错排列。

    It solves ⟨p_m, p_n⟩ = Σ_i cos((m − n)θ_i): the inner product knows the distance alone.
    Shapes: `positions` [...] to [..., size]. Angles are computed in float64 and rounded once.
    Source: kexue.fm/archives/8231.
    """
    angles = positions.to(torch.float64)[..., None] * frequencies(size, base, positions.device)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2).to(dtype)


def hierarchical(table: Tensor, positions: Tensor, alpha: float = 0.4) -> Tensor:
    """A trained position table carried on to n² positions: place i·n + j gets α·u_i + (1 − α)·u_j.

    层次分解位置编码：把训练好的 n 个位置延拓到 n² 个。

    With u_i = (p_i − α·p_0) / (1 − α), the first n places keep their trained rows. α is not 0.5, so that (i, j)
    and (j, i) differ. Shapes: `table` [n, C], `positions` [N] below n² to [N, C]. Source: kexue.fm/archives/7947.
    """
    count = len(table)
    base = (table - alpha * table[:1]) / (1 - alpha)
    high, low = torch.div(positions, count, rounding_mode="floor"), positions % count
    return alpha * base[high] + (1 - alpha) * base[low]


def relative_buckets(
    distance: Tensor, buckets: int = 32, limit: int = 128, bidirectional: bool = True
) -> Tensor:
    """T5's buckets of distances key − query: exact when near, logarithmic up to `limit`, one beyond it.

    T5 的相对距离分桶：近处逐一，远处按对数。

    With n = −distance (its magnitude where bidirectional, the upper half of the buckets being for keys that come
    later; else 0 for those): bucket n below h = half of them, and h + ⌊ln(n/h)/ln(limit/h) · h⌋ beyond, at most the
    last. In float32 and in this order of operations, which decides at powers of two. Shapes: any to the same.
    Source: Raffel et al. 2019, arXiv 1910.10683; equal to transformers.
    """
    behind = -distance
    offset = torch.zeros_like(behind)
    if bidirectional:
        buckets //= 2
        offset = (behind < 0).to(behind.dtype) * buckets
        behind = behind.abs()
    behind = behind.clamp(min=0)
    exact = buckets // 2
    far = torch.log(behind.clamp(min=1).float() / exact) / math.log(limit / exact) * (buckets - exact)
    far = (exact + far.to(behind.dtype)).clamp(max=buckets - 1)
    return offset + torch.where(behind < exact, behind, far)


def alibi_slopes(heads: int) -> tuple[float, ...]:
    """ALiBi's slopes: 2^(−8h/H) for h = 1 … H where H is a power of two.

    ALiBi 各头的斜率。

    Otherwise those of the largest power P below H, then every other one, from the first, of 2P. Source: Press et al.
    2021, arXiv 2108.12409.
    """
    power = 1 << (heads.bit_length() - 1)
    whole = [2 ** (-8 * head / power) for head in range(1, power + 1)]
    between = [2 ** (-8 * head / (2 * power)) for head in range(1, 2 * power + 1, 2)]
    return (*whole, *between[: heads - power])


def rotary_table(
    positions: Tensor, size: int, base: float = BASE, dtype: torch.dtype = torch.float32
) -> Tensor:
    """cos and sin of every turn: [..., 2, size / 2], computed in float64 and rounded once.

    旋转位置编码所需的 cos 与 sin。
    """
    angles = positions.to(torch.float64)[..., None] * frequencies(size, base, positions.device)
    return torch.stack([angles.cos(), angles.sin()], dim=-2).to(dtype)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turns the pairs (x[2i], x[2i+1]) by the angle m·θ_i of their token.

    旋转位置编码（RoPE）：按位置旋转相邻的两个通道。

    out[2i] = x[2i]·cos − x[2i+1]·sin, out[2i+1] = x[2i+1]·cos + x[2i]·sin, so ⟨R_m q, R_n k⟩ = ⟨q, R_{n−m} k⟩.
    Shapes: `x` [..., H, D]; `table` [..., 2, D / 2] from `rotary_table`.
    Source: kexue.fm/archives/8265.
    """
    cosine, sine = table[..., None, 0, :].to(x.dtype), table[..., None, 1, :].to(x.dtype)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], dim=-1).flatten(-2)


def rotate_halves(x: Tensor, table: Tensor) -> Tensor:
    """Turns the pairs (x[i], x[i + D/2]) by the angle m·θ_i of their token: Llama's and NeoX's layout.

    旋转位置编码的另一种排列：前后两半配对。

    Equal to `rotate` after channels 2i and 2i + 1 of queries and keys have moved to i and i + D/2.
    Shapes: `x` [..., H, D]; `table` [..., 2, D / 2] from `rotary_table`. Source: Su et al. 2021, arXiv 2104.09864.
    """
    cosine, sine = table[..., None, 0, :].to(x.dtype), table[..., None, 1, :].to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
