"""The bakeoff's rule against `diff` and brute force, entity figures against hand counts and seqeval."""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.data.files import lines
from hanformer.errors import UserError
from hanformer.tasks.tag.reading import Reading, Source
from hanformer.tasks.tag.scoring import (
    common_words,
    entity_table,
    score_entities,
    score_words,
    total_of,
    word_table,
)
from hanformer.tasks.tag.spans import TextSpan, cut_at

CUTS = st.sets(st.integers(1, 7)).map(lambda places: cut_at("aababaab", places))


def is_within(few: tuple[str, ...], many: list[str]) -> bool:
    rest = iter(many)
    return all(word in rest for word in few)


@given(CUTS, CUTS)
@settings(deadline=None, derandomize=True, max_examples=60)
def test_common_words_are_a_longest_common_subsequence(left: list[str], right: list[str]) -> None:
    kept = common_words(left, right)
    own = tuple(word for word, is_kept in zip(left, kept, strict=True) if is_kept)
    assert is_within(own, right)
    longer = combinations(left, len(own) + 1)
    assert not any(is_within(words, right) for words in longer)


@pytest.mark.skipif(shutil.which("diff") is None, reason="the script's own tool is missing")
def test_common_words_are_those_that_diff_keeps(tmp_path: Path) -> None:
    texts = ["共同创造美好的新世纪二○○一年新年贺词", "有有有有模有样有样有", "天地天地天天地地"]
    for number, text in enumerate(texts * 4):
        left = cut_at(text, range(0, len(text), 2 + number % 2))
        right = cut_at(text, range(1, len(text), 1 + number % 3))
        for name, words in (("left", left), ("right", right)):
            (tmp_path / name).write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
        said = subprocess.run(
            ["diff", "--minimal", "left", "right"], cwd=tmp_path, capture_output=True, check=False
        ).stdout.splitlines()
        assert sum(common_words(left, right)) == len(left) - sum(line.startswith(b"<") for line in said)


def test_words_are_counted_by_hand() -> None:
    gold = [["中国", "人民", "很", "好"], ["天地"]]
    found = [["中国人", "民", "很", "好"], ["天", "地"]]
    score = score_words(gold, found, {"很", "中国", "天地"})
    assert (score.words.gold, score.words.found, score.words.right) == (5, 6, 2)
    assert score.figures == {
        "precision": 2 / 6,
        "recall": 2 / 5,
        "f1": 4 / 11,
        "oov_rate": 2 / 5,
        "oov_recall": 1 / 2,
        "iv_recall": 1 / 3,
    }
    assert "36.36%" in word_table(score)
    with pytest.raises(UserError, match="as many texts"):
        score_words(gold, found[:1], ())


@given(st.lists(st.tuples(CUTS, CUTS), max_size=4), st.sets(st.sampled_from(["a", "b", "aa", "ab", "ba"])))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_known_and_unknown_words_are_all_words(pairs: list, known: set[str]) -> None:
    gold, found = [left for left, _ in pairs], [right for _, right in pairs]
    score = score_words(gold, found, known)
    assert score.words.gold == score.seen.gold + score.unseen.gold == sum(map(len, gold))
    assert score.unseen.gold == sum(word not in known for words in gold for word in words)
    assert score.words.right == score.seen.right + score.unseen.right <= score.words.found
    swapped = score_words(found, gold, known)
    assert swapped.words.right == score.words.right and swapped.words.precision == score.words.recall
    assert score_words(gold, gold, known).words.f1 == (1.0 if gold else 0.0)


def longest_match(text: str, known: frozenset[str], longest: int) -> list[str]:
    """The baseline of the bakeoff: always the longest word of the training words."""
    words: list[str] = []
    while text:
        sizes = range(min(longest, len(text)), 1, -1)
        size = next((size for size in sizes if text[:size] in known), 1)
        words.append(text[:size])
        text = text[size:]
    return words


@pytest.mark.skipif("HANFORMER_DATA" not in os.environ, reason="HANFORMER_DATA names no folder")
def test_the_published_figures_of_longest_match_come_out() -> None:
    """What is known of PKU: 104,372 words, 112,281 found, R .907, P .843, F .874, OOV .058, R_oov .069, R_iv .958."""
    folder = Path(os.environ["HANFORMER_DATA"]) / "segmentation/sighan2005/gold"
    source = Source(folder / "pku_test_gold.utf8.gz")
    gold = [text.words for text in Reading("segmentation").texts(source)]
    known = frozenset(word.strip() for word in lines(folder / "pku_training_words.utf8.gz"))
    longest = max(map(len, known))
    found = [longest_match("".join(words), known, longest) for words in gold]
    score = score_words(gold, found, known)
    assert (score.words.gold, score.words.found) == (104_372, 112_281)
    assert [round(value, 3) for value in score.figures.values()] == [0.843, 0.907, 0.874, 0.058, 0.069, 0.958]


def span(said: str) -> TextSpan:
    kind, start, end = said.split()
    return TextSpan(kind, int(start), int(end))


def test_entities_are_counted_by_hand() -> None:
    gold = [[span("PER 0 2"), span("LOC 3 5")], [span("PER 0 1")], []]
    found = [[span("PER 0 2"), span("PER 3 5")], [span("PER 0 2")], [span("ORG 0 1"), span("ORG 0 1")]]
    counts = score_entities(gold, found)
    assert list(counts) == ["LOC", "ORG", "PER"]
    assert [(c.gold, c.found, c.right) for c in counts.values()] == [(1, 0, 0), (0, 1, 0), (2, 3, 1)]
    total = total_of(counts)
    assert (total.precision, total.recall, total.f1) == (1 / 4, 1 / 3, 2 / 7)
    assert entity_table(counts).splitlines()[-1].split() == [
        "all",
        "types",
        "25.00%",
        "33.33%",
        "28.57%",
        "3",
    ]
    assert total_of(score_entities([[]], [[]])).f1 == 0.0
    with pytest.raises(UserError, match="as many texts"):
        score_entities(gold, found[:1])


SPANS = st.sets(st.sampled_from([TextSpan(kind, place, place + 1) for kind in "XY" for place in range(4)]))


def tags_of(spans: set[TextSpan]) -> list[str]:
    kinds = {span.start: span.kind for span in spans}
    return [f"B-{kinds[place]}" if place in kinds else "O" for place in range(4)]


@given(st.lists(st.tuples(SPANS, SPANS), min_size=1, max_size=4))
@settings(deadline=None, derandomize=True, max_examples=15)
def test_entity_figures_agree_with_seqeval(pairs: list) -> None:
    seqeval = pytest.importorskip("seqeval.metrics")
    tags = [(tags_of(left), tags_of(right)) for left, right in pairs]
    gold, found = (
        [[TextSpan(tag[2:], place, place + 1) for place, tag in enumerate(row) if tag != "O"] for row in side]
        for side in zip(*tags, strict=True)
    )
    total = total_of(score_entities(gold, found))
    left, right = [list(side) for side in zip(*tags, strict=True)]
    assert total.precision == pytest.approx(seqeval.precision_score(left, right, zero_division=0))
    assert total.recall == pytest.approx(seqeval.recall_score(left, right, zero_division=0))
    assert total.f1 == pytest.approx(seqeval.f1_score(left, right, zero_division=0))
