"""Conversion changes the format and nothing else: equal outputs, equal tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hanformer import convert, load, load_tokenizer, save
from hanformer.errors import UserError
from hanformer.tasks.conversion import cut_down
from hanformer.text.cpm import CpmTokenizer
from hanformer.text.pieces import train_pieces
from hanformer.text.sentencepiece_kinds import KINDS
from hanformer.text.sentencepiece_tokenizer import SentencePieceTokenizer
from tests.similarity.tiny import CHARACTERS, tiny_encoder, tiny_folder
from tests.text.sentencepiece_material import model

FORMATS = ("safetensors", "transformers", "tensorflow")
HEADS = ("lm", "pool", "nsp")


@pytest.mark.parametrize("first", FORMATS)
@pytest.mark.parametrize("second", FORMATS)
def test_every_way_keeps_weights_heads_and_tokens(tmp_path: Path, first: str, second: str) -> None:
    source = tiny_folder(tmp_path / "source", heads=HEADS)
    convert(source, tmp_path / "a", to=first)
    found = convert(tmp_path / "a", tmp_path / "b", to=second)
    assert (found.family, found.heads) == ("bert", HEADS)
    assert found.tokenizer == ("tokenizer_config.json", "vocab.txt")
    expected, given = load(source).state_dict(), load(tmp_path / "b", heads=HEADS).state_dict()
    assert expected.keys() == given.keys()
    assert all(torch.equal(expected[name], given[name]) for name in expected)
    text = "今天[MASK]气x"
    assert load_tokenizer(tmp_path / "b").encode(text) == load_tokenizer(source).encode(text)


def test_heads_and_dtype_can_be_chosen(tmp_path: Path) -> None:
    source = tiny_folder(tmp_path / "source", heads=HEADS)
    convert(source, tmp_path / "a", to="transformers", heads=("pool",), dtype=torch.bfloat16)
    model = load(tmp_path / "a")
    assert model.heads == ("pool",) and model.embeddings.token.weight.dtype == torch.bfloat16


def test_a_file_and_a_prefix_are_sources(tmp_path: Path) -> None:
    source = tiny_folder(tmp_path / "source")
    convert(source, tmp_path / "t", to="tensorflow")
    for place in (source / "model.safetensors", tmp_path / "t" / "model.ckpt"):
        found = convert(place, tmp_path / "out", force=True)
        assert "vocab.txt" in found.tokenizer and found.heads == ("lm", "pool")


def test_kept_tokens_cut_model_and_tokenizer_alike(tmp_path: Path) -> None:
    source = tiny_folder(tmp_path / "source")
    keep = [0, 1, 2, 3, 4, 9, 5, 12]
    convert(source, tmp_path / "out", keep_tokens=keep)
    old, new = load_tokenizer(source), load_tokenizer(tmp_path / "out")
    assert list(new.vocabulary.tokens) == [old.vocabulary.tokens[number] for number in keep]
    text = "".join(CHARACTERS[number - 5] for number in keep[5:])
    before = load(source)(torch.tensor([old.encode(text).ids]))
    after = load(tmp_path / "out")(torch.tensor([new.encode(text).ids]))
    torch.testing.assert_close(after.sequence, before.sequence)
    torch.testing.assert_close(after.lm_logits, before.lm_logits[..., keep])


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    source = tiny_folder(tmp_path / "source")
    target = tmp_path / "target"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="--force"):
        convert(source, target)
    assert [path.name for path in target.iterdir()] == ["notes.txt"]
    convert(source, target, force=True)
    assert (target / "notes.txt").read_text() == "mine" and (target / "config.json").exists()
    with pytest.raises(UserError, match="found a file"):
        convert(source, target / "notes.txt", force=True)


def test_mistakes_are_told_before_anything_is_written(tmp_path: Path) -> None:
    source = tiny_folder(tmp_path / "source")
    out = tmp_path / "out"
    with pytest.raises(UserError, match="--to"):
        convert(source, out, to="keras")
    with pytest.raises(UserError, match="no such file"):
        convert(tmp_path / "none", out)
    with pytest.raises(UserError, match="100"):
        convert(source, out, keep_tokens=[1, 100])
    with pytest.raises(UserError, match=r"\[UNK\]"):
        convert(source, out, keep_tokens=[5, 6])
    save(tiny_encoder(), tmp_path / "bare")
    with pytest.raises(UserError, match="no tokenizer"):
        convert(tmp_path / "bare", out, keep_tokens=[1])
    assert not out.exists()
    assert convert(tmp_path / "bare", out).tokenizer == ()


def test_sentencepiece_is_cut_down_too() -> None:
    pieces = model("t5")
    tokenizer = SentencePieceTokenizer(pieces, KINDS["t5"])
    keep = [number for number, piece in enumerate(pieces.pieces) if piece.text != "天"]
    cut = cut_down(tokenizer, keep)
    assert isinstance(cut, SentencePieceTokenizer) and cut.kind is tokenizer.kind
    assert isinstance(cut_down(CpmTokenizer(model("cpm")), range(150)), CpmTokenizer)
    assert list(cut.vocabulary.tokens) == [pieces.pieces[number].text for number in keep]


def test_learned_pieces_cannot_be_cut_down() -> None:
    """Their merges would name what is gone."""
    with pytest.raises(UserError, match="PieceTokenizer cannot be cut down"):
        cut_down(train_pieces(["今天天气很好"] * 3, 20, specials=("[UNK]",)), [0, 1])
