"""Regular expressions: the language of Python's `re` (ASCII classes), and token by token what brute force allows."""

from __future__ import annotations

import itertools
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.decode import AutomatonConstraint, Beam, Greedy, Pattern, Sample
from hanformer.decode.pattern import CharacterAutomaton
from hanformer.decode.pattern_syntax import LAST, complement
from hanformer.errors import UserError
from tests.decode.oracle import END, decode, random_table

TEXTS = [None, "a", "b", "ab", "ba", "1", "aab", "", "b1"]
LETTERS = "ab1"
STRINGS = ["".join(s) for n in range(6) for s in itertools.product(LETTERS, repeat=n)]
EXPRESSIONS = [
    "",
    "a",
    "a*",
    "(ab)+1?",
    "(?:a|b1)*",
    "a{2}b{1,2}",
    "[ab]{0,3}",
    "[^a]+",
    r"\d|\w{2}",
    "(a*)*b",
    "(a|)(b|)1{2,}",
    ".*1.",
    r"[\da]b?",
    "((a|b)(1|b)?){2}",
    "a|",
    "(a{0}b)+",
    "(a?){3}",
    "[a-b]*1",
]

leaves = st.sampled_from(["a", "b", "1", ".", "[ab]", "[^b]", r"\d", "(ab|1)"])
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}"])).map(
            lambda pair: f"({pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=6,
)


def accepts(automaton: CharacterAutomaton, text: str) -> bool:
    state = automaton.start
    for character in text:
        state = automaton.move(state, character)
    return automaton.matches(state)


def language(expression: str) -> set[str]:
    compiled = re.compile(expression, re.ASCII)
    return {text for text in STRINGS if compiled.fullmatch(text)}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_is_the_language_of_re(expression) -> None:
    automaton = CharacterAutomaton(expression)
    assert {text for text in STRINGS if accepts(automaton, text)} == language(expression)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(trees)
def test_random_expressions_are_the_language_of_re(expression) -> None:
    automaton = CharacterAutomaton(expression)
    assert {text for text in STRINGS if accepts(automaton, text)} == language(expression)


@pytest.mark.parametrize("expression", [e for e in EXPRESSIONS if e])
def test_a_token_is_allowed_exactly_where_some_text_completes_it(expression) -> None:
    pattern = Pattern(expression, TEXTS, END)
    whole = [text for text in STRINGS if accepts(pattern.characters, text)]
    for sequence in itertools.product([1, 2, 3, 5], repeat=2):
        state, text = pattern.start, ""
        for token in sequence:
            expected = {
                t for t, piece in enumerate(TEXTS) if piece and any(w.startswith(text + piece) for w in whole)
            }
            found = set(pattern.allowed(state)) - {END}
            # A completion may be longer than the strings that were tried.
            assert expected <= found
            assert all(not piece or t in found or t not in expected for t, piece in enumerate(TEXTS))
            assert (END in pattern.allowed(state)) == (text in whole)
            if token not in found:
                break
            state, text = pattern.advance(state, token), text + TEXTS[token]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(trees, st.sampled_from([Greedy(), Beam(3, 3), Sample(samples=4)]), st.integers(0, 99))
def test_what_is_generated_matches(expression, rule, seed) -> None:
    pattern = Pattern(expression, TEXTS, END)
    constraint = AutomatonConstraint(pattern, [pattern.start], len(TEXTS))
    table = random_table(len(TEXTS), 1, seed)
    for hypothesis in decode(table, [[1]], rule, 8, constraint=constraint, minimum_length=0)[0]:
        text = "".join(TEXTS[token] for token in hypothesis.tokens)
        if hypothesis.finished:
            assert re.fullmatch(expression, text, re.ASCII)


def test_chinese_and_named_classes() -> None:
    automaton = CharacterAutomaton(r"[一-龥]{2,4}，\s[^\s]+\n\.")
    assert accepts(automaton, "中文， x1\n.") and not accepts(automaton, "中， x1\n.")
    automaton = CharacterAutomaton(r"[]a\]-]+")
    assert accepts(automaton, "]a-") and not accepts(automaton, "b")


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)).map(sorted).map(tuple), max_size=5))
def test_complement_holds_every_other_code_point(ranges) -> None:
    others = complement(tuple(ranges))
    for code in [*range(60), LAST]:
        inside = any(first <= code <= last for first, last in ranges)
        assert inside != any(first <= code <= last for first, last in others)


def test_hostile_expressions_take_no_time() -> None:
    start = time.process_time()
    assert not accepts(CharacterAutomaton("(a*)*" * 20 + "b"), "a" * 2000)
    assert not accepts(CharacterAutomaton("(a|a)*" * 5 + "b"), "a" * 2000)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "expression",
    [
        "(a",
        "a)",
        "[a",
        "[b-a]",
        r"[\d-z]",
        r"[^\s\S]",
        "*a",
        "a**",
        "a*?",
        "^a$",
        r"(a)\1",
        "(?=a)",
        "(?P<x>a)",
        "a{2,1}",
        "a{x}",
        "a{1001}",
        "a{2",
        "\\",
        "(" * 60 + ")" * 60,
        "((a{1000}){1000}){1000}",
    ],
)
def test_what_is_not_supported_is_refused_with_its_place(expression) -> None:
    with pytest.raises(UserError, match="regular expression"):
        CharacterAutomaton(expression)


def test_a_vocabulary_that_cannot_spell_the_match_is_a_clear_error() -> None:
    pattern = Pattern("zz", TEXTS, END)
    constraint = AutomatonConstraint(pattern, [pattern.start], len(TEXTS))
    with pytest.raises(UserError, match="every token is forbidden"):
        decode(random_table(len(TEXTS), 1, 0), [[1]], Greedy(), 4, constraint=constraint)
