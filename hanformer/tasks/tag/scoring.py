"""How good found spans are: the bakeoff's rule for words, micro-averaged F1 for entities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass

from hanformer.errors import UserError
from hanformer.tasks.tag.spans import TextSpan


@dataclass(frozen=True)
class Counts:
    """How many there are, how many were found, and how many of these are right.

    标注数、预测数与正确数。
    """

    gold: int = 0
    found: int = 0
    right: int = 0

    @property
    def precision(self) -> float:
        """right / found, 0 where nothing was found."""
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """right / gold, 0 where there is nothing to find."""
        return self.right / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        """2 right / (gold + found)."""
        total = self.gold + self.found
        return 2 * self.right / total if total else 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.gold + other.gold, self.found + other.found, self.right + other.right)


@dataclass(frozen=True)
class WordScore:
    """All words, and those that the training words have not (`unseen`) and have (`seen`); `found` counts for all only.

    分词得分：全部词、未登录词与登录词。
    """

    words: Counts
    unseen: Counts
    seen: Counts

    @property
    def figures(self) -> dict[str, float]:
        """precision, recall, f1, oov_rate, oov_recall, iv_recall."""
        rate = self.unseen.gold / self.words.gold if self.words.gold else 0.0
        return {
            "precision": self.words.precision,
            "recall": self.words.recall,
            "f1": self.words.f1,
            "oov_rate": rate,
            "oov_recall": self.unseen.recall,
            "iv_recall": self.seen.recall,
        }


def score_words(
    gold: Sequence[Sequence[str]], found: Sequence[Sequence[str]], known: Container[str]
) -> WordScore:
    """The scoring rule of the SIGHAN bakeoffs: a word is right where `diff` of the two lists of words keeps it.

    SIGHAN 评测规则：两个词序列最长公共子序列中的词算作正确；另计未登录词与登录词的召回率。

    precision = common / found, recall = common / gold; recall of gold words outside and inside the training words
    `known`. A word counts by what it is and not by where it stands: in rare ties it may be kept at another place.
    The script's own `diff`, which is not asked to be minimal, misses a few of the words that could be kept.
    Raises UserError for another number of texts. Source: Emerson, The Second International Chinese Word Segmentation
    Bakeoff, 2005.
    """
    if len(gold) != len(found):
        raise UserError(f"score_words: expected as many texts as there are, {len(gold)}, got {len(found)}")
    totals: Counter[tuple[bool, bool]] = Counter()
    for words, others in zip(gold, found, strict=True):
        kept = common_words(words, others)
        totals.update((word in known, right) for word, right in zip(words, kept, strict=True))
    seen = Counts(totals[True, True] + totals[True, False], 0, totals[True, True])
    unseen = Counts(totals[False, True] + totals[False, False], 0, totals[False, True])
    return WordScore(seen + unseen + Counts(0, sum(map(len, found)), 0), unseen, seen)


def common_words(left: Sequence[str], right: Sequence[str]) -> list[bool]:
    """Which words of `left` a longest common subsequence of both keeps. 最长公共子序列保留了哪些词。"""
    head = _alike(left, right)
    tail = _alike(left[head:][::-1], right[head:][::-1])
    kept = _kept(left[head : len(left) - tail], right[head : len(right) - tail])
    return [True] * head + kept + [True] * tail


def _alike(left: Sequence[str], right: Sequence[str]) -> int:
    """How many words from the start are equal."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(left), len(right)))


def _kept(left: Sequence[str], right: Sequence[str]) -> list[bool]:
    # longest[i][j]: of left[i:] and right[j:].
    longest = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i in range(len(left) - 1, -1, -1):
        row, below, word = longest[i], longest[i + 1], left[i]
        for j in range(len(right) - 1, -1, -1):
            row[j] = below[j + 1] + 1 if word == right[j] else max(below[j], row[j + 1])
    kept = [False] * len(left)
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i] == right[j]:
            kept[i] = True
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return kept


def score_entities(
    gold: Sequence[Sequence[TextSpan]], found: Sequence[Sequence[TextSpan]]
) -> dict[str, Counts]:
    """The counts of each kind, sorted by name: an entity is right where kind, start and end are.

    各类型的实体计数：类型与起止位置都相同才算正确。

    The sum of all (`total_of`) gives the micro-averaged figures, as seqeval has them. An entity that is named twice
    counts once. Raises UserError for another number of texts.
    """
    if len(gold) != len(found):
        raise UserError(f"score_entities: expected as many texts as there are, {len(gold)}, got {len(found)}")
    counts: dict[str, Counts] = {}
    for wanted, others in zip(map(set, gold), map(set, found), strict=True):
        for spans, one in ((wanted, Counts(1)), (others, Counts(0, 1)), (wanted & others, Counts(0, 0, 1))):
            for span in spans:
                counts[span.kind] = counts.get(span.kind, Counts()) + one
    return dict(sorted(counts.items()))


def total_of(counts: dict[str, Counts]) -> Counts:
    """All kinds together. 合计。"""
    return sum(counts.values(), Counts())


def entity_table(counts: dict[str, Counts]) -> str:
    """Precision, recall, F1 and number of each kind, and of all. 各类型得分表。"""
    width = max(len("all types"), *(len(kind) for kind in counts), 0)
    lines = [f"{'':{width}}  precision  recall      F1  entities"]
    for kind, found in [*counts.items(), ("all types", total_of(counts))]:
        lines.append(
            f"{kind:{width}}  {found.precision:9.2%} {found.recall:7.2%} {found.f1:7.2%} {found.gold:9,}"
        )
    return "\n".join(lines)


def word_table(score: WordScore) -> str:
    """The bakeoff's figures as two lines. 分词得分表。"""
    names = ("precision", "recall", "F1", "OOV rate", "OOV recall", "IV recall")
    values = "".join(f"{value:>12.2%}" for value in score.figures.values())
    return "".join(f"{name:>12}" for name in names) + "\n" + values
