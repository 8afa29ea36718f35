"""Feature maps of linear attention: sim(q, k) = φ(q)·ϕ(k), never negative.

A query's features may be multiplied by any positive number, which its normaliser takes back; so they are kept within
reach of the format. Those of keys may not, and padding has none.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hanformer.errors import UserError
from hanformer.nn.functional.powers import LOG2_E

#: The most features of a head: beyond, sums of keys and values take more memory than attention itself.
MOST_FEATURES = 2**16


class FeatureMap(ABC):
    """φ for queries and ϕ for keys, [..., T, D] to [..., T, m].

    查询与键的特征映射。
    """

    #: Whether a key's features know that key alone. Otherwise they look at the whole row, and at what comes later.
    tokenwise = True

    @abstractmethod
    def query(self, x: Tensor) -> Tensor:
        """φ(q), up to a positive factor for each token."""

    @abstractmethod
    def key(self, x: Tensor) -> Tensor:
        """ϕ(k)."""


class Elu(FeatureMap):
    """φ = ϕ = elu(x) + 1, element by element: e^x below 0, x + 1 above.

    逐元素 elu + 1。

    Below 0 it is computed as that power: (e^x − 1) + 1 would keep no digit of it. A query whose channels are all
    negative is moved up to 0, and keys stop at e^−60, so that a row of them never has no features at all.
    Source: Katharopoulos et al. 2020, arXiv 2006.16236.
    """

    def query(self, x: Tensor) -> Tensor:
        return self._of(x - x.detach().amax(-1, keepdim=True).clamp_max_(0))

    def key(self, x: Tensor) -> Tensor:
        return self._of(x)

    def _of(self, x: Tensor) -> Tensor:
        found: Tensor = _Elu.apply(x) if x.requires_grad else _elu(x)
        return found


#: The least exponent of a feature, to base e.
_LEAST = -60.0


def _elu(x: Tensor) -> Tensor:
    return x.clamp(_LEAST, 0).exp_().add_(x.relu())


class _Elu(torch.autograd.Function):
    """elu(x) + 1, of which x alone is kept for the way back: its slope is e^min(x, 0)."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return _elu(x)

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        context.save_for_backward(*inputs)

    @staticmethod
    def backward(context: Any, slope: Tensor) -> Tensor:
        (x,) = context.saved_tensors
        return slope * x.clamp(_LEAST, 0).exp()


class Given(FeatureMap):
    """What is given is features already. 输入本身即为特征。"""

    def query(self, x: Tensor) -> Tensor:
        return x

    def key(self, x: Tensor) -> Tensor:
        return x


class Cosine(FeatureMap):
    """sim = 1 + cos(q, k): φ = ϕ = [1, x / |x|]; a zero vector is like every other to the degree 1.

    一加余弦相似度。

    Source: kexue.fm/archives/7546.
    """

    def query(self, x: Tensor) -> Tensor:
        # The scale goes first: squares of half-precision extremes stay within reach.
        largest = x.detach().abs().amax(-1, keepdim=True)
        scaled = x / largest.masked_fill(largest == 0, math.inf)
        length = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
        unit = scaled / length.masked_fill(length == 0, math.inf)
        return functional.pad(unit, (1, 0), value=1.0)

    def key(self, x: Tensor) -> Tensor:
        return self.query(x)


class DoubleSoftmax(FeatureMap):
    """φ is softmax over a query's channels, ϕ softmax of each channel over all keys of the row: weights sum to 1.

    双重 softmax：查询在特征维、键在序列维上归一化。

    Keys are [B, H, T, D], and padding is -inf in them. Source: Shen et al. 2018, arXiv 1812.01243.
    """

    tokenwise = False

    def query(self, x: Tensor) -> Tensor:
        return torch.softmax(x, -1)

    def key(self, x: Tensor) -> Tensor:
        empty = x.isneginf().all(-2, keepdim=True)
        return torch.softmax(x.masked_fill(empty, 0.0), -2)


