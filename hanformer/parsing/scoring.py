"""Unlabelled F1 of trees, under the conventions that published figures were computed with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hanformer.errors import UserError
from hanformer.parsing.brackets import Brackets, Span

COUNTED, EXCLUDED, AUTHORS = "counted", "excluded", "authors"
#: How the span of the whole sentence is treated.
CONVENTIONS = (COUNTED, EXCLUDED, AUTHORS)


@dataclass(frozen=True)
class ParsingScore:
    """F1 in percent over all spans together, and averaged over sentences; sentences of one word are left out.

    句法 F1（百分数）：语料级与句级平均。
    """

    corpus: float
    sentences: float
    count: int


def unlabelled_f1(
    gold: Sequence[Brackets], guessed: Sequence[Brackets], convention: str = COUNTED
) -> ParsingScore:
    """2 P R / (P + R) of the sets of spans of at least two words, over sentences of at least two words.

    无标签 F1。

    "counted": the span of the whole sentence is one of them, so that no sentence scores 0. "excluded": it is not, and
    a sentence whose gold tree has no other span scores 1. "authors": excluded too, but where the gold tree has no other
    span, recall is 1, and precision is 1 only if the guess has none either, as in the code of ON-LSTM. That code also
    counts sentences of one word, as 1, and leaves out `$` and `#` (`treebank.CURRENCY`).
    Raises UserError for trees of other sentences, and for no sentence of two words.
    """
    if convention not in CONVENTIONS:
        raise UserError(f"convention: expected one of {', '.join(CONVENTIONS)}, got {convention!r}")
    if [tree.words for tree in gold] != [tree.words for tree in guessed]:
        raise UserError("expected trees of the same sentences in the same order")
    pairs = [
        (_counted(truth, convention), _counted(guess, convention))
        for truth, guess in zip(gold, guessed, strict=True)
        if len(truth.words) > 1
    ]
    if not pairs:
        raise UserError("expected a sentence of at least two words to score, got none")
    shared = sum(len(truth & guess) for truth, guess in pairs)
    corpus = _f1(shared, sum(len(guess) for _, guess in pairs), sum(len(truth) for truth, _ in pairs))
    each = sum(_of_sentence(truth, guess, convention) for truth, guess in pairs)
    return ParsingScore(100 * corpus, 100 * each / len(pairs), len(pairs))


def most_possible(gold: Iterable[Brackets]) -> list[Brackets]:
    """Binary trees that hold every gold bracket: the best that a binary parser can score.

    包含全部标准括号的二叉树：二叉分析器的上限。
    """
    return [Brackets.of(tree.words, [*tree.spans, *_filling(tree)]) for tree in gold]


def _filling(tree: Brackets) -> Iterable[Span]:
    """Brackets that make every bracket of several parts branch to the right."""
    for (start, stop), parts in parts_of(tree).items():
        if len(parts) > 2:
            yield from ((part[0], stop) for part in parts[1:-1])
        assert parts[0][0] == start and parts[-1][1] == stop


def parts_of(tree: Brackets) -> dict[Span, list[Span]]:
    """The spans that stand right inside each bracket, single words among them, from left to right.

    每个括号的直接成分（含单个词）。
    """
    parts: dict[Span, list[Span]] = {span: [] for span in tree.ordered()}
    around: list[Span] = []
    for span in sorted([*tree.spans, *_words(tree)], key=lambda span: (span[0], -span[1])):
        while around and around[-1][1] <= span[0]:
            around.pop()
        if around:
            parts[around[-1]].append(span)
        if span[1] - span[0] > 1:
            around.append(span)
    return parts


def _words(tree: Brackets) -> list[Span]:
    return [(place, place + 1) for place in range(len(tree.words))]


def _counted(tree: Brackets, convention: str) -> frozenset[Span]:
    return tree.spans if convention == COUNTED else tree.spans - {(0, len(tree.words))}


def _of_sentence(truth: frozenset[Span], guess: frozenset[Span], convention: str) -> float:
    if truth:
        return _f1(len(truth & guess), len(guess), len(truth))
    return 1.0 if convention == EXCLUDED or not guess else 0.0


def _f1(shared: int, guessed: int, true: int) -> float:
    return 2 * shared / (guessed + true) if guessed + true else 1.0
