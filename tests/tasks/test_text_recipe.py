"""The vocabulary that a recipe learns, and what it says of a model that does not belong to its tokenizer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hanformer import ModelConfig, build, save
from hanformer.chat.recipe import ChatRecipe
from hanformer.errors import UserError
from hanformer.mechanisms import Atrous, Local, Mechanism, Softmax
from hanformer.models.checkpoint import LeftOut
from hanformer.models.self_terminating import TerminatingTransformer
from hanformer.models.terminating_files import save_terminating
from hanformer.nn.layers.self_terminating import SelfTerminating
from hanformer.tasks import text_recipe
from hanformer.tasks.pretrain import PretrainRecipe
from hanformer.tasks.seq2seq import Seq2SeqRecipe
from hanformer.tasks.text_recipe import (
    SPECIALS,
    TextRecipe,
    VocabularyOptions,
    make_tokenizer,
    make_transformer,
)
from hanformer.text.pieces import train_pieces
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer
from hanformer.train.sizes import USUAL, Sizes
from tests.harness import random_model, tiny_config
from tests.similarity.tiny import tiny_encoder

TEXTS = ["今天天气很好，ok ok!", "今天 下雨\t3 3", "\ud800\ud800 稀\x1c\x1c", "éé 好好好"]


@pytest.mark.parametrize("size", [6, 9, 12, 300])
@pytest.mark.parametrize("minimum_count", [1, 2])
def test_characters_are_those_that_pieces_begin_with(
    monkeypatch: pytest.MonkeyPatch, size: int, minimum_count: int
) -> None:
    pieces = train_pieces(TEXTS, size, minimum_count=minimum_count, specials=SPECIALS).vocabulary.tokens
    monkeypatch.setattr(text_recipe, "train_pieces", None)  # nothing is to be joined
    options = VocabularyOptions("characters", size, minimum_count)
    found = make_tokenizer(TextRecipe(vocabulary=options), iter(TEXTS))
    single = [token for token in pieces if len(token) == 1]
    inner = [f"##{token}" for token in single if token in "ok3é"]
    assert isinstance(found, WordPieceTokenizer)
    assert found.vocabulary.tokens == (*SPECIALS, *single, *inner)


def test_pieces_are_joined_where_they_were_asked_for() -> None:
    recipe = TextRecipe(vocabulary=VocabularyOptions("pieces", 30, 1))
    assert "今天" in make_tokenizer(recipe, TEXTS).vocabulary.tokens


def test_a_tokenizer_with_more_tokens_than_the_model(tmp_path: Path) -> None:
    save(tiny_encoder(), tmp_path)
    recipe = TextRecipe(vocabulary=VocabularyOptions(minimum_count=1))
    tokenizer = make_tokenizer(recipe, ["".join(map(chr, range(0x4E00, 0x4E80)))])
    with pytest.raises(UserError, match="tokens and the model .* do not belong together; use the vocabulary"):
        make_transformer(TextRecipe(start_from=str(tmp_path)), tokenizer, "encoder", ("lm",))


def test_a_start_without_its_head_that_must_stop_says_so(tmp_path: Path) -> None:
    model = random_model(tiny_config(application="lm"), dtype=torch.float32)
    save_terminating(TerminatingTransformer(model, 2, SelfTerminating(0.02)), tmp_path)
    tokenizer = WordPieceTokenizer(Vocabulary(SPECIALS))
    with pytest.warns(LeftOut, match="load_writing"):
        make_transformer(TextRecipe(start_from=str(tmp_path)), tokenizer, "lm", ("lm",))


def test_a_rate_for_small_models_is_told_where_a_large_one_is_tuned(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    tokenizer = make_tokenizer(TextRecipe(vocabulary=VocabularyOptions(minimum_count=1)), TEXTS)
    sizes = {"layers": 1, "attention_heads": 2, "intermediate_size": 8}
    for width in (16, 512):
        config = ModelConfig(vocab_size=len(tokenizer.vocabulary), hidden_size=width, **sizes)
        save(build(config), tmp_path / str(width))
    small, large = (TextRecipe(start_from=str(tmp_path / width)) for width in ("16", "512"))
    with pytest.warns(UserWarning, match="learning_rate=0.001 is high .* --set learning_rate=2e-5"):
        make_transformer(large, tokenizer, "encoder", ("lm",))
    make_transformer(small, tokenizer, "encoder", ("lm",))
    make_transformer(replace(large, optimizer="muon"), tokenizer, "encoder", ("lm",))
    make_transformer(large.changed({"learning_rate": "5e-5"}), tokenizer, "encoder", ("lm",))
    assert not recwarn.list


TOKENIZER = WordPieceTokenizer(Vocabulary(SPECIALS))


@pytest.mark.parametrize(
    ("named", "expected"),
    [({}, Local(3)), ({"attention": "softmax"}, Softmax()), ({"attention": "atrous"}, Atrous())],
)
def test_a_mechanism_that_is_named_is_taken_and_else_its_own(
    tmp_path: Path, named: dict[str, str], expected: Mechanism
) -> None:
    save(random_model(tiny_config(attention=Local(3)), dtype=torch.float32), tmp_path)
    recipe = TextRecipe(start_from=str(tmp_path)).changed(named)
    assert make_transformer(recipe, TOKENIZER, "encoder", ()).config.attention == expected


def test_a_new_model_has_softmax_unless_another_is_named() -> None:
    for named, expected in (({}, Softmax()), ({"attention": "local"}, Local())):
        model = make_transformer(TextRecipe().changed(named), TOKENIZER, "encoder", ())
        assert model.config.attention == expected


def test_sizes_beside_a_pretrained_model_are_its_own_or_refused(tmp_path: Path) -> None:
    save(random_model(tiny_config(), dtype=torch.float32), tmp_path)
    own = TextRecipe(start_from=str(tmp_path)).changed({"hidden_size": "16", "position": "learned"})
    assert make_transformer(own, TOKENIZER, "encoder", ()).config.layers == 2
    with pytest.raises(
        UserError,
        match=r"its sizes \(layers=2, position=learned\), and layers=1, position=alibi would be of a new",
    ):
        make_transformer(own.changed({"layers": "1", "position": "alibi"}), TOKENIZER, "encoder", ())
    with pytest.raises(UserError, match="hidden_size=32 would be of a new one: leave that out$"):
        make_transformer(own.changed({"hidden_size": "32"}), TOKENIZER, "encoder", ())
    other = make_transformer(
        own.changed({"dropout": "0.3", "attention_dropout": "0.2"}), TOKENIZER, "encoder", ()
    )
    assert (other.config.dropout, other.config.attention_dropout) == (0.3, 0.2)


def test_what_is_usual_for_new_models_counts_beside_a_pretrained_one_where_it_is_said(tmp_path: Path) -> None:
    save(random_model(tiny_config(dropout=0.0), dtype=torch.float32), tmp_path)
    start = TextRecipe(start_from=str(tmp_path))
    assert make_transformer(start, TOKENIZER, "encoder", ()).config.dropout == 0.0
    said = start.changed({"dropout": str(USUAL.dropout)})
    assert make_transformer(said, TOKENIZER, "encoder", ()).config.dropout == USUAL.dropout
    with pytest.raises(UserError, match=f"layers={USUAL.layers} would be of a new one"):
        make_transformer(start.changed({"layers": str(USUAL.layers)}), TOKENIZER, "encoder", ())


def test_sizes_that_are_not_whole_make_no_config() -> None:
    with pytest.raises(UserError, match="sizes: hidden_size, attention_heads, .* unsaid; take sizes.over"):
        Sizes(layers=2).config(100, "encoder", 512)


@pytest.mark.parametrize("recipe", [TextRecipe(), Seq2SeqRecipe(), PretrainRecipe(), ChatRecipe()])
def test_one_size_that_is_said_leaves_the_others_usual(recipe: TextRecipe) -> None:
    usual = make_transformer(recipe, TOKENIZER, "encoder", ()).config
    model = make_transformer(recipe.changed({"layers": "1"}), TOKENIZER, "encoder", ())
    assert usual.layers > 1 and model.config == usual.changed({"layers": 1})
