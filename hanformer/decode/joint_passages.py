"""One answer from several passages: each passage predicts, a fusion decides, all of them read on together.

联合多篇章解码：各篇章分别预测，融合后选词，再一同前进。

Source: kexue.fm/archives/7115.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from hanformer.decode.constraints import AutomatonConstraint
from hanformer.decode.generate import generate
from hanformer.decode.joint import Fusion, agreement
from hanformer.decode.passage import PassageNgrams
from hanformer.decode.protocols import StateT, Step
from hanformer.decode.search import Candidate, Hypothesis, Path, Proposal, Rule, Scores, Search
from hanformer.errors import UserError

Place = tuple[int, tuple[int, ...]]
"""Where an answer may go on: a passage's number, and the places in it. 篇章编号与可继续的位置。"""


@dataclass(frozen=True)
class AsGiven:
    """A rule that takes logits as scores, without normalising them: for fused values that are only ranked.

    直接以融合后的对数值为得分，不再归一化。
    """

    rule: Rule

    def propose(self, scores: Scores, searches: Sequence[Search]) -> list[list[Proposal]]:
        """The rule's proposals, scored by the logits themselves."""
        return self.rule.propose(Scores(scores.logits, torch.zeros_like(scores.normaliser)), searches)

    def settle(self, search: Search, candidates: list[Candidate]) -> list[Path]:
        """The rule's."""
        return self.rule.settle(search, candidates)

    def hypotheses(self, search: Search) -> list[Hypothesis]:
        """The rule's."""
        return self.rule.hypotheses(search)


class Extraction:
    """Which tokens continue an answer as an n-gram of its passage, row by row. 抽取式约束：只许延续原文。

    `places[i]` are the places of row i after 0, 1, ... new tokens, so that tokens can be forgotten.
    """

    def __init__(self, passages: Sequence[Sequence[int]], end_id: int, vocabulary_size: int) -> None:
        self.automaton = PassageNgrams(passages, end_id)
        self.masks = AutomatonConstraint(self.automaton, (), vocabulary_size)
        self.places: list[tuple[Place, ...]] = [(self.automaton.start(n),) for n in range(len(passages))]

    def allowed(self, last: int) -> Tensor:
        """Bool [I, last, V]: what may follow each of the last tokens."""
        if not self.places:
            return torch.ones(0, last, self.masks.vocabulary_size, dtype=torch.bool)
        rows = [torch.stack([self.masks.mask(place) for place in row[-last:]]) for row in self.places]
        return torch.stack(rows)

    def append(self, tokens: Tensor) -> None:
        """Follows tokens [I, T]."""
        for number, row in enumerate(tokens.tolist()):
            places = self.places[number]
            for token in row:
                places = (*places, self.automaton.advance(places[-1], token))
            self.places[number] = places

    def select(self, rows: Sequence[int]) -> None:
        """Row i becomes the old row `rows[i]`."""
        self.places = [self.places[row] for row in rows]

    def truncate(self, length: int) -> None:
        """Forgets all but the first `length` tokens."""
        self.places = [row[: 1 + length] for row in self.places]


class FreeText:
    """Allows every token. 不限制。"""

    def __init__(self, vocabulary_size: int) -> None:
        self.everything = torch.ones(vocabulary_size, dtype=torch.bool)

    def allowed(self, last: int) -> Tensor:
        """Bool [V]."""
        return self.everything

    def append(self, tokens: Tensor) -> None:
        """Nothing to follow."""

    def select(self, rows: Sequence[int]) -> None:
        """Nothing to move."""

    def truncate(self, length: int) -> None:
        """Nothing to forget."""


@dataclass(frozen=True)
class _Member:
    """A row of the inner state: the row of the search that it serves, and its passage."""

    row: int
    passage: int


class PassagesState(Generic[StateT]):
    """The states of all passages as rows of one inner state, several for each row of the search.

    每个搜索行对应若干篇章行，统一存放在内层状态中。

    Rows of one passage stand beside each other, as a key-value cache wants them. Any number of passages may belong
    to a row, also none: such a row can only end.
    """

    def __init__(
        self, inner: StateT, members: Sequence[_Member], rows: int, text: Extraction | FreeText
    ) -> None:
        self.inner, self.text = inner, text
        self.members, self.rows, self.length = list(members), rows, 0

    def select(self, rows: Tensor) -> None:
        """Row r becomes the old row `rows[r]`, with all of its passages."""
        chosen = rows.tolist()
        serving: dict[int, list[int]] = {}
        for place, member in enumerate(self.members):
            serving.setdefault(member.row, []).append(place)
        pairs = [(place, row) for row, old in enumerate(chosen) for place in serving.get(old, ())]
        pairs.sort(key=lambda pair: self.members[pair[0]].passage)
        self.members = [_Member(row, self.members[place].passage) for place, row in pairs]
        self.rows = len(chosen)
        self._move([place for place, _ in pairs])

    def _move(self, places: list[int]) -> None:
        self.text.select(places)
        # Without a passage left nothing will be read any more.
        if places:
            self.inner.select(torch.tensor(places))

    def truncate(self, length: int) -> None:
        """Keeps the first `length` appended tokens of every row."""
        self.inner.truncate(length)
        self.text.truncate(length)
        self.length = length

    def append(self, tokens: Tensor) -> Tensor:
        """Tokens [R, T] of the search as those of the inner rows [I, T]."""
        inner = tokens[torch.tensor([member.row for member in self.members], device=tokens.device)]
        self.text.append(inner)
        self.length += tokens.shape[1]
        return inner

    def fuse(self, logits: Tensor, fusion: Fusion, end_id: int) -> Tensor:
        """Logits [I, T, V] of the passages to fused ones [R, T, V]."""
        log_p = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
        log_p = log_p.masked_fill(~self.text.allowed(logits.shape[1]).to(log_p.device), -math.inf)
        fused = log_p.new_full((self.rows, *log_p.shape[1:]), -math.inf)
        fused[..., end_id] = 0.0
        for places in self._by_count():
            rows = [self.members[row[0]].row for row in places]
            fused[rows] = fusion(log_p[torch.tensor(places).T])
        return fused

    def _by_count(self) -> list[list[list[int]]]:
        """The inner places of each row, rows with equally many passages together: one fusion for each number."""
        serving: dict[int, list[int]] = {}
        for place, member in enumerate(self.members):
            serving.setdefault(member.row, []).append(place)
        grouped: dict[int, list[list[int]]] = {}
        for places in serving.values():
            grouped.setdefault(len(places), []).append(places)
        return list(grouped.values())


