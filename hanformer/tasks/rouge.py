"""ROUGE and BLEU of one text, character by character, as Chinese generation is scored with bert4keras.

按字计算的 ROUGE 与 BLEU，与 bert4keras 系列文章的评测约定一致。

The conventions are those of the packages `rouge` 1.0.0 and `nltk` (smoothing method 1) on lower-case characters.
Source: kexue.fm/archives/7867; Lin 2004, ROUGE; Papineni et al. 2002, BLEU; Chen and Cherry 2014 (smoothing).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

#: Added by the packages where a divisor could be zero.
_TINY = 1e-8
#: What smoothing method 1 counts in the place of no match at all.
_SMOOTH = 0.1


def characters(text: str) -> list[str]:
    """The characters of a text in lower case, white space left out. 小写、去空白后的字符。"""
    return [character for character in text.lower() if not character.isspace()]


def rouge_n(hypothesis: str, reference: str, size: int) -> float:
    """F of n-grams of characters, each counted as often as it occurs; 0 where there is none.

    ROUGE-N 的 F 值。

        P = matches / n-grams of the hypothesis,  R = matches / n-grams of the reference,  F = 2 P R / (P + R)

    As in the package a full stop "." counts for nothing.
    """
    ours, theirs = (_ngrams(_without_stops(text), size) for text in (hypothesis, reference))
    return _f(sum((ours & theirs).values()), ours.total(), theirs.total())


def rouge_l(hypothesis: str, reference: str) -> float:
    """F of the longest common subsequence, every different character counted once; 0 where there is none.

    ROUGE-L 的 F 值（按不同字符计数，摘要级）。

    As in the package texts are cut into sentences at full stops ".", and each sentence of the reference gathers its
    common subsequences with all sentences of the hypothesis.
    """
    ours, theirs = _sentences(hypothesis), _sentences(reference)
    matched = {token for own in theirs for other in ours for token in common_subsequence(own, other)}
    counts = (len({token for sentence in side for token in sentence}) for side in (ours, theirs))
    return _f(len(matched), *counts)


def _f(matches: int, ours: int, theirs: int) -> float:
    if not ours or not theirs:
        return 0.0
    precision, recall = matches / ours, matches / theirs
    return 2 * precision * recall / (precision + recall + _TINY)


def _ngrams(tokens: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[place : place + size]) for place in range(len(tokens) - size + 1))


def _sentences(text: str) -> list[list[str]]:
    return [found for part in text.split(".") if (found := characters(part))]


def _without_stops(text: str) -> list[str]:
    return [token for sentence in _sentences(text) for token in sentence]


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """One longest common subsequence; of several, the one that goes back in the second text first.

    最长公共子序列（与 rouge 包的取法一致）。
    """
    lengths = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, one in enumerate(first, start=1):
        above, own = lengths[i - 1], lengths[i]
        for j, other in enumerate(second, start=1):
            own[j] = above[j - 1] + 1 if one == other else max(above[j], own[j - 1])
    found, i, j = [], len(first), len(second)
    while i and j:
        if first[i - 1] == second[j - 1]:
            found.append(first[i - 1])
            i, j = i - 1, j - 1
        elif lengths[i - 1][j] > lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found[::-1]


def sentence_bleu(hypothesis: str, reference: str, longest: int = 4) -> float:
    """BLEU of one text with smoothing method 1; 0 where no character matches.

    单句 BLEU（平滑方法一）。

        BLEU = BP * (prod_n p_n)^(1/4),  p_n = max(matches_n, 0.1) / n-grams_n,  BP = min(1, exp(1 - r / h))
    """
    ours, theirs = characters(hypothesis), characters(reference)
    logs = []
    for size in range(1, longest + 1):
        own = _ngrams(ours, size)
        matches = sum((own & _ngrams(theirs, size)).values())
        if size == 1 and not matches:
            return 0.0
        logs.append(math.log((matches or _SMOOTH) / max(1, own.total())))
    brevity = min(0.0, 1 - len(theirs) / len(ours))
    return math.exp(brevity + sum(logs) / longest)
