"""The records of a search, and what a decoding rule has to say: propose, settle, hypotheses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, NoReturn, Protocol

from torch import Tensor

from hanformer.errors import UserError


@dataclass(frozen=True)
class Hypothesis:
    """One result: new tokens without the end token that finished them, and its score.

    一个结果：新词元（不含结束符）、得分、是否已结束。

    `finished` is False where `maximum_length` cut the hypothesis. `score` is the sum of log-probabilities
    (natural logarithm, the end token's included), divided by the length penalty where the rule has one.
    """

    tokens: tuple[int, ...]
    score: float
    finished: bool


Stop = Callable[[Sequence[int]], bool]
"""Whether a path with these new tokens is finished, though no end token closes it: a stop string, say.

除结束符之外的停止条件：给定已生成的词元，判断该路径是否结束。
"""


@dataclass(frozen=True)
class Limits:
    """The end token, the most tokens to generate (the end token counts), and what else finishes a path."""

    end_id: int
    maximum_length: int
    stop: Stop | None = None


# Plain tuples, for there are rows x (beams + 1) of them at each step.
Proposal = tuple[float, int]
"""(log-probability, token): a next token of one row.

（对数概率，词元）：一行的一个候选词元。
"""

Candidate = tuple[float, int, int]
"""(cost, parent, token): a token that may extend the path `parent` of a search, cost = -sum of log p.

（代价，父路径，词元）：扩展某条路径的候选。

Candidates sort best first, ties by parent, then by token.
"""


@dataclass(frozen=True, eq=False)
class Scores:
    """Logits [R, V] with -inf where a token is not allowed; log p = logits - normaliser [R]."""

    logits: Tensor
    normaliser: Tensor

    def best(self, count: int) -> list[list[Proposal]]:
        """The `count` most probable tokens of each row, best first; forbidden ones come last, with -inf."""
        values, tokens = self.logits.topk(min(count, self.logits.shape[-1]), dim=-1)
        values = values - self.normaliser[:, None]
        rows = zip(values.tolist(), tokens.tolist(), strict=True)
        return [list(zip(*row, strict=True)) for row in rows]


@dataclass(frozen=True)
class Path:
    """Tokens generated so far (the end token included), their log-probability, and where the path came from.

    `parent` is its place among the paths of the step before; `number` tells samples of one prompt apart.
    """

    tokens: tuple[int, ...] = ()
    log_probability: float = 0.0
    parent: int = 0
    number: int = 0


@dataclass
class Search:
    """The search of one prompt: its live paths, one row of the batch each, and those that have finished."""

    prompt: int
    limits: Limits
    live: list[Path] = field(default_factory=lambda: [Path()])
    finished: list[Path] = field(default_factory=list)

    @property
    def length(self) -> int:
        """Tokens generated so far; a search that is over stands at 0."""
        return len(self.live[0].tokens) if self.live else 0

    def extend(self, candidate: Candidate) -> Path:
        """The path that a candidate stands for."""
        cost, place, token = candidate
        parent = self.live[place]
        return Path((*parent.tokens, token), -cost, place, parent.number)

    def ended(self, path: Path) -> bool:
        """Whether the end token closes the path, or the stop condition finishes it."""
        if path.tokens[-1] == self.limits.end_id:
            return True
        return self.limits.stop is not None and self.limits.stop(path.tokens)

    def hypothesis(self, path: Path, score: float, finished: bool) -> Hypothesis:
        """The path as the user sees it: without the end token, with the tokens of a stop condition."""
        closed = finished and path.tokens[-1] == self.limits.end_id
        return Hypothesis(path.tokens[:-1] if closed else path.tokens, score, finished)

    def dead_end(self) -> NoReturn:
        """Raises UserError: no token is allowed, so the prompt can have no result."""
        raise UserError(
            f"prompt {self.prompt}: expected an allowed token after {self.length} generated tokens, but "
            "every token is forbidden or has probability zero; check the constraint, whether it allows the "
            "end token there, and minimum_length"
        )


class Row(NamedTuple):
    """What a filter may know of one row of the batch: its prompt's number, its new tokens, their log p.

    过滤器所见的一行：提示编号、已生成词元、其对数概率、样本编号。
    """

    prompt: int
    tokens: tuple[int, ...] = ()
    log_probability: float = 0.0
    number: int = 0


def rows_of(searches: Sequence[Search]) -> list[Row]:
    """The rows of the batch: the live paths of the searches, one search after the other."""
    return [
        Row(search.prompt, path.tokens, path.log_probability, path.number)
        for search in searches
        for path in search.live
    ]


class Filter(Protocol):
    """Reshapes next-token logits: what it drops becomes -inf.

    过滤器：改变下一词元的 logits，被丢弃者为 -inf。

    Filters keep no state: what they need of the past is in the rows, so nothing has to move with the beams.
    """

    def __call__(self, logits: Tensor, rows: Sequence[Row]) -> Tensor:
        """Logits [R, V] of R rows to the same; the argument is left as it is."""
        ...


class Rule(Protocol):
    """A decoding rule: what may come next, which paths live on, and what is given back.

    解码规则：提出候选、决定去留、给出结果。

    Rules keep no state of their own; the loop calls `propose` once a step for all rows together and `settle`
    once a step for each prompt.
    """

    def propose(self, scores: Scores, searches: Sequence[Search]) -> list[list[Proposal]]:
        """Proposals of each row; the rows are the live paths of the searches, one search after the other."""
        ...

    def settle(self, search: Search, candidates: list[Candidate]) -> list[Path]:
        """The paths that live on (none: the search is over); finished ones go to `search.finished`."""
        ...

    def hypotheses(self, search: Search) -> list[Hypothesis]:
        """The results of a search that is over or has reached the maximum length, best first."""
        ...


def follow_each(search: Search, candidates: Sequence[Candidate]) -> list[Path]:
    """Settles rules whose paths never compete: every path takes its tokens, and one without any is an error.

    At the first step the tokens of the empty path are numbered in the order in which they come.
    """
    if len({parent for _, parent, _ in candidates}) < len(search.live):
        search.dead_end()
    first = search.length == 0
    paths = [search.extend(candidate) for candidate in candidates]
    paths = [replace(path, number=place) for place, path in enumerate(paths)] if first else paths
    search.finished += [path for path in paths if search.ended(path)]
    return [path for path in paths if not search.ended(path)]
