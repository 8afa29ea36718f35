"""One call opens every tokenizer that is saved here or elsewhere, or says what it would have opened."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from hanformer.errors import UserError
from hanformer.text.byte_level import VOCABULARY_FILES, ByteLevelTokenizer
from hanformer.text.cpm import CpmTokenizer
from hanformer.text.load import load_tokenizer
from hanformer.text.pieces import train_pieces
from hanformer.text.protocols import Tokenizer
from hanformer.text.sentencepiece_kinds import LLAMA, T5
from hanformer.text.sentencepiece_tokenizer import SentencePieceTokenizer
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer
from tests.text.sentencepiece_material import TEXTS, model, model_bytes
from tests.text.test_byte_level import TOKENIZER as BYTE_LEVEL
from tests.text.test_llama import RAW

VOCABULARY = Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "今", "天", "the", "##y"])

SAVED: dict[str, Tokenizer] = {
    "wordpiece": WordPieceTokenizer(VOCABULARY, lowercase=False),
    "pieces": train_pieces(TEXTS, 120),
    "t5": SentencePieceTokenizer(model("t5"), T5),
    "llama": SentencePieceTokenizer(model("llama"), LLAMA),
    "cpm": CpmTokenizer(model("cpm")),
    "byte_level": BYTE_LEVEL,
}


@pytest.mark.parametrize("name", SAVED)
def test_what_was_saved_is_loaded(name: str, tmp_path: Path) -> None:
    SAVED[name].save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert type(loaded) is type(SAVED[name]) and loaded.vocabulary == SAVED[name].vocabulary
    assert loaded.encode("今天 they") == SAVED[name].encode("今天 they")
    again = [load_tokenizer(file) for file in sorted(tmp_path.iterdir()) if "config" not in file.name]
    assert all(type(each) is type(loaded) for each in again)


def test_files_of_others(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\nthe\n", encoding="utf-8")
    assert isinstance(load_tokenizer(tmp_path / "vocab.txt"), WordPieceTokenizer)
    (tmp_path / "other_names.txt").write_text("[UNK]\n[CLS]\n[SEP]\n", encoding="utf-8")
    assert isinstance(load_tokenizer(tmp_path / "other_names.txt"), WordPieceTokenizer)
    (tmp_path / "tok512.bin").write_bytes(RAW)
    loaded = load_tokenizer(tmp_path / "tok512.bin")
    assert isinstance(loaded, SentencePieceTokenizer) and loaded.kind is LLAMA
    (tmp_path / "x.model").write_bytes(model_bytes("cpm"))
    assert isinstance(load_tokenizer(tmp_path / "x.model", kind="cpm"), CpmTokenizer)


def test_a_folder_of_llama2c(tmp_path: Path) -> None:
    (tmp_path / "tok512.bin").write_bytes(RAW)
    assert load_tokenizer(tmp_path).encode("a").ids[0] == 1


def test_gpt2s_own_names(tmp_path: Path) -> None:
    BYTE_LEVEL.save(tmp_path / "new")
    (tmp_path / "old").mkdir()
    shutil.copy(tmp_path / "new" / "vocab.json", tmp_path / "old" / "encoder.json")
    shutil.copy(tmp_path / "new" / "merges.txt", tmp_path / "old" / "vocab.bpe")
    for path in (tmp_path / "old", tmp_path / "old" / "encoder.json", tmp_path / "old" / "vocab.bpe"):
        assert isinstance(load_tokenizer(path), ByteLevelTokenizer)


@pytest.mark.parametrize("tokens", ["gpt2_encoder.json", "cpm-vocab.json", "zh.vocab.json", "gpt2_vocab.txt"])
@pytest.mark.parametrize("merges", ["merges.txt", "vocab.bpe"])
def test_the_name_of_a_model_before_that_of_the_file(tokens: str, merges: str, tmp_path: Path) -> None:
    BYTE_LEVEL.save(tmp_path)
    prefix = tokens[: -len(next(name for name in VOCABULARY_FILES if tokens.endswith(name)))]
    if tokens.endswith(".txt"):
        BYTE_LEVEL.vocabulary.save(tmp_path / tokens)
    else:
        shutil.move(tmp_path / "vocab.json", tmp_path / tokens)
    (tmp_path / "vocab.json").unlink(missing_ok=True)
    shutil.move(tmp_path / "merges.txt", tmp_path / (prefix + merges))
    for path in (tmp_path / tokens, tmp_path / (prefix + merges)):
        assert load_tokenizer(path).encode("今天 they") == BYTE_LEVEL.encode("今天 they")
    if tokens.endswith(".json"):
        assert isinstance(load_tokenizer(tmp_path), ByteLevelTokenizer)
    # The merges of another model are not its own.
    shutil.move(tmp_path / (prefix + merges), tmp_path / f"other_{merges}")
    with pytest.raises(UserError, match=f"other_{merges}: one half .* other_vocab.json"):
        load_tokenizer(tmp_path / f"other_{merges}")
    if tokens.endswith(".json"):
        with pytest.raises(UserError, match=rf"{prefix}merges.txt or .* SentencePiece .* \.model file"):
            load_tokenizer(tmp_path / tokens)


def test_published_vocabularies_with_a_prefix(data_folder: Path) -> None:
    folder = data_folder / "vocab"
    assert len(load_tokenizer(folder / "gpt2_encoder.json").vocabulary) == 50257
    with pytest.raises(UserError, match="SentencePiece model, as CPM's does"):
        load_tokenizer(folder / "cpm_vocab.json")


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist; expected a folder, a hub id or a file: vocab.txt"):
        load_tokenizer(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"^bert-base-chinese: .* tiny .* google-bert/bert-base-chinese"):
        load_tokenizer("bert-base-chinese")
    with pytest.raises(UserError, match="no tokenizer found among no files; expected vocab.txt"):
        load_tokenizer(tmp_path)
    (tmp_path / "weights.npz").write_bytes(b"")
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(UserError, match="found among notes.json, weights.npz; expected"):
        load_tokenizer(tmp_path)
    with pytest.raises(UserError, match="no tokenizer that is known"):
        load_tokenizer(tmp_path / "weights.npz")
    for name in "ab":
        (tmp_path / f"{name}.model").write_bytes(model_bytes("t5"))
    with pytest.raises(UserError, match=r"holds \['a.model', 'b.model'\]; name one"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("lost", "left", "wanted"),
    [
        ("merges.txt", "vocab.json", "merges.txt or vocab.bpe"),
        ("vocab.json", "merges.txt", "vocab.json or encoder"),
    ],
)
def test_half_a_tokenizer_says_what_is_missing(lost: str, left: str, wanted: str, tmp_path: Path) -> None:
    BYTE_LEVEL.save(tmp_path)
    (tmp_path / lost).unlink()
    for path in (tmp_path, tmp_path / left):
        with pytest.raises(UserError, match=f"{left}: one half of a byte-level BPE .* put {wanted}"):
            load_tokenizer(path)


def test_a_run_folder(tmp_path: Path) -> None:
    SAVED["wordpiece"].save(tmp_path / "best")
    (tmp_path / "run.toml").write_text("")
    assert load_tokenizer(tmp_path).vocabulary == VOCABULARY
    SAVED["pieces"].save(tmp_path)
    assert load_tokenizer(tmp_path).vocabulary == SAVED["pieces"].vocabulary


def test_a_hub_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked: list[tuple[str, list[str]]] = []

    def found(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        SAVED["wordpiece"].save(tmp_path)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", found)
    assert load_tokenizer("someone/bert").vocabulary == VOCABULARY
    assert asked[0][0] == "someone/bert" and "*.safetensors" not in asked[0][1]

    def missing(name: str, allow_patterns: list[str]) -> str:
        raise LocalEntryNotFoundError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", missing)
    with pytest.raises(UserError, match="someone/bert: no such file .*no network"):
        load_tokenizer("someone/bert")


def word_vocabulary(words: int) -> Vocabulary:
    """Ideographs, and words of two of them, 我们 among them."""
    single = [
        *"我们去看",
        *(chr(0x4E00 + number) for number in range(64) if chr(0x4E00 + number) not in "我们去看"),
    ]
    pairs = [first + second for first in single[4:44] for second in single[4:44]]
    return Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *single, *pairs[: words - 1], "我们"])


def test_a_vocabulary_of_words_is_wobert(tmp_path: Path) -> None:
    pytest.importorskip("jieba")
    word_vocabulary(1000).save(tmp_path / "vocab.txt")
    assert load_tokenizer(tmp_path).encode("我们去看").tokens[1:-1] == ["我们", "去", "看"]
    assert load_tokenizer(tmp_path / "vocab.txt").encode("我们去看").tokens[1:-1] == ["我们", "去", "看"]
    plain = load_tokenizer(tmp_path, "wordpiece")
    assert plain.encode("我们去看").tokens[1:-1] == [*"我们去看"]
    plain.save(tmp_path / "plain")  # what was saved says how it was read
    assert load_tokenizer(tmp_path / "plain").encode("我们去看").tokens[1:-1] == [*"我们去看"]
    assert load_tokenizer(tmp_path / "plain", "wobert").encode("我们去看").tokens[1] == "我们"
    with pytest.raises(UserError, match="kind is wordpiece or wobert"):
        load_tokenizer(tmp_path, "t5")


def test_a_few_words_are_no_wobert(tmp_path: Path) -> None:
    word_vocabulary(999).save(tmp_path / "vocab.txt")
    assert load_tokenizer(tmp_path).encode("我们去看").tokens[1:-1] == [*"我们去看"]


def test_words_without_a_segmenter_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    word_vocabulary(1000).save(tmp_path / "vocab.txt")
    monkeypatch.setitem(sys.modules, "jieba", None)
    monkeypatch.setitem(sys.modules, "rjieba", None)
    with pytest.raises(UserError, match=r'a vocabulary of words \(WoBERT\).*kind="wordpiece"'):
        load_tokenizer(tmp_path)
