"""What an update rule does with a weight whose first gradient comes late: a rare word in a table of embeddings.

更新规则如何对待“迟到”的参数：稀有词的词向量。

Source: kexue.fm/archives/7387 (AdaX) and 7302 (AdaFactor).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hanformer.errors import UserError
from hanformer.lab.report import Picture, Report, Table, figure, tidy
from hanformer.train.optimizer import rule_named
from hanformer.train.options import TrainOptions

CLASSES, WORDS = 4, 8


@dataclass(frozen=True)
class Options:
    """Which `rules` (with the rates that suit each), and when first gradients arrive; then a table of `tokens` rows
    whose frequencies are Zipf's, learned for `steps` batches of `rows` texts.

    更新规则、首个梯度到达的时刻，以及按齐普夫分布出现的词表实验的规模。
    """

    rules: tuple[str, ...] = ("adamw", "lazy+adamw", "adax", "adafactor", "lion")
    arrivals: tuple[int, ...] = (1, 10, 100, 1000, 10_000)
    tokens: int = 20_000
    steps: int = 2000
    rows: int = 32
    rate: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        for rule in self.rules:
            rule_named(rule)
        least = {"tokens": 20, "steps": 1, "rows": 1}
        for name, count in least.items():
            if getattr(self, name) < count:
                raise UserError(
                    f"lab rare-features: {name}: expected at least {count}, got {getattr(self, name)}"
                )
        if not self.rules or not self.arrivals or min(self.arrivals) < 1:
            raise UserError("lab rare-features: expected rules, and arrivals from update 1 on")
        if not 0 < self.rate < math.inf:
            raise UserError(f"lab rare-features: rate: expected a number above 0, got {self.rate}")


@dataclass(frozen=True)
class Learned:
    """What a rule made of the table: KL from the truth per text, and the length of rows over that of the true ones.

    学习结果：每条文本与真实分布的 KL，以及各频次段词向量长度与真实长度之比。
    """

    excess: float
    lengths: Mapping[str, float]


#: Tokens by how often training met them.
SEEN = {"1 to 3": (1, 3), "4 to 30": (4, 30), "more": (31, 1 << 60)}


def first_steps(rule: str, arrivals: Sequence[int], rate: float = 1e-3) -> list[float]:
    """|Δw| / rate of the first update that has a gradient, for weights of 1 whose gradient, 1, arrives at each update.

    首个非零梯度到达时的步长（以学习率为单位）。

    Adam's is (1 − β₁)√((1 − β₂^s)/(1 − β₂)) / (1 − β₁^s), at most 3.16; AdaX's grows as (1 − β₁)√(((1 + b)^s − 1)/b).
    """
    weights = [nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in arrivals]
    optimizer = rule_named(rule)([{"params": weights, "weight_decay": 0.0}], _options(rate))
    found = [0.0] * len(arrivals)
    for update in range(1, max(arrivals) + 1):
        for weight, arrival in zip(weights, arrivals, strict=True):
            weight.grad = torch.full_like(weight, float(update == arrival))
        optimizer.step()
        for place, arrival in enumerate(arrivals):
            if update == arrival:
                found[place] = abs(float(weights[place].detach()) - 1.0) / rate
    return found


def learn(rule: str, options: Options) -> Learned:
    """Learns class scores of tokens from texts of 8 tokens, whose true scores are known. 学习词的类别得分。

    Rates fall to 0 in a line. A text is a bag of tokens drawn by Zipf's law, its class is drawn from the softmax of
    their summed scores.
    """
    random = torch.Generator().manual_seed(options.seed)
    truth = torch.randn(options.tokens, CLASSES, generator=random)
    truth -= truth.mean(1, keepdim=True)
    frequencies = 1.0 / torch.arange(1, options.tokens + 1)
    table = nn.Parameter(0.1 * torch.randn(options.tokens, CLASSES, generator=random))
    group = {"params": [table], "weight_decay": 0.0, "kind": "embedding"}
    rate = options.rate * RATES.get(rule, 1.0)
    optimizer = rule_named(rule)([group], _options(rate))
    seen = torch.zeros(options.tokens)
    for step in range(options.steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / options.steps)
        bags = torch.multinomial(frequencies, options.rows * WORDS, True, generator=random).view(-1, WORDS)
        labels = torch.multinomial(_logits(truth, bags).softmax(-1), 1, generator=random).squeeze(1)
        seen += torch.bincount(bags.flatten(), minlength=options.tokens)
        table.grad = None
        F.cross_entropy(_logits(table, bags), labels).backward()
        optimizer.step()
    found = table.detach()
    return Learned(_excess(found, truth, frequencies, random), _lengths(found, truth, seen))


#: Rates over AdamW's, as the rules want them.
RATES = {"lion": 0.1, "tiger": 0.1, "adafactor": 5.0}


def _options(rate: float) -> TrainOptions:
    return TrainOptions(updates=1, learning_rate=rate, weight_decay=0.0)


def _logits(table: Tensor, bags: Tensor) -> Tensor:
    return F.embedding(bags, table).sum(1)


def _excess(table: Tensor, truth: Tensor, frequencies: Tensor, random: torch.Generator) -> float:
    bags = torch.multinomial(frequencies, 20_000 * WORDS, True, generator=random).view(-1, WORDS)
    own, true = (_logits(scores, bags).log_softmax(-1) for scores in (table, truth))
    return float((true.exp() * (true - own)).sum(1).mean())


def _lengths(table: Tensor, truth: Tensor, seen: Tensor) -> dict[str, float]:
    """Root mean squares of rows, over those of the true ones; rows are read without their mean, which is idle."""
    rows = table - table.mean(1, keepdim=True)
    found = {}
    for name, (least, most) in SEEN.items():
        chosen = (seen >= least) & (seen <= most)
        if chosen.any():
            found[name] = float(rows[chosen].norm() / truth[chosen].norm())
    return found


def run(out: Path, options: Options) -> Report:
    """Measures every rule and draws both. 逐一测量并作图。"""
    steps = {rule: first_steps(rule, options.arrivals) for rule in options.rules}
    learned = {rule: learn(rule, options) for rule in options.rules}
    arrivals = tuple(f"{arrival:,}" for arrival in options.arrivals)
    first = tuple((rule, *(f"{step:.4g}" for step in found)) for rule, found in steps.items())
    second = tuple(
        (rule, f"{found.excess:.4f}", *(f"{found.lengths.get(name, math.nan):.2f}" for name in SEEN))
        for rule, found in learned.items()
    )
    return Report(
        "Rare features: the first step of a weight that waited · 稀有特征：迟到参数的第一步",
        (
            "A late gradient meets a second moment that is nearly empty. Adam's step is at most 3.16 times the rate;",
            "AdaX's grows without bound, since its second moment is an average over all updates; AdaFactor clips.",
            "迟到的梯度遇到几乎为空的二阶动量：Adam 的步长至多为学习率的 3.16 倍；AdaX 的无界增长，AdaFactor 有裁剪。",
        ),
        (
            Table(
                "|first step| / rate, by the update at which the gradient arrives · 首步步长",
                ("rule", *arrivals),
                first,
            ),
            Table(
                "A Zipf table: KL from the truth, length of rows over the true length by times seen · 齐普夫词表",
                ("rule", "KL", *SEEN),
                second,
            ),
        ),
        (
            Picture(
                "rare_features",
                "Left: first steps. Right: rows by how often they were seen.",
                _draw(options, steps, learned),
            ),
        ),
    )


def _draw(options: Options, steps: Mapping[str, list[float]], learned: Mapping[str, Learned]) -> object:
    picture = figure(9.0, 3.4)
    left, right = picture.subplots(1, 2)
    for rule, sizes in steps.items():
        left.plot(options.arrivals, sizes, marker="o", markersize=3, linewidth=1.2, label=rule)
    left.set(xscale="log", yscale="log", xlabel="update of the first gradient", ylabel="|first step| / rate")
    left.legend(fontsize=8)
    width = 0.8 / len(learned)
    for place, (rule, found) in enumerate(learned.items()):
        heights = [found.lengths.get(name, 0.0) for name in SEEN]
        right.bar([index + place * width for index in range(len(SEEN))], heights, width, label=rule)
    right.axhline(1.0, color="#888", linewidth=0.8)
    middle = 0.4 - width / 2
    right.set_xticks([index + middle for index in range(len(SEEN))], list(SEEN))
    right.set(xlabel="times seen", ylabel="length / true length")
    tidy((left, right))
    return picture
