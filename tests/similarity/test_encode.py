"""Encoding equals every text alone, and the padded batch, whatever the order, the lengths and the budget."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hanformer import encode
from hanformer.errors import UserError
from hanformer.nn.functional.packing import Layout
from hanformer.similarity import encode as encoding
from hanformer.similarity.encode import complaints, encoder_of, normalised
from hanformer.text.protocols import Encoding
from tests.harness import random_model, tiny_config
from tests.similarity.tiny import CHARACTERS, tiny_encoder, tiny_t5, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
MODEL = tiny_encoder().double()
TEXTS = ["今天", "", "天气很不错" * 4, "好", "山水火土风", "坏天气", "今天"]


def one_by_one(model: torch.nn.Module, texts: list[str], pooling: str) -> Tensor:
    """The naive form: each text padded to nothing, the whole model, pooling by hand."""
    rows = []
    for text in texts:
        output = model(torch.tensor([TOKENIZER.encode(text).ids]))
        states = output.sequence[0]
        rows.append(
            {"cls": states[0], "mean": states.mean(0), "last": states[-1]}.get(pooling, output.pooled)
        )
    return torch.stack([row.reshape(-1) for row in rows])


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooled", "last"])
@pytest.mark.parametrize("budget", [1, 10, 2048])
def test_equals_every_text_alone(pooling: str, budget: int) -> None:
    found = encode(MODEL, TOKENIZER, TEXTS, pooling=pooling, token_budget=budget)
    torch.testing.assert_close(found, one_by_one(MODEL, TEXTS, pooling).detach(), rtol=1e-9, atol=1e-10)
    assert found.dtype == torch.float64 and not found.requires_grad


def test_equals_the_padded_batch() -> None:
    ids = [TOKENIZER.encode(text).ids for text in TEXTS]
    longest = max(map(len, ids))
    padded = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    expected = MODEL(padded).pooled.detach()
    torch.testing.assert_close(
        encode(MODEL, TOKENIZER, TEXTS, pooling="pooled"), expected, rtol=1e-9, atol=1e-10
    )


@given(
    st.lists(st.text(alphabet=CHARACTERS, max_size=30), max_size=12),
    st.integers(1, 60),
    st.sampled_from(["cls", "mean", "last"]),
)
def test_any_texts_any_budget(texts: list[str], budget: int, pooling: str) -> None:
    found = encode(MODEL, TOKENIZER, texts, pooling=pooling, token_budget=budget)
    assert found.shape == (len(texts), 16)
    if texts:
        torch.testing.assert_close(found, one_by_one(MODEL, texts, pooling).detach(), rtol=1e-9, atol=1e-10)


def test_windows_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encode(MODEL, TOKENIZER, TEXTS)
    monkeypatch.setattr(encoding, "WINDOW", 2)
    blocks = list(encoder_of(MODEL, TOKENIZER, token_budget=1).blocks(TEXTS))
    assert [len(block.vectors) for block in blocks] == [2, 2, 2, 1]
    torch.testing.assert_close(torch.cat([block.vectors for block in blocks]), whole, rtol=1e-9, atol=1e-10)
    assert sum(block.tokens for block in blocks) == sum(len(TOKENIZER.encode(text)) for text in TEXTS)


def test_no_batch_exceeds_the_budget_but_for_one_text() -> None:
    sizes: list[tuple[int, ...]] = []
    stages = encoder_of(MODEL, TOKENIZER, token_budget=12)

    def run(ids: Tensor, layout: Layout) -> Tensor:
        sizes.append(layout.lengths)
        return stages.run(ids, layout)

    list(replace(stages, run=run).blocks(TEXTS))
    assert sum(map(len, sizes)) == len(TEXTS) and len(sizes) < len(TEXTS)
    assert all(sum(lengths) <= 12 or len(lengths) == 1 for lengths in sizes)


def test_long_texts_are_cut_with_a_warning() -> None:
    texts = ["天" * 100, "好"]
    with pytest.warns(UserWarning, match="1 of 2 texts were longer"):
        found = encode(MODEL, TOKENIZER, texts)
    expected = one_by_one(MODEL, ["天" * (MODEL.config.max_positions - 2), "好"], "cls").detach()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    with pytest.warns(UserWarning, match="1 of 2 texts"):
        short = encode(MODEL, TOKENIZER, texts, maximum_length=7)
    torch.testing.assert_close(short[0], one_by_one(MODEL, ["天" * 5], "cls")[0].detach())


def test_without_learned_positions_nothing_is_cut() -> None:
    config = tiny_config(vocab_size=len(TOKENIZER.vocabulary), position="rotary")
    model = random_model(config, ())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = encode(model, TOKENIZER, ["天" * 100], token_budget=8)
    torch.testing.assert_close(found, one_by_one(model, ["天" * 100], "cls").detach(), rtol=1e-9, atol=1e-10)


class Bare:
    """A tokenizer that puts nothing around a text, as GPT-2's does."""

    vocabulary = TOKENIZER.vocabulary

    def encode(
        self, text: str, maximum_length: int | None = None, *, special_tokens: bool = True
    ) -> Encoding:
        return TOKENIZER.encode(text, maximum_length, special_tokens=False)


