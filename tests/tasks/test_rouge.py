"""ROUGE and BLEU by character: values by hand, those of the packages that set the conventions, and properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.tasks.rouge import characters, common_subsequence, rouge_l, rouge_n, sentence_bleu

texts = st.text("今天气很好. Ab", max_size=12)

#: hypothesis, reference; ROUGE-1, -2, -L of rouge 1.0.0 and BLEU of nltk 3.10 (method 1), on "a b c" of the characters.
PUBLISHED = [
    (
        ("基于深度学习的文本分类", "深度学习文本分类方法研究"),
        (0.6956521689224953, 0.5714285664399092, 0.6956521689224953, 0.42846977766678973),
    ),
    (
        ("今天今天天气", "今天天气很好"),
        (0.6666666616666668, 0.5999999950000001, 0.7499999953125, 0.5081327481546147),
    ),
    (
        ("BERT模型3.5版", "bert 模型的3.5.1版本"),
        (0.8571428522448981, 0.6315789424930748, 0.8571428522448981, 0.45286827498680715),
    ),
    (("甲乙", "丙丁"), (0.0, 0.0, 0.0, 0.0)),
    (("好", "好"), (0.999999995, 0.0, 0.999999995, 0.1778279410038923)),
    (
        ("天天气气天", "气天天气"),
        (0.8888888839506174, 0.8571428522448981, 0.999999995, 0.316227766016838),
    ),
]


@pytest.mark.parametrize(("pair", "expected"), PUBLISHED)
def test_equals_the_packages(pair: tuple[str, str], expected: tuple[float, ...]) -> None:
    found = (rouge_n(*pair, 1), rouge_n(*pair, 2), rouge_l(*pair), sentence_bleu(*pair))
    assert found == pytest.approx(expected, abs=1e-12)


def test_by_hand() -> None:
    # 今 天 天 气 against 今 天 气: 3 of 4 and 3 of 3; bigrams 今天 and 天气: 2 of 3 and 2 of 2.
    assert rouge_n("今天天气", "今天气", 1) == pytest.approx(2 * 0.75 / 1.75)
    assert rouge_n("今天天气", "今天气", 2) == pytest.approx(2 * (2 / 3) / (5 / 3))
    # Different characters: all three on both sides.
    assert rouge_l("今天天气", "今天气") == pytest.approx(1)
    # Precisions 3/4, 2/3, 0.1/2 and 0.1/1, and no penalty for length.
    assert sentence_bleu("今天天气", "今天气") == pytest.approx((3 / 4 * 2 / 3 * 0.05 * 0.1) ** 0.25)
    # The same five characters of eight: the penalty alone is left, exp(1 - 8/5).
    assert sentence_bleu("今天气很好", "今天气很好不下雨") == pytest.approx(math.exp(1 - 8 / 5))


def test_white_space_and_case_count_for_nothing() -> None:
    assert characters(" A b\t\u3000今\n") == ["a", "b", "今"]
    assert sentence_bleu("A B今天", "ab 今天") == pytest.approx(1)


def lcs_length(first: str, second: str) -> int:
    if not first or not second:
        return 0
    if first[-1] == second[-1]:
        return 1 + lcs_length(first[:-1], second[:-1])
    return max(lcs_length(first[:-1], second), lcs_length(first, second[:-1]))


@given(st.text("天地人", max_size=6), st.text("天地人", max_size=6))
def test_common_subsequences_are_common_and_longest(first: str, second: str) -> None:
    found = common_subsequence(first, second)
    for text in (first, second):
        rest = iter(text)
        assert all(token in rest for token in found)
    assert len(found) == lcs_length(first, second)


@given(texts, texts)
def test_scores_lie_between_0_and_1(first: str, second: str) -> None:
    found = [rouge_n(first, second, 1), rouge_n(first, second, 2), rouge_l(first, second)]
    back = [rouge_n(second, first, 1), rouge_n(second, first, 2)]
    assert found[:2] == pytest.approx(back)
    scores = [*found, sentence_bleu(first, second)] if characters(second) else found
    assert all(0 <= score <= 1 for score in scores)
    if set(characters(first)) - {"."}:
        assert rouge_n(first, first, 1) == pytest.approx(1) == rouge_l(first, first)
