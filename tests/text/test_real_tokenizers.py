"""Published tokenizer files: the ids of the library on real text, for every model in the folder of real data."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import sentencepiece

from hanformer.text.byte_level import END, ByteLevelTokenizer
from hanformer.text.cpm import CpmTokenizer
from hanformer.text.load import load_tokenizer
from hanformer.text.sentencepiece_tokenizer import SentencePieceTokenizer

CORPORA = ("lm_text", "translation", "chitchat", "title_generation")


def lines(data_folder: Path, count: int) -> list[str]:
    """The same lines every time: the first of some files of each corpus."""
    found: list[str] = []
    for corpus in CORPORA:
        for path in sorted((data_folder / corpus).rglob("*.gz"))[:4]:
            with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
                found += [line[:300] for _, line in zip(range(count), file, strict=False)]
    assert len(found) > 2 * count
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mt5_sentencepiece_cn", "t5"),
        ("xlnet_zh_spiece", "xlnet"),
        ("llama_tokenizer", "llama"),
        ("uer_cluecorpussmall_spm", "bert"),
    ],
)
def test_sentencepiece_files(name: str, kind: str, data_folder: Path) -> None:
    path = data_folder / "vocab" / f"{name}.model"
    tokenizer = load_tokenizer(path)
    assert isinstance(tokenizer, SentencePieceTokenizer) and tokenizer.kind.name == kind
    peer = sentencepiece.SentencePieceProcessor(model_file=str(path))
    for line in lines(data_folder, 40):
        found = tokenizer.encode(line, special_tokens=False)
        assert found.ids == peer.encode(line)
        assert all(0 <= start <= end <= len(line) for start, end in found.offsets)
        if kind == "llama":
            assert tokenizer.decode(found.ids) == line


def test_cpm(data_folder: Path) -> None:
    """The published pipeline, jieba included; and text without wide signs goes both ways."""
    import jieba

    path = data_folder / "vocab" / "cpm_chinese_vocab.model"
    tokenizer = load_tokenizer(path)
    assert isinstance(tokenizer, CpmTokenizer) and tokenizer.line_end_id == 3
    peer = sentencepiece.SentencePieceProcessor(model_file=str(path))
    signs = str.maketrans(" \n", "\u2582\u2583")
    for line in lines(data_folder, 15):
        words = " ".join(word.translate(signs) for word in jieba.cut(line, cut_all=False))
        assert tokenizer.encode(line).ids == peer.encode(words)
    prompt = "美国的首都是华盛顿\n法国的首都是巴黎\n日本的首都是东京\n中国的首都是"
    assert tokenizer.decode(tokenizer.encode(prompt).ids) == prompt


def test_gpt2(data_folder: Path) -> None:
    """Both forms of the vocabulary; known ids of GPT-2; every line goes both ways."""
    folder = data_folder / "vocab"
    tokenizer = ByteLevelTokenizer.from_files(folder / "gpt2_encoder.json", folder / "gpt2_merges.txt")
    listed = ByteLevelTokenizer.from_files(folder / "gpt2_vocab_uer.txt", folder / "gpt2_merges.txt")
    assert tokenizer.encode(f"Hello world{END}").ids == [15496, 995, 50256]
    assert len(listed.vocabulary) == 50_265 and listed.vocabulary.specials.mask == "<mask>"
    for line in lines(data_folder, 40):
        found = tokenizer.encode(line)
        assert tokenizer.decode(found.ids) == line and listed.encode(line).tokens == found.tokens
