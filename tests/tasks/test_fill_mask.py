"""Masks filled in, by the definition."""

from __future__ import annotations

import pytest
import torch

from hanformer import fill_mask
from hanformer.errors import UserError
from hanformer.text.vocabulary import SpecialTokens, Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer
from tests.similarity.tiny import CHARACTERS, tiny_encoder, tiny_t5, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


@pytest.mark.parametrize("text", ["今天天气[MASK]错", "[MASK]天[MASK]", "[MASK]"])
def test_equals_softmax_of_the_padded_model(text: str) -> None:
    model = tiny_encoder()
    ids = TOKENIZER.encode(text).ids
    expected = model(torch.tensor([ids])).lm_logits[0].softmax(-1)
    places = [place for place, number in enumerate(ids) if number == TOKENIZER.vocabulary.mask_id]
    found = fill_mask(model, TOKENIZER, text, top=3)
    assert len(found) == len(places) == text.count("[MASK]")
    for place, candidates in zip(places, found, strict=True):
        order = expected[place].argsort(descending=True)[:3].tolist()
        assert [candidate.id for candidate in candidates] == order
        assert [candidate.token for candidate in candidates] == TOKENIZER.vocabulary.tokens_of(order)
        chances = torch.tensor([candidate.probability for candidate in candidates])
        torch.testing.assert_close(chances, expected[place][order].detach())


def test_top_beyond_the_vocabulary_gives_all_of_it() -> None:
    (candidates,) = fill_mask(tiny_encoder(), TOKENIZER, "[MASK]", top=1000)
    assert len(candidates) == len(TOKENIZER.vocabulary)
    assert sum(candidate.probability for candidate in candidates) == pytest.approx(1)


def test_rows_beyond_the_vocabulary_have_a_number_for_a_name() -> None:
    small = WordPieceTokenizer(Vocabulary(TOKENIZER.vocabulary.tokens[:9]))
    (candidates,) = fill_mask(tiny_encoder(), small, "[MASK]", top=1000)
    assert {candidate.token for candidate in candidates if candidate.id >= 9} == {
        f"<{number}>" for number in range(9, len(TOKENIZER.vocabulary))
    }


def test_a_tokenizer_of_another_model_is_refused() -> None:
    tokens = TOKENIZER.vocabulary.tokens
    larger = WordPieceTokenizer(Vocabulary([*tokens, "龘"]))
    said = rf"tokenizer has {len(tokens) + 1} tokens and the model {len(tokens)}: .*do not belong together"
    with pytest.raises(UserError, match=said):
        fill_mask(tiny_encoder(), larger, "[MASK]")


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match=r"expected \[MASK\] in the text"):
        fill_mask(tiny_encoder(), TOKENIZER, "今天")
    with pytest.raises(UserError, match="at least 1"):
        fill_mask(tiny_encoder(), TOKENIZER, "[MASK]", top=0)
    with pytest.raises(UserError, match="vocabulary head"):
        fill_mask(tiny_encoder(heads=()), TOKENIZER, "[MASK]")
    for model in (tiny_encoder(application="lm"), tiny_t5()):
        with pytest.raises(UserError, match="masked language model"):
            fill_mask(model, TOKENIZER, "[MASK]")  # type: ignore[arg-type]
    maskless = WordPieceTokenizer(
        Vocabulary(["[UNK]", "[CLS]", "[SEP]", *CHARACTERS], SpecialTokens(pad=None, mask=None))
    )
    with pytest.raises(UserError, match="no mask token"):
        fill_mask(tiny_encoder(), maskless, "[MASK]")