def joint_passages(
    state: StateT,
    first_logits: Tensor,
    counts: Sequence[int],
    *,
    end_id: int,
    passages: Sequence[Sequence[int]] | None = None,
    fusion: Fusion = agreement,
    drop_unanswering: bool = True,
) -> tuple[Tensor, PassagesState[StateT]]:
    """Logits [B, V] of B questions and their state, from those [I, V] of all passages, `counts[b]` for question b.

    把各问题的所有篇章合为一行：返回融合后的首步 logits 与状态。

    A passage whose likeliest first token is the end token has no answer and takes no part; a question without such
    passages can only be answered by nothing (let `generate` have minimum_length=0). With `passages`, the token ids
    of each, tokens count only where they continue the answer as an n-gram of that passage.
    Raises UserError where numbers of rows differ. Source: kexue.fm/archives/7115.
    """
    _check(first_logits, counts, passages)
    size = first_logits.shape[-1]
    text = FreeText(size) if passages is None else Extraction(passages, end_id, size)
    questions = [question for question, count in enumerate(counts) for _ in range(count)]
    members = [_Member(question, passage) for passage, question in enumerate(questions)]
    found = PassagesState(state, members, len(counts), text)
    answering = [True] * len(members)
    if drop_unanswering:
        answering = (first_logits.argmax(-1) != end_id).tolist()
    kept = [place for place, answers in enumerate(answering) if answers]
    found.members = [members[place] for place in kept]
    if len(kept) < len(members):
        found._move(kept)
    logits = first_logits[torch.tensor(kept, dtype=torch.long, device=first_logits.device)]
    return found.fuse(logits[:, None], fusion, end_id)[:, 0], found


def _check(first_logits: Tensor, counts: Sequence[int], passages: Sequence[Sequence[int]] | None) -> None:
    if first_logits.dim() != 2 or any(count < 0 for count in counts) or sum(counts) != len(first_logits):
        raise UserError(
            f"expected first logits [{sum(counts)}, V], a row for each passage of {list(counts)}, "
            f"got {list(first_logits.shape)}"
        )
    if passages is not None and len(passages) != len(first_logits):
        raise UserError(f"expected {len(first_logits)} passages, one for each row, got {len(passages)}")


def passages_step(
    step: Step[StateT], *, end_id: int, fusion: Fusion = agreement
) -> Callable[[Tensor, PassagesState[StateT]], Tensor]:
    """The step of a search over questions: each passage steps, the fusion decides. 联合 step 函数。"""

    def fused(tokens: Tensor, state: PassagesState[StateT]) -> Tensor:
        logits = step(state.append(tokens), state.inner)
        return state.fuse(logits, fusion, end_id)

    return fused


def answer_jointly(
    step: Step[StateT],
    state: StateT,
    first_logits: Tensor,
    counts: Sequence[int],
    *,
    rule: Rule,
    end_id: int,
    maximum_length: int,
    passages: Sequence[Sequence[int]] | None = None,
    fusion: Fusion = agreement,
) -> list[list[Hypothesis]]:
    """Answers each question from all of its passages, best answer first; an empty one means that there is none.

    由多篇章联合生成每个问题的答案；空答案表示没有答案。

    `state` and `first_logits` [I, V] come from the prompts of all passages, those of a question beside each other.
    Scores are sums of the logarithms of fused values. Arguments and errors are those of `joint_passages` and
    `generate`. Source: kexue.fm/archives/7115.
    """
    first, joined = joint_passages(
        state, first_logits, counts, end_id=end_id, passages=passages, fusion=fusion
    )
    return generate(
        passages_step(step, end_id=end_id, fusion=fusion),
        joined,
        first,
        rule=AsGiven(rule),
        end_id=end_id,
        maximum_length=maximum_length,
        minimum_length=0,
    )
