"""Brackets, splitting, branching, scoring and drawing of trees."""

from __future__ import annotations

from random import Random
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.parsing.brackets import Brackets
from hanformer.parsing.branching import BASELINES, at_random, balanced, left, right
from hanformer.parsing.drawing import as_svg, as_text
from hanformer.parsing.scoring import CONVENTIONS, most_possible, parts_of, unlabelled_f1
from hanformer.parsing.splitting import RULES, tree_of

WORDS = tuple("abcdefgh")
distances = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=12)


def by_definition(words: list[str], depths: list[float]) -> Any:
    """The published rule as it is written down, lists inside lists."""
    if len(words) < 2:
        return words[0] if words else None
    place = depths.index(max(depths))
    before = by_definition(words[:place], depths[:place])
    after = by_definition(words[place + 1 :], depths[place + 1 :])
    node = words[place] if after is None else [words[place], after]
    return node if before is None else [before, node]


@pytest.mark.parametrize(
    ("words", "depths", "expected"),
    [
        ("abcde", [0.9, 0.2, 0.6, 0.1, 0.5], ["a", ["b", ["c", ["d", "e"]]]]),
        ("abc", [0.1, 0.2, 0.3], [["a", "b"], "c"]),
        ("abc", [0.3, 0.2, 0.1], ["a", ["b", "c"]]),
        ("a", [0.5], ["a"]),
    ],
)
def test_the_published_trees(words: str, depths: list[float], expected: Any) -> None:
    assert tree_of(list(words), depths).nested() == expected


@given(distances)
@settings(deadline=None, derandomize=True)
def test_the_published_rule_is_its_definition(depths: list[float]) -> None:
    words = [f"w{place}" for place in range(len(depths))]
    tree = tree_of(words, depths)
    expected = by_definition(words, depths)
    assert tree.nested() == (expected if isinstance(expected, list) else [expected])


@given(distances, st.sampled_from(sorted(RULES)))
@settings(deadline=None, derandomize=True)
def test_every_tree_is_binary_and_keeps_the_words_in_order(depths: list[float], rule: str) -> None:
    words = [f"w{place}" for place in range(len(depths))]
    tree = tree_of(words, depths, rule)
    assert tree.is_binary and tree.text().replace("(", "").replace(")", "").split() == words
    assert all(len(parts) == 2 for parts in parts_of(tree).values())


def test_rising_and_falling_distances_branch_to_one_side_by_both_rules() -> None:
    for rule in RULES:
        assert tree_of(WORDS, range(8), rule) == left(WORDS)
        assert tree_of(WORDS, range(8, 0, -1), rule) == right(WORDS)


def test_only_the_published_rule_leans_to_the_right() -> None:
    """Distances by chance: the unbiased rule makes as many trees that begin with a word as trees that end with one."""
    random, sides = Random(3), {rule: [0, 0] for rule in RULES}
    for _ in range(600):
        depths = [random.random() for _ in WORDS]
        for rule, counts in sides.items():
            spans = tree_of(WORDS, depths, rule).spans
            counts[0] += (0, 7) in spans
            counts[1] += (1, 8) in spans
    assert sides["paper"][1] > 1.5 * sides["paper"][0]
    assert 0.75 < sides["unbiased"][1] / sides["unbiased"][0] < 1.33


def test_long_sentences_need_no_recursion() -> None:
    words = [str(number) for number in range(1200)]
    tree = tree_of(words, list(range(1200)))
    assert tree.is_binary and len(tree.text()) > 1200 and as_text(balanced(words[:200])).count("\n") == 199


def test_what_is_no_tree_is_refused() -> None:
    with pytest.raises(UserError, match="inside each other"):
        Brackets(("a", "b", "c"), frozenset({(0, 2), (1, 3)}))
    with pytest.raises(UserError, match="at least two of 2 words"):
        Brackets(("a", "b"), frozenset({(1, 2)}))
    for depths, message in (([1.0], "got 1 for 2 words"), ([float("nan"), 1.0], "NaN")):
        with pytest.raises(UserError, match=message):
            tree_of(["a", "b"], depths)
    with pytest.raises(UserError, match="rule: expected one of paper, unbiased"):
        tree_of(["a"], [1.0], "best")
    with pytest.raises(UserError, match="got 0 for 0 words"):
        tree_of([], [])


