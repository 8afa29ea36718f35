"""The mechanisms of attention as options: one frozen record each, chosen in `ModelConfig.attention`.

注意力机制的选项：每种机制一个冻结记录。

A mechanism's module lives in `nn/attention`, under the name of the idea; here stands what a user may choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hanformer.errors import UserError
from hanformer.nn.functional import sparse_rules
from hanformer.nn.functional.visibility import Rule
from hanformer.records import Choice


@dataclass(frozen=True)
class Mechanism(Choice):
    """How tokens are mixed. 词元之间的混合方式。"""

    def restrict(self, rule: Rule) -> Rule:
        """Who sees whom, where the application allows `rule`. 与应用的可见性规则取交。"""
        return rule


@dataclass(frozen=True)
class Softmax(Mechanism):
    """softmax(q kᵀ / √D) v: what all published checkpoints use. 标准 softmax 注意力。"""

    name: ClassVar[str] = "softmax"


#: The most features, ranks and channels of a head that may be asked for: beyond, no memory holds what they make.
_MOST_CHANNELS = 2**16
#: How a Synthesizer may write logits, and how they stand beside those of queries and keys.
SYNTHESIZER_KINDS = ("dense", "random", "fixed_random", "factorised_dense", "factorised_random")
DOT_PRODUCTS = ("none", "plus", "plus_alpha")


@dataclass(frozen=True)
class Synthesizer(Mechanism):
    """softmax(B) v with B written from tokens or places; several kinds joined by + are mixed by learned weights.

    合成注意力；以 + 连接的多种方式按可学习的权重混合。

    `kind`: dense, random, fixed_random, factorised_dense (`factor` divides the maximum length), factorised_random
    (of that `rank`). `dot_product`: none, or plus or plus_alpha beside ordinary attention. No row can be longer than
    `ModelConfig.max_positions`. Raises UserError for another word or size.
    """

    name: ClassVar[str] = "synthesizer"
    kind: str = "dense"
    dot_product: str = "none"
    factor: int | None = None
    rank: int = 8

    def __post_init__(self) -> None:
        if not self.kinds_asked or set(self.kinds_asked) - set(SYNTHESIZER_KINDS):
            raise UserError(
                f"synthesizer: kind must be one of {', '.join(SYNTHESIZER_KINDS)}, or some joined by +, "
                f"got {self.kind!r}"
            )
        if self.dot_product not in DOT_PRODUCTS:
            raise UserError(
                f"synthesizer: dot_product must be one of {', '.join(DOT_PRODUCTS)}, got {self.dot_product!r}"
            )
        _whole("synthesizer: rank", self.rank, 1, _MOST_CHANNELS)
        if self.factor is not None:
            _whole("synthesizer: factor", self.factor, 1, _MOST_CHANNELS)

    @property
    def kinds_asked(self) -> tuple[str, ...]:
        """The kinds that are mixed. 参与混合的方式。"""
        return tuple(self.kind.split("+")) if isinstance(self.kind, str) else ()


#: Feature maps of linear attention; kernels of Performer, and how long its random vectors are.
LINEAR_FEATURES = ("elu", "double_softmax", "cosine", "taylor")
ROTATED = ("inputs", "features")
PERFORMER_KERNELS = ("softmax", "relu")
PERFORMER_NORMS = ("chi", "root", "stratified")


@dataclass(frozen=True)
class Linear(Mechanism):
    """Similarities that are products of features: φ(q)·ϕ(k), summed once for all queries. 线性注意力。

    `features`: elu (elu(x) + 1), double_softmax (encoders alone), cosine (1 + cos), or taylor (the polynomial of even
    `order` in place of exp). Rotary positions turn the inputs of the features, queries and keys, or, with
    `rotates="features"`, features in the numerator alone. Raises UserError for other words and orders.
    """

    name: ClassVar[str] = "linear"
    features: str = "elu"
    order: int = 2
    rotates: str = "inputs"

    def __post_init__(self) -> None:
        _one_of("linear: rotates", self.rotates, ROTATED)
        _one_of("linear: features", self.features, LINEAR_FEATURES)
        _even("linear", self.order)


@dataclass(frozen=True)
class Performer(Mechanism):
    """Random positive features whose products are softmax attention in the mean (FAVOR+). Performer 随机特征注意力。

    `features` a head; `kernel`: softmax, or relu, which estimates no softmax; `norms` of the random vectors: chi
    (as Gaussian ones have: unbiased), root (√D: less variance, biased), stratified (quantiles of chi: biased a little,
    the more the fewer there are); `orthogonal` blocks, or independent vectors. Vectors are drawn anew after every
    `redraw` training passes, never where it is 0. `rotates` as for Linear.
    Raises UserError for other words and sizes.
    """

    name: ClassVar[str] = "performer"
    features: int = 256
    kernel: str = "softmax"
    norms: str = "chi"
    orthogonal: bool = True
    redraw: int = 1000
    rotates: str = "inputs"

    def __post_init__(self) -> None:
        _one_of("performer: rotates", self.rotates, ROTATED)
        _one_of("performer: kernel", self.kernel, PERFORMER_KERNELS)
        _one_of("performer: norms", self.norms, PERFORMER_NORMS)
        _whole("performer: features", self.features, 1, _MOST_CHANNELS)
        _whole("performer: redraw", self.redraw, 0, 2**31)


@dataclass(frozen=True)
class Taylor(Mechanism):
    """Softmax attention whose exp is Σ_{m ≤ order} x^m / m!, positive for an even order. 偶数阶泰勒 softmax。

    `monotone` takes what stands left of the polynomial's minimum for the minimum. Linear(features="taylor") is the same
    without pairs. Raises UserError for an odd order.
    """

    name: ClassVar[str] = "taylor"
    order: int = 2
    monotone: bool = False

    def __post_init__(self) -> None:
        _even("taylor", self.order)


def _one_of(what: str, given: object, words: tuple[str, ...]) -> None:
    if given not in words:
        raise UserError(f"{what} must be one of {', '.join(words)}, got {given!r}")


def _whole(what: str, given: object, least: int, most: int) -> None:
    if not isinstance(given, int) or isinstance(given, bool) or not least <= given <= most:
        raise UserError(f"{what} must be a whole number from {least} to {most}, got {given!r}")


def _even(what: str, order: object) -> None:
    _whole(f"{what}: order", order, 2, 20)
    if int(str(order)) % 2:
        raise UserError(f"{what}: order must be even, for odd ones are negative somewhere; got {order}")


NORMALISERS_OF_GATED_UNITS = ("squared_relu", "softmax", "softmax_plus")


@dataclass(frozen=True)
class GatedUnit(Mechanism):
    """One head of attention inside a gate, in the place of attention and feed-forward layer: GAU.

    门控注意力单元（GAU），同时取代注意力层与前馈层。

    `normaliser`: squared_relu (relu(a)² over the number of keys), softmax, softmax_plus (logits grow with the log of
    the number of keys). `key_size` is that of queries and keys; values have `ModelConfig.intermediate_size`
    channels. Raises UserError for another word or size.
    """

    name: ClassVar[str] = "gated_unit"
    normaliser: str = "squared_relu"
    key_size: int = 128

    def __post_init__(self) -> None:
        if self.normaliser not in NORMALISERS_OF_GATED_UNITS:
            raise UserError(
                f"gated_unit: normaliser must be one of {', '.join(NORMALISERS_OF_GATED_UNITS)}, "
                f"got {self.normaliser!r}"
            )
        _whole("gated_unit: key_size", self.key_size, 1, _MOST_CHANNELS)


@dataclass(frozen=True)
class Local(Mechanism):
    """Softmax attention over neighbours alone, |i − j| <= radius: cost n · (2 · radius + 1). 局部注意力。

    Raises UserError for a radius that is not a whole number, 0 or more.
    """

    name: ClassVar[str] = "local"
    radius: int = 128

    def __post_init__(self) -> None:
        sparse_rules.Local(self.radius)

    def restrict(self, rule: Rule) -> Rule:
        """Of what the rule allows, the neighbours."""
        return rule & sparse_rules.Local(self.radius)


@dataclass(frozen=True)
class Atrous(Mechanism):
    """Softmax attention over every rate-th token, (i − j) mod rate = 0: cost n² / rate. 空洞注意力。

    Raises UserError for a rate that is not a whole number, 1 or more.
    """

    name: ClassVar[str] = "atrous"
    rate: int = 2

    def __post_init__(self) -> None:
        sparse_rules.Atrous(self.rate)

    def restrict(self, rule: Rule) -> Rule:
        """Of what the rule allows, every rate-th token."""
        return rule & sparse_rules.Atrous(self.rate)


@dataclass(frozen=True)
class Sparse(Mechanism):
    """Softmax attention over neighbours and over every rate-th token: local and atrous in one. 稀疏注意力。

    `radius` None means rate. Raises UserError for sizes that are not whole numbers.
    """

    name: ClassVar[str] = "sparse"
    rate: int = 2
    radius: int | None = None

    def __post_init__(self) -> None:
        sparse_rules.Sparse(self.rate, self.radius)

    def restrict(self, rule: Rule) -> Rule:
        """Of what the rule allows, neighbours and every rate-th token."""
        return rule & sparse_rules.Sparse(self.rate, self.radius)