class Monomials(FeatureMap):
    """sim = Σ_{m ≤ n} (q·k)^m / m! for even n, which is positive: all monomials of degree up to n, D channels each.

    偶数阶泰勒展开：特征为不超过 n 次的全部单项式。

    There are C(D + n, n) features, x^α / √α!. `scale` multiplies q·k. Raises UserError for an odd or negative order,
    and where there are more than MOST_FEATURES. Source: kexue.fm/archives/7921 and 7919; the expansion
    (q·k)^m / m! = Σ_{|α| = m} q^α k^α / α! is the multinomial theorem.
    """

    def __init__(self, size: int, order: int, scale: float) -> None:
        if order < 2 or order % 2:
            raise UserError(f"attention: a Taylor map has an even order of at least 2, got {order}")
        count = math.comb(size + order, order)
        if count > MOST_FEATURES:
            raise UserError(
                f"attention: a Taylor map of order {order} has {count} features for keys of {size} channels, and "
                f"{MOST_FEATURES} is the most: take a lower order or smaller heads"
            )
        self.order, self.root = order, math.sqrt(scale)
        chosen = list(combinations_with_replacement(range(size + 1), order))
        # Channel 0 is the constant 1: it fills up monomials of a lower degree.
        factors = [math.prod(math.factorial(n) for c, n in Counter(m).items() if c) for m in chosen]
        with torch.device("cpu"):
            self._table = torch.tensor(chosen).T.contiguous()
            self._weights = torch.tensor(factors, dtype=torch.float64).rsqrt()

    def query(self, x: Tensor) -> Tensor:
        # Divided by (largest channel)^n, monomials cannot overflow.
        x = x * self.root
        largest = x.detach().abs().amax(-1, keepdim=True).clamp_min(1.0)
        return self._of(torch.cat([1 / largest, x / largest], -1))

    def key(self, x: Tensor) -> Tensor:
        return self._of(functional.pad(x * self.root, (1, 0), value=1.0))

    def _of(self, extended: Tensor) -> Tensor:
        table = self._table.to(extended.device)
        found = extended.index_select(-1, table[0])
        for places in table[1:]:
            found = found * extended.index_select(-1, places)
        return found * self._weights.to(extended)


#: Exponents of key features, to base 2, stay within these: far below what counts, far above what occurs.
_LOWEST, _HIGHEST = _LEAST * LOG2_E, 40.0 * LOG2_E


class Positive(FeatureMap):
    """FAVOR+: ϕ_l(x) = exp(ω_l·x − |x|²/2), whose products are e^(q·k) in the mean over Gaussian ω.

    Performer 的正随机特征，内积的期望为 e^(q·k)。

    `projection` [m, D] holds the ω; `scale` multiplies q·k; `alike` gives features that are mixed later one number for
    what is moved (below). Nothing is subtracted that depends on other tokens, so
    nothing can leak from the future: since ω·x − |x|²/2 ≤ |ω|²/2, keys are bounded by moving the half squares of
    ω, less their mean, to the queries, where each token's largest exponent is taken off. Exponents of keys are cut off
    below -60, where a row of huge keys would have no features left at all. Features are computed as powers of two.
    Source: Choromanski et al. 2020, arXiv 2009.14794; kexue.fm/archives/7921; the bound is ours.
    """

    def __init__(
        self, projection: Tensor, scale: float, alike: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.projection, self.root = projection, math.sqrt(scale)
        moved = (projection.square().sum(-1) - projection.shape[-1]) / 2
        #: (|ω_l|² − D) / 2, or what `alike` makes of them: [m].
        self.moved = moved if alike is None else alike(moved)

    def exponents(self, x: Tensor) -> Tensor:
        """ω_l·x − |x|²/2, [..., m], x times √scale."""
        x = x * self.root
        return functional.linear(x, self.projection.to(x)).sub_(x.square().sum(-1, keepdim=True) / 2)

    def query(self, x: Tensor) -> Tensor:
        exponents = functional.linear(
            x * (self.root * LOG2_E), self.projection.to(x), self.moved.to(x) * LOG2_E
        )
        return exponents.sub_(exponents.detach().amax(-1, keepdim=True)).exp2_()

    def key(self, x: Tensor) -> Tensor:
        x = x * self.root
        exponents = functional.linear(x * LOG2_E, self.projection.to(x), self.moved.to(x) * -LOG2_E)
        exponents.sub_(x.square().sum(-1, keepdim=True) * (LOG2_E / 2))
        return exponents.clamp_(_LOWEST, _HIGHEST).exp2_()


class Rectified(FeatureMap):
    """The generalised kernel: φ = ϕ = relu(ω_l·x) + 10⁻³, which estimates no exponential.

    广义核：relu 特征。

    Source: Choromanski et al. 2020, arXiv 2009.14794.
    """

    epsilon = 1e-3

    def __init__(self, projection: Tensor, scale: float) -> None:
        self.projection, self.root = projection, math.sqrt(scale)

    def query(self, x: Tensor) -> Tensor:
        x = x * self.root
        return functional.relu(x @ self.projection.to(x).mT) + self.epsilon

    def key(self, x: Tensor) -> Tensor:
        return self.query(x)
