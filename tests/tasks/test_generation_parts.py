"""What tokens add to a text, how words are spelled, and draws that know their prompt's number."""

from __future__ import annotations

import random

import pytest
import torch

from hanformer.decode import Sample, Search, StopTokens
from hanformer.decode.search import Limits, Scores
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.tasks.generation_parts import Parts, PlacedSample, WritableTokens, spellings, token_texts
from hanformer.tasks.prompting import Prompter
from hanformer.text import sentencepiece_kinds as kinds
from hanformer.text.sentencepiece_tokenizer import SentencePieceTokenizer
from tests.similarity.tiny import tiny_encoder, tiny_tokenizer
from tests.tasks.writers import tiny_writer
from tests.text.sentencepiece_material import model


@pytest.mark.parametrize("make", ["t5", "llama", "xlnet"])
def test_token_texts_put_together_are_the_text(make: str) -> None:
    tokenizer = SentencePieceTokenizer(model(make), kinds.KINDS[make])
    texts = token_texts(tokenizer)
    usable = [number for number, text in enumerate(texts) if text]
    assert len(usable) > 50
    source = random.Random(1)
    for _ in range(50):
        ids = source.choices(usable, k=6)
        together = "".join(texts[number] or "" for number in ids)
        assert together.split() == tokenizer.decode(ids).split()
    assert all(texts[tokenizer.vocabulary[name]] is None for name in tokenizer.vocabulary.specials.names())


def test_token_texts_of_wordpiece() -> None:
    tokenizer = tiny_tokenizer()
    texts = token_texts(tokenizer)
    for token, text in zip(tokenizer.vocabulary.tokens, texts, strict=True):
        assert text == (None if token.startswith("[") else token)


def test_words_are_spelled_at_the_beginning_and_inside() -> None:
    tokenizer = SentencePieceTokenizer(model("t5"), kinds.T5)
    writer = tiny_encoder(("lm",), application="lm")
    writer.config = writer.config.changed({"vocab_size": len(tokenizer.vocabulary)})
    prompter = Prompter(writer, tokenizer, GenerationOptions())
    found = {tuple(tokenizer.vocabulary.tokens_of(ids)) for ids in spellings(prompter, "今天")}
    joined = {"".join(tokens) for tokens in found}
    assert joined == {"今天", "▁今天"}


def test_draws_go_by_the_number_of_the_prompt() -> None:
    logits = torch.randn(3, 11)
    searches = [Search(prompt, Limits(0, 5)) for prompt in range(3)]
    scores = Scores(logits, logits.logsumexp(-1))
    for rows in ((4, 9, 2), (0, 1, 2)):
        found = PlacedSample(seed=3, samples=2, rows=rows).propose(scores, searches)
        for place, row in enumerate(rows):
            alone = Scores(logits[place : place + 1], scores.normaliser[place : place + 1])
            expected = Sample(seed=3, samples=2, first_row=row).propose(alone, [Search(0, Limits(0, 5))])
            assert [token for _, token in found[place]] == [token for _, token in expected[0]]


def test_known_tokens_follow_the_rows() -> None:
    allowed = WritableTokens(2, 3, None, 5, torch.device("cpu"))
    assert allowed.allowed().tolist() == [[True, True, True, False, False]] * 2
    allowed.select(torch.tensor([0, 0, 1]))
    allowed.advance(torch.tensor([1, 1, 1]))
    assert allowed.allowed().shape == (3, 5)


def test_stops_are_put_together() -> None:
    tokenizer = tiny_tokenizer()
    options = GenerationOptions(stop=("天气",), also_end=("好",))
    stop = Parts(Prompter(tiny_writer("lm"), tokenizer, options)).stop
    ids = tokenizer.vocabulary.ids_of("今天气不好")
    assert stop is not None and [stop(ids[:count]) for count in (1, 2, 3, 4, 5)] == [
        False,
        False,
        True,
        True,
        True,
    ]
    assert not stop(tokenizer.vocabulary.ids_of("好今")) and StopTokens(frozenset({ids[4]}))(ids)
