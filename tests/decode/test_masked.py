"""Masked decoding: brute force from the definition, the vote over passages, and real encoders."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hanformer.decode.masked import Answer, MaskedReading, agreed, extract, read_masked, vote
from hanformer.errors import UserError
from tests.harness import random_model, tiny_config
from tests.similarity.tiny import tiny_t5

SIZE, END = 6, 2
tokens = st.integers(0, SIZE - 1).filter(lambda token: token != END)
passages = st.lists(tokens, max_size=9)
tables = st.lists(
    st.lists(st.integers(0, 9), min_size=SIZE, max_size=SIZE).filter(any), min_size=1, max_size=5
)


def by_definition(table: list[list[float]], passage: list[int]) -> Answer:
    """The rule of the post, with sub-lists instead of an automaton."""
    found, total, steps = [], 0.0, 0
    for row in table:
        places = range(len(passage) - len(found))
        following = {passage[a + len(found)] for a in places if passage[a : a + len(found)] == found}
        best = max(sorted({*following, END}), key=lambda token: row[token])
        total, steps = total + row[best], steps + 1
        if best == END:
            break
        found.append(best)
    return Answer(tuple(found), total / steps)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(tables, passages)
def test_equals_the_definition_and_stays_in_the_passage(counts, passage) -> None:
    table = [[count / sum(row) for count in row] for row in counts]
    found = extract(torch.tensor(table, dtype=torch.float64), passage, END)
    expected = by_definition(table, passage)
    assert found.tokens == expected.tokens and found.score == pytest.approx(expected.score)
    whole = list(found.tokens)
    assert any(passage[a : a + len(whole)] == whole for a in range(len(passage) + 1))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(tokens, min_size=3, max_size=8), st.data())
def test_a_certain_span_comes_out_with_score_one(passage, data) -> None:
    start = data.draw(st.integers(0, len(passage) - 2))
    span = passage[start : start + data.draw(st.integers(1, 2))]
    slots = torch.nn.functional.one_hot(torch.tensor([*span, END, 0, 0]), SIZE).double()
    assert extract(slots, passage, END) == Answer(tuple(span), 1.0)


def test_votes_by_hand() -> None:
    assert agreed([0.5]) == pytest.approx(0.25 / 1.5)
    assert agreed([0.9, 0.9]) > agreed([0.95]) and agreed([]) == 0
    answers = [Answer((5,), 0.95), Answer((), 1.0), Answer((3, 4), 0.9), Answer((3, 4), 0.8)]
    assert vote(answers) == Answer((3, 4), pytest.approx(1.45 / 2.7))
    assert vote(answers[:2]) == Answer((5,), pytest.approx(0.95**2 / 1.95))
    assert vote([Answer((), 1.0)]) == vote([]) == Answer((), 0.0)


def test_answers_with_the_same_text_vote_together() -> None:
    answers = [Answer((1,), 0.6), Answer((2,), 0.7), Answer((3,), 0.8)]
    assert vote(answers).tokens == (3,)
    assert vote(answers, lambda tokens: tokens[0] < 3).tokens == (2,)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=6), st.floats(0, 0.5))
def test_what_is_surer_counts_more(scores, more) -> None:
    """One score alone; all scores together; and one more passage that is as sure as the surest."""
    best = max(scores)
    assert agreed([best + more]) >= agreed([best])
    assert agreed([score * (1 + more) for score in scores]) >= agreed(scores)
    assert agreed([*scores, best]) >= agreed(scores)


READING = MaskedReading(cls_id=1, sep_id=2, mask_id=3, slots=3, question_length=4, passage_length=6)


def test_layout_of_a_row() -> None:
    assert READING.row([7, 8], [9, 10]) == [1, 3, 3, 3, 2, 7, 8, 2, 9, 10, 2]
    cut = READING.row([4, 5, 6, 7, 8], list(range(10, 20)))
    assert cut == [1, 3, 3, 3, 2, 4, 5, 6, 2, 10, 11, 12, 13, 14, 2]


def test_a_model_reads_every_passage_as_alone() -> None:
    model = random_model(tiny_config())
    question, texts = [7, 8], [[9, 10, 11, 9], [12], [13, 14, 15, 16, 17, 18, 19, 20], []]
    found = read_masked(model, question, texts, READING)
    for text, answer in zip(texts, found, strict=True):
        row = torch.tensor([READING.row(question, text)])
        chances = model(row).lm_logits[0, 1:4].softmax(-1).detach()
        expected = extract(chances, text[:5], 2)
        assert answer.tokens == expected.tokens and answer.score == pytest.approx(expected.score)
    assert found[-1].tokens == () and any(answer.tokens for answer in found)
    assert read_masked(model, question, [], READING) == []


def test_a_trained_encoder_finds_its_spans() -> None:
    model = random_model(tiny_config(layers=1), dtype=torch.float32)
    texts = [[5, 6, 7, 8, 9], [10, 11, 12, 13, 14]]
    spans = [text[number % 3 : number % 3 + 2] for number, text in enumerate(texts)]
    rows = torch.tensor([READING.row([4], text) for text in texts])
    labels = torch.tensor([[*span, 2] for span in spans])
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    for _ in range(25):
        optimizer.zero_grad()
        logits = model(rows).lm_logits[:, 1:4]
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        optimizer.step()
    for text, span in zip(texts, spans, strict=True):
        assert read_masked(model, [4], [text], READING)[0].tokens == tuple(span)


def test_mistakes_are_refused() -> None:
    model = random_model(tiny_config())
    with pytest.raises(UserError, match="positions must lie between 0 and 39"):
        read_masked(model, [4], [[5] * 60], MaskedReading(1, 2, 3))
    for other in (random_model(tiny_config(application="unilm")), random_model(tiny_config(), ()), tiny_t5()):
        with pytest.raises(UserError, match="needs a masked language model"):
            read_masked(other, [4], [[5]], READING)
    with pytest.raises(UserError, match="at least 1 slot"):
        extract(torch.zeros(0, 4), [1], 2)
    with pytest.raises(UserError, match=r"passage's ids in 0\.\.3, got 1 to 9"):
        extract(torch.zeros(1, 4), [1, 9], 2)
    with pytest.raises(UserError, match=r"end token in 0\.\.3, got 4 to 4"):
        extract(torch.zeros(1, 4), [1], 4)
    with pytest.raises(UserError, match="probabilities that are numbers"):
        extract(torch.full((1, 4), torch.nan), [1], 2)
    with pytest.raises(UserError, match="slots, question_length"):
        MaskedReading(1, 2, 3, slots=0)
