"""Streamed text: joined it is the whole text, whatever the bytes and stop strings."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hanformer.decode import Greedy, Sample, TextStream, cut_at, stream, stream_text, table_prompt, table_step
from hanformer.errors import UserError
from tests.decode.oracle import END, decode, random_table


def bytes_text(tokens) -> str:
    return bytes(tokens).decode("utf-8", "replace")


texts = st.text(st.sampled_from("ab汉字😀\n\ufffd"), max_size=12)
stops = st.lists(st.text(st.sampled_from("ab汉\n"), min_size=1, max_size=3), max_size=3)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(texts, stops)
@example("a\na", ["\n", "a\na"])
def test_pieces_join_to_the_text_before_the_stop(text, strings) -> None:
    streamed, pieces = TextStream(bytes_text, strings), []
    for token in text.encode():
        pieces.append(streamed.push(token))
    pieces.append(streamed.finish())
    assert "".join(pieces) == cut_at(text, strings)
    assert streamed.stopped == (cut_at(text, strings) != text)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=12))
def test_broken_bytes_come_out_as_they_are_decoded(data) -> None:
    streamed = TextStream(bytes_text)
    assert "".join([*map(streamed.push, data), streamed.finish()]) == bytes_text(data)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(texts.filter(lambda text: "\ufffd" not in text))
def test_whole_characters_come_at_once_and_parts_never(text) -> None:
    streamed, given_out = TextStream(bytes_text), ""
    for character in text:
        *first, last = character.encode()
        assert all(streamed.push(byte) == "" for byte in first)
        given_out += streamed.push(last)
        assert given_out.endswith(character)


def test_a_decoder_that_changes_its_mind_is_waited_for() -> None:
    said = {1: "a", 2: "a ", 3: "ab", 4: "ab c"}
    streamed = TextStream(lambda tokens: said[len(tokens)])
    assert [streamed.push(0) for _ in range(4)] == ["a", " ", "", ""]
    said = {1: "a", 2: "b", 3: "abc"}
    streamed = TextStream(lambda tokens: said[len(tokens)])
    assert [streamed.push(0) for _ in range(3)] == ["a", "", "bc"]


@pytest.mark.parametrize("rule", [Greedy(), Sample(seed=5)], ids=repr)
@pytest.mark.parametrize("strings", [(), ("ca",), ("b",)])
def test_streamed_text_is_the_text_of_the_hypothesis(rule, strings) -> None:
    def letters(tokens) -> str:
        return "".join("_abcd"[token] for token in tokens)

    table = random_table(5, 1, 8)
    for start in range(1, 5):
        logits, state = table_prompt(table, [[start]])
        steps = stream(table_step(table), state, logits, rule=rule, end_id=END, maximum_length=9)
        [[plain]] = decode(table, [[start]], rule, 9, minimum_length=1)
        assert "".join(stream_text(steps, letters, strings)) == cut_at(letters(plain.tokens), strings)


def test_mistakes_are_refused() -> None:
    table = random_table(5, 1, 8)
    for prompts, rule in (([[1], [2]], Greedy()), ([[1]], Sample(samples=2))):
        logits, state = table_prompt(table, prompts)
        steps = stream(table_step(table), state, logits, rule=rule, end_id=END, maximum_length=9)
        with pytest.raises(UserError, match="expected one prompt and a rule of one path"):
            list(stream_text(steps, bytes_text))
    with pytest.raises(UserError, match="stop strings"):
        TextStream(bytes_text, [""])
