"""Sampling whose draws depend on the seed, the row and the step alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hanformer.decode import filters
from hanformer.decode.search import (
    Candidate,
    Filter,
    Hypothesis,
    Path,
    Proposal,
    Row,
    Scores,
    Search,
    follow_each,
    rows_of,
)
from hanformer.errors import UserError


def uniform(seed: int, row: int, number: int, step: int) -> float:
    """A number in [0, 1) with 53 random bits, a function of its arguments alone on every machine.

    由参数唯一决定的 [0, 1) 均匀数，与批次和设备无关。
    """
    digest = hashlib.blake2b(f"{seed},{row},{number},{step}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def inverse_draw(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    """The token at which the running sum of each row's probabilities passes u: [R, V], [R] -> [R].

    逆累积分布抽样。

    Sums run in float64; a token of probability zero is never drawn. Rows need not sum to 1.
    """
    cumulative = probabilities.double().cumsum(-1)
    total = cumulative[:, -1:]
    target = torch.minimum(uniforms[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    drawn = torch.searchsorted(cumulative, target, right=True)[:, 0]
    return drawn.clamp(max=probabilities.shape[-1] - 1)


class Draw(NamedTuple):
    """One draw: the row of the batch it draws from, and what names it."""

    row: int
    prompt: int
    number: int
    step: int


@dataclass(frozen=True)
class Sample:
    """Draws each token from the filtered distribution: temperature, top-k, top-p, then any other filters.

    采样解码：依次作温度、top-k、top-p 及其他过滤后抽取。

    `more` are filters of `truncation`, `penalties` and `steering`, applied last and in their order.

    `samples` independent hypotheses are drawn for each prompt and come back in the order of their numbers.
    A draw depends on (seed, first_row + prompt, number of the sample, step) alone, not on the batch around
    it: a list of prompts decoded in parts draws the same when each part is given its `first_row`.
    The score is the sum of log p of the model, before the filters.

    Raises UserError for impossible settings.
    """

    seed: int = 0
    samples: int = 1
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    first_row: int = 0
    more: tuple[Filter, ...] = ()

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise UserError(f"expected at least 1 sample, got {self.samples}")
        self._truncate(torch.zeros(1, 1))

    def filter(self, logits: Tensor, rows: Sequence[Row] = ()) -> Tensor:
        """The filters, one after the other: logits [R, V] -> [R, V]."""
        filtered = self._truncate(logits)
        for extra in self.more:
            filtered = extra(filtered, rows)
        return filtered

    def _truncate(self, logits: Tensor) -> Tensor:
        filtered = filters.temperature(logits, self.temperature)
        if self.top_k is not None:
            filtered = filters.top_k(filtered, self.top_k)
        return filtered if self.top_p is None else filters.top_p(filtered, self.top_p)

    def draws(self, searches: Sequence[Search]) -> list[Draw]:
        """One draw a path, and `samples` of them for the empty path of the first step."""
        paths = [(search, path) for search in searches for path in search.live]
        return [
            Draw(row, self.first_row + search.prompt, number, len(path.tokens))
            for row, (search, path) in enumerate(paths)
            for number in ([path.number] if path.tokens else range(self.samples))
        ]

    def propose(self, scores: Scores, searches: Sequence[Search]) -> list[list[Proposal]]:
        """The drawn tokens of each row, with the model's own log-probability."""
        draws, device = self.draws(searches), scores.logits.device
        rows = torch.tensor([draw.row for draw in draws], device=device)
        uniforms = [uniform(self.seed, draw.prompt, draw.number, draw.step) for draw in draws]
        # A row of which nothing is left has no softmax; what it draws is impossible, and the loop drops it.
        probabilities = self.filter(scores.logits, rows_of(searches)).softmax(-1).nan_to_num(0.0)[rows]
        drawn = inverse_draw(probabilities, torch.tensor(uniforms, dtype=torch.float64, device=device))
        values = scores.logits[rows, drawn] - scores.normaliser[rows]
        values = values.masked_fill(probabilities.gather(1, drawn[:, None])[:, 0] == 0, -math.inf)
        proposals: list[list[Proposal]] = [[] for _ in range(len(scores.logits))]
        for draw, value, token in zip(draws, values.tolist(), drawn.tolist(), strict=True):
            proposals[draw.row].append((value, token))
        return proposals

    def settle(self, search: Search, candidates: list[Candidate]) -> list[Path]:
        """Follows every path."""
        return follow_each(search, candidates)

    def hypotheses(self, search: Search) -> list[Hypothesis]:
        """All samples, in the order of their numbers."""
        ended = [(path, True) for path in search.finished] + [(path, False) for path in search.live]
        ended.sort(key=lambda pair: pair[0].number)
        return [search.hypothesis(path, path.log_probability, finished) for path, finished in ended]
