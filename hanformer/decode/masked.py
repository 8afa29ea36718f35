"""Answers by a masked language model in one pass: masks stand for the answer, the passage says what may fill them.

掩码语言模型的非自回归抽取：一次前向得到各答案位的分布，再在原文 n 元组约束下逐位取词。

Source: kexue.fm/archives/7148.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hanformer.decode.passage import PassageNgrams
from hanformer.errors import UserError
from hanformer.models.transformer import Transformer
from hanformer.nn.functional.packing import Layout


@dataclass(frozen=True)
class Answer:
    """Tokens of an answer without the end token, and its score; no tokens mean that there is none.

    答案词元与得分；空表示没有答案。
    """

    tokens: tuple[int, ...]
    score: float


def extract(probabilities: Tensor, passage: Sequence[int], end_id: int) -> Answer:
    """Fills the slots in order: at each the likeliest token that continues the answer within the passage, or the end.

    逐位取词：只允许延续原文 n 元组，或结束。

        a_i = argmax p_i(v) over v that follow an occurrence of a_0 .. a_(i-1) in the passage, and the end token
        score = mean of p_i(a_i), the end token's included

    Of equals the token with the lowest id is taken. `probabilities` [L, V] are those of the L slots.
    Raises UserError where there is no slot, a probability is no number, an id is outside the vocabulary, or the passage
    holds the end token.
    """
    _check(probabilities, passage, end_id)
    automaton, tokens, total = PassageNgrams([passage], end_id), [], 0.0
    place = automaton.start(0)
    for row in probabilities.double().tolist():
        best = min(automaton.allowed(place), key=lambda token: (-row[token], token))
        tokens.append(best)
        total += row[best]
        if best == end_id:
            break
        place = automaton.advance(place, best)
    return Answer(tuple(token for token in tokens if token != end_id), total / len(tokens))


def _check(probabilities: Tensor, passage: Sequence[int], end_id: int) -> None:
    if probabilities.dim() != 2 or not len(probabilities):
        raise UserError(
            f"expected probabilities [slots, V] of at least 1 slot, got {list(probabilities.shape)}"
        )
    if not bool(probabilities.isfinite().all()):
        raise UserError(
            "expected probabilities that are numbers, got NaN or infinity; check the weights of the model"
        )
    size = probabilities.shape[1]
    for name, ids in (("the passage's ids", passage), ("the end token", [end_id])):
        if ids and not 0 <= min(ids) <= max(ids) < size:
            raise UserError(f"expected {name} in 0..{size - 1}, got {min(ids)} to {max(ids)}")


def agreed(scores: Sequence[float]) -> float:
    """The score of an answer that several passages gave: S = Σ s² / (1 + Σ s). 多篇章给出同一答案时的得分。

    One passage gives s² / (1 + s); k that agree come near to s as k grows. Source: kexue.fm/archives/7148.
    """
    return sum(score * score for score in scores) / (1 + sum(scores))


def vote(answers: Iterable[Answer], key: Callable[[tuple[int, ...]], Hashable] = tuple) -> Answer:
    """The answer with the greatest `agreed` score; empty ones have no vote, and win where there is no other.

    多篇章投票：合并相同答案的得分，取最高者。

    `key` says which answers are the same: their text, say. The tokens are those of its best single answer.
    """
    given: dict[Hashable, list[Answer]] = {}
    for answer in answers:
        if answer.tokens:
            given.setdefault(key(answer.tokens), []).append(answer)
    voted = [
        Answer(max(same, key=lambda one: one.score).tokens, agreed([one.score for one in same]))
        for same in given.values()
    ]
    return max(voted, key=lambda answer: answer.score, default=Answer((), 0.0))


@dataclass(frozen=True)
class MaskedReading:
    """How a question and a passage are laid out for a masked language model. 问题与篇章的排布。

        [CLS] [MASK] * slots [SEP] question [SEP] passage [SEP]

    All segments are 0. A question keeps `question_length` tokens and a passage `passage_length`, [SEP] included; what
    is longer is cut, so give a long text as several passages. Raises UserError for lengths below 1.
    """

    cls_id: int
    sep_id: int
    mask_id: int
    slots: int = 32
    question_length: int = 64
    passage_length: int = 256

    def __post_init__(self) -> None:
        if min(self.slots, self.question_length, self.passage_length) < 1:
            raise UserError(
                "expected slots, question_length and passage_length of at least 1, "
                f"got {self.slots}, {self.question_length} and {self.passage_length}"
            )

    def kept(self, passage: Sequence[int]) -> list[int]:
        """The tokens of a passage that the model reads."""
        return list(passage[: self.passage_length - 1])

    def row(self, question: Sequence[int], passage: Sequence[int]) -> list[int]:
        """Token ids of the whole; question and passage come without special tokens."""
        asked = question[: self.question_length - 1]
        masks = [self.mask_id] * self.slots
        return [self.cls_id, *masks, self.sep_id, *asked, self.sep_id, *self.kept(passage), self.sep_id]


@torch.inference_mode()
def read_masked(
    model: Transformer, question: Sequence[int], passages: Sequence[Sequence[int]], reading: MaskedReading
) -> list[Answer]:
    """The answer that each passage gives to a question, all of them in one pass; `vote` chooses among them.

    一次前向得到每个篇章的答案。

    Question and passages are token ids without special tokens. Raises UserError where the model is no encoder with a
    vocabulary head, or a row is longer than its positions.
    """
    check_encoder(model, "read_masked")
    if not passages:
        return []
    rows = [reading.row(question, passage) for passage in passages]
    layout = Layout.of([len(row) for row in rows], device=model.device)
    ids = torch.tensor([token for row in rows for token in row], device=model.device)
    hidden = model.body(model.embed(ids, layout), layout)
    slots = torch.tensor(layout.offsets[:-1], device=model.device)[:, None] + 1
    slots = slots + torch.arange(reading.slots, device=model.device)
    logits = model.lm_logits(hidden[slots.flatten()])
    chances = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)
    each = chances.view(len(rows), reading.slots, -1).cpu()
    return [
        extract(own, reading.kept(passage), reading.sep_id)
        for own, passage in zip(each, passages, strict=True)
    ]


def check_encoder(model: object, name: str) -> None:
    """Raises UserError unless the model is an encoder with a vocabulary head. 校验为带词表输出层的编码器。"""
    whole = isinstance(model, Transformer) and model.config.application == "encoder"
    if not whole or "lm" not in model.heads:  # type: ignore[attr-defined]
        raise UserError(f'{name} needs a masked language model: load an encoder, with heads=("mlm",)')