def test_the_baselines_branch_as_they_say() -> None:
    assert left("abcd").text() == "(((a b) c) d)" and right("abcd").text() == "(a (b (c d)))"
    assert balanced("abcde").text() == "((a b) (c (d e)))"
    assert at_random(1)(WORDS) == at_random(1)(WORDS) != at_random(2)(WORDS)
    assert all(guess(WORDS).is_binary and not guess("a").spans for guess in BASELINES.values())


def test_f1_by_hand_in_every_convention() -> None:
    """Gold (a (b c) d) against ((a b) c d)... as a binary guess ((a (b c)) d); and a flat gold tree."""
    gold = [Brackets.of("abcd", [(1, 3)]), Brackets.of("ab", []), Brackets.of("a", [])]
    guess = [Brackets.of("abcd", [(0, 3), (1, 3)]), Brackets.of("ab", []), Brackets.of("a", [])]
    counted = unlabelled_f1(gold, guess)
    assert counted.count == 2  # a single word has nothing to bracket
    assert counted.corpus == pytest.approx(100 * 2 * 3 / (4 + 3))
    assert counted.sentences == pytest.approx(100 * (2 * 2 / (3 + 2) + 1) / 2)
    excluded = unlabelled_f1(gold, guess, "excluded")
    assert excluded.corpus == pytest.approx(100 * 2 * 1 / (2 + 1))
    assert excluded.sentences == pytest.approx(100 * (2 / 3 + 1) / 2)
    flat, split = [Brackets.of("abc", [])], [right("abc")]
    assert unlabelled_f1(flat, split, "excluded").sentences == 100
    assert unlabelled_f1(flat, split, "authors").sentences == 0
    assert unlabelled_f1(flat, flat, "authors").sentences == 100


@given(distances.filter(lambda depths: len(depths) > 1), st.sampled_from(CONVENTIONS))
@settings(deadline=None, derandomize=True)
def test_a_tree_against_itself_scores_all(depths: list[float], convention: str) -> None:
    tree = tree_of([f"w{place}" for place in range(len(depths))], depths)
    score = unlabelled_f1([tree], [tree], convention)
    assert score.corpus == score.sentences == 100


@given(st.data())
@settings(deadline=None, derandomize=True, max_examples=40)
def test_no_binary_tree_scores_more_than_the_bound(data: st.DataObject) -> None:
    """The bound holds every gold bracket and is binary, and brute force finds nothing better."""
    whole = tree_of(WORDS[:5], data.draw(st.permutations(range(5))), "unbiased")
    gold = Brackets.of(whole.words, data.draw(st.sets(st.sampled_from(sorted(whole.spans)))))
    (bound,) = most_possible([gold])
    assert bound.is_binary and gold.spans <= bound.spans
    best = unlabelled_f1([gold], [bound]).corpus
    for seed in range(30):
        assert unlabelled_f1([gold], [at_random(seed)(gold.words)]).corpus <= best + 1e-9


def test_scores_that_mean_nothing_are_refused() -> None:
    with pytest.raises(UserError, match="same sentences"):
        unlabelled_f1([left("ab")], [left("ac")])
    with pytest.raises(UserError, match="at least two words"):
        unlabelled_f1([left("a")], [left("a")])
    with pytest.raises(UserError, match="convention: expected one of counted"):
        unlabelled_f1([left("ab")], [left("ab")], "mine")


def test_a_tree_in_a_terminal() -> None:
    tree = tree_of(["苹果", "的", "颜色", "是", "什么"], [0.1, 0.2, 0.6, 0.1, 0.9])
    assert as_text(tree).splitlines() == [
        "─┬─┬─┬─ 苹果",
        " │ │ └─ 的",
        " │ └─┬─ 颜色",
        " │   └─ 是",
        " └─ 什么",
    ]
    assert as_text(Brackets.of("a", [])) == "a"
    assert as_text(Brackets.of("abc", [])) == "─┬─ a\n ├─ b\n └─ c"


@given(distances, st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=3))
@settings(deadline=None, derandomize=True, max_examples=40)
def test_a_picture_holds_every_word_and_every_bracket(depths: list[float], word: str) -> None:
    tree = tree_of([word] * len(depths), depths)
    assert len(as_text(tree).split("\n")) == len(depths)
    root = ElementTree.fromstring(as_svg(tree))
    space = "{http://www.w3.org/2000/svg}"
    assert [text.text for text in root.iter(f"{space}text")] == [word] * len(depths)
    assert len(list(root.iter(f"{space}path"))) == 2 * len(tree.spans)
    places = [float(text.get("x", "")) for text in root.iter(f"{space}text")]
    assert places == sorted(places) and len(set(places)) == len(places)
