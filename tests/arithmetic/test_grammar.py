"""The grammars against brute force: exactly the well-formed expressions, and every begun path can be closed."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest

from hanformer.arithmetic.grammar import Grammar, InfixGrammar, Operands, PrefixGrammar
from hanformer.errors import UserError

# Token ids: 0 end, 1 and 2 operators, 3 "(", 4 ")", 5 to 7 digits.
END, PLUS, TIMES, OPEN, CLOSE = range(5)
SINGLE = Operands(frozenset({(5,), (6,)}))
DIGITS = Operands(frozenset({(5,), (5, 6), (6, 6, 7)}))
PREFIX = PrefixGrammar(frozenset({PLUS, TIMES}), END)
INFIX = InfixGrammar(frozenset({PLUS, TIMES}), END, OPEN, CLOSE)


def accepted(grammar: Grammar, operands: Operands, length: int) -> set[tuple[int, ...]]:
    """All paths of the automaton, end included; every one must end within `length`."""
    done: set[tuple[int, ...]] = set()
    waiting = [((), grammar.start(operands, length))]
    while waiting:
        path, state = waiting.pop()
        allowed = grammar.allowed(state)
        assert allowed, f"a dead end after {path}"
        for token in allowed:
            if token == END:
                done.add((*path, END))
            else:
                waiting.append(((*path, token), grammar.advance(state, token)))
    assert all(len(path) <= length for path in done)
    return done


def is_prefix(tokens: tuple[int, ...]) -> bool:
    owed = 1
    for token in tokens:
        if not owed or token in (OPEN, CLOSE):
            return False
        owed += 1 if token in (PLUS, TIMES) else -1
    return owed == 0


def infix_end(tokens: tuple[int, ...], place: int, operands: Operands) -> set[int]:
    """Places where an expression that begins at `place` may end: a recogniser by its definition."""
    starts = set()
    for operand in operands.sequences:
        if tokens[place : place + len(operand)] == operand:
            starts.add(place + len(operand))
    if place < len(tokens) and tokens[place] == OPEN:
        inner = infix_end(tokens, place + 1, operands)
        starts |= {end + 1 for end in inner if end < len(tokens) and tokens[end] == CLOSE}
    ends = set(starts)
    for end in starts:
        if end < len(tokens) and tokens[end] in (PLUS, TIMES):
            ends |= infix_end(tokens, end + 1, operands)
    return ends


def test_prefix_grammar_is_the_set_of_prefix_expressions() -> None:
    length = 6
    expected = {
        (*tokens, END)
        for size in range(1, length)
        for tokens in product((PLUS, TIMES, 5, 6), repeat=size)
        if is_prefix(tokens)
    }
    assert accepted(PREFIX, SINGLE, length) == expected


@pytest.mark.parametrize("operands", [SINGLE, DIGITS])
def test_infix_grammar_is_the_set_of_infix_expressions(operands: Operands) -> None:
    length = 7
    alphabet = (PLUS, TIMES, OPEN, CLOSE, *sorted({digit for s in operands.sequences for digit in s}))
    expected = {
        (*tokens, END)
        for size in range(1, length)
        for tokens in product(alphabet, repeat=size)
        if size in infix_end(tokens, 0, operands)
    }
    assert accepted(INFIX, operands, length) == expected


@pytest.mark.parametrize("grammar", [PREFIX, INFIX])
def test_random_paths_always_end(grammar: Grammar) -> None:
    random = Random(0)
    operands = SINGLE if grammar is PREFIX else DIGITS
    for length in (2, 3, 4, 9, 40):
        if grammar is INFIX and length < operands.shortest + 1:
            continue
        for _ in range(50):
            state, written = grammar.start(operands, length), 0
            while True:
                token = random.choice(list(grammar.allowed(state)))
                written += 1
                if token == END:
                    break
                state = grammar.advance(state, token)
            assert written <= length


def test_states_are_hashable_and_equal_for_equal_operands() -> None:
    again = Operands(frozenset({(6,), (5,)}))
    assert hash(PREFIX.start(SINGLE, 9)) == hash(PREFIX.start(again, 9))
    assert PREFIX.start(SINGLE, 9) == PREFIX.start(again, 9)


def test_no_operand_and_no_room_are_refused() -> None:
    with pytest.raises(UserError, match="no number"):
        PREFIX.start(Operands(frozenset()), 9)
    with pytest.raises(UserError, match="at least 2 tokens"):
        INFIX.start(SINGLE, 1)