def test_texts_without_a_token_are_zeros_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="2 of 3 texts have no token"):
        found = encode(MODEL, Bare(), ["", "好天", ""], pooling="mean")  # type: ignore[arg-type]
    ids = torch.tensor([TOKENIZER.encode("好天", special_tokens=False).ids])
    torch.testing.assert_close(found[1], MODEL(ids).sequence[0].mean(0).detach(), rtol=1e-9, atol=1e-10)
    assert not found[0].any() and not found[2].any()


def test_nothing_gives_nothing() -> None:
    assert encode(MODEL, TOKENIZER, []).shape == (0, 16)


def test_an_encoder_decoder_is_encoded_by_its_encoder() -> None:
    model = tiny_t5()
    found = encode(model, TOKENIZER, TEXTS, pooling="mean")
    for text, vector in zip(TEXTS, found, strict=True):
        ids = torch.tensor(TOKENIZER.encode(text).ids)
        expected = model.encode(ids, Layout.of([len(ids)])).mean(0).detach()
        torch.testing.assert_close(vector, expected, rtol=1e-4, atol=1e-5)


def test_normalised_vectors_have_length_one() -> None:
    plain, unit = (encode(MODEL, TOKENIZER, TEXTS, normalise=choice) for choice in (False, True))
    torch.testing.assert_close(unit, plain / plain.pow(2).sum(1, keepdim=True).sqrt())
    assert normalised(torch.zeros(1, 3)).tolist() == [[0, 0, 0]]


def test_bf16_keeps_its_dtype_and_direction() -> None:
    model = tiny_encoder()
    exact = encode(model, TOKENIZER, TEXTS, pooling="mean")
    halves = encode(model.bfloat16(), TOKENIZER, TEXTS, pooling="mean")
    assert halves.dtype == torch.bfloat16
    assert torch.cosine_similarity(exact, halves.float()).min() > 0.99


def test_progress_counts_every_text_once() -> None:
    told: list[int] = []
    encode(MODEL, TOKENIZER, TEXTS, token_budget=12, progress=told.append)
    assert sum(told) == len(TEXTS) and len(told) > 2


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="list of texts"):
        encode(MODEL, TOKENIZER, "今天")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="token_budget"):
        encode(MODEL, TOKENIZER, TEXTS, token_budget=0)
    with pytest.raises(UserError, match="40 positions"):
        encode(MODEL, TOKENIZER, TEXTS, maximum_length=41)
    with pytest.raises(UserError, match="at least 2"):
        encode(MODEL, TOKENIZER, TEXTS, maximum_length=1)
    with pytest.raises(UserError, match="do not belong together"):
        encode(random_model(tiny_config(vocab_size=5)), TOKENIZER, TEXTS)


def test_complaints_are_silent_where_all_is_well() -> None:
    assert complaints(list(encoder_of(MODEL, TOKENIZER).blocks(TEXTS)), len(TEXTS)) == []


@pytest.mark.parametrize("pooling", ["cls", "mean", "last", "pooled"])
def test_packed_weights_give_the_same_vectors(pooling: str) -> None:
    texts = ["今天天气", "", "山水", "雨" * 12, "风"]
    found = []
    for packed in (False, True):
        stages = encoder_of(tiny_encoder(), tiny_tokenizer(), pooling=pooling, packed=packed)
        found.append(torch.cat([block.vectors for block in stages.blocks(texts)]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_weights_are_packed_for_many_texts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    plain = encoding.encoder_of

    def noted(*given: object, **options: object) -> object:
        asked.append(options["packed"])
        return plain(*given, **options)

    monkeypatch.setattr(encoding, "encoder_of", noted)
    for texts in (["今天"], ["今天天气"] * 1000):
        encode(tiny_encoder(), tiny_tokenizer(), texts)
    assert asked == [False, True]
