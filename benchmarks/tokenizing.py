"""Characters cut per second, beside the `tokenizers` library, on the lines of text files.

    python -m benchmarks.tokenizing VOCABULARY FILE... [--words WOBERT_VOCABULARY] [--sentencepiece MODEL]

Ids, tokens and offsets of all lines are compared first. What a side remembers of words it keeps between rounds, as
in use. With `--words` also WoBERT's way, by rjieba and by jieba, which have to give the same tokens. With
`--sentencepiece` also a Unigram model, which the library is given piece by piece; its lattice breaks ties in another
order, so that the share of lines with equal ids is printed instead of being demanded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import BertWordPieceTokenizer, Regex, Tokenizer
from tokenizers.models import Unigram
from tokenizers.normalizers import Precompiled, Replace
from tokenizers.normalizers import Sequence as InOrder
from tokenizers.pre_tokenizers import Metaspace

from benchmarks import runner
from benchmarks.measure import Case, Difference, Side
from hanformer.data.files import lines
from hanformer.errors import UserError
from hanformer.text import wobert
from hanformer.text.batch import encode_batch
from hanformer.text.sentencepiece_model import UNKNOWN, SentencePieceModel
from hanformer.text.sentencepiece_tokenizer import SentencePieceTokenizer
from hanformer.text.wordpiece import WordPieceTokenizer

LEAST_ALIKE = 0.9


def one_by_one(tokenizer: Any, texts: Sequence[str]) -> None:
    """Every text by a call of its own, its ids, tokens and offsets read. 逐条编码并取出结果。"""
    for text in texts:
        found = tokenizer.encode(text)
        _ = found.ids, found.tokens, found.offsets


def ids_alone(tokenizer: BertWordPieceTokenizer, texts: Sequence[str]) -> None:
    """The same, with ids alone read: the library makes its lists when they are asked for. 仅取编号。"""
    for text in texts:
        _ = tokenizer.encode(text).ids


def batch(tokenizer: BertWordPieceTokenizer, texts: list[str]) -> None:
    """All texts by one call, on all threads, then read. 批量编码并取出结果。"""
    for found in tokenizer.encode_batch(texts):
        _ = found.ids, found.tokens, found.offsets


def check(ours: WordPieceTokenizer, theirs: BertWordPieceTokenizer, texts: Sequence[str]) -> str:
    """Equal ids, tokens and offsets. 结果须相同。"""
    for text in texts:
        mine, other = ours.encode(text), theirs.encode(text)
        if (mine.ids, mine.tokens, mine.offsets) != (other.ids, other.tokens, other.offsets):
            raise Difference(
                f"{text[:80]!r} is cut as {mine.tokens[:20]}, by the library {other.tokens[:20]}"
            )
    return f"{len(texts):,} texts are cut alike"


def check_words(fast: WordPieceTokenizer, slow: WordPieceTokenizer, texts: Sequence[str]) -> str:
    """Equal encodings by both segmenters. 两种分词结果须相同。"""
    for text in texts:
        mine, other = fast.encode(text), slow.encode(text)
        if mine != other:
            raise Difference(f"{text[:80]!r} is cut as {mine.tokens[:20]}, by jieba {other.tokens[:20]}")
    return f"{len(texts):,} texts are cut alike"


def wordpiece_case(name: str, vocabulary: Path, texts: list[str]) -> Case:
    """BERT's tokenizer. BERT 分词。"""
    ours, theirs = WordPieceTokenizer.load(vocabulary), BertWordPieceTokenizer(str(vocabulary))
    sides = [
        Side("hanformer, one by one", partial(one_by_one, ours, texts)),
        Side("hanformer, batch", partial(encode_batch, ours, texts)),
        Side("tokenizers, one by one", partial(one_by_one, theirs, texts)),
        Side("tokenizers, ids alone", partial(ids_alone, theirs, texts)),
        Side("tokenizers, batch", partial(batch, theirs, texts)),
    ]
    return Case(name, "character", sum(map(len, texts)), True, sides, partial(check, ours, theirs, texts))


def words_case(name: str, vocabulary: Path, texts: list[str]) -> Case:
    """WoBERT's tokenizer. WoBERT 分词。"""
    fast, slow = wobert.load(vocabulary, cut_by="rjieba"), wobert.load(vocabulary, cut_by="jieba")
    sides = [
        Side("hanformer, rjieba", partial(one_by_one, fast, texts)),
        Side("hanformer, rjieba, batch", partial(encode_batch, fast, texts)),
        Side("hanformer, jieba", partial(one_by_one, slow, texts)),
    ]
    return Case(name, "character", sum(map(len, texts)), True, sides, partial(check_words, fast, slow, texts))


def unigram_peer(model: SentencePieceModel) -> Tokenizer:
    """The same pieces and rules in the library's hands. 同一模型的对照实现。"""
    pieces = [(piece.text, piece.score) for piece in model.pieces]
    unknown = next(place for place, piece in enumerate(model.pieces) if piece.kind == UNKNOWN)
    peer = Tokenizer(Unigram(pieces, unknown, model.cutting.byte_fallback))
    rules = Precompiled(model.normalising.rules)
    peer.normalizer = InOrder([rules, Replace(Regex(" {2,}"), " ")])
    peer.pre_tokenizer = Metaspace()
    return peer


def share_alike(ours: SentencePieceTokenizer, theirs: Tokenizer, texts: Sequence[str]) -> str:
    """The share of texts with equal ids. 编号相同的比例。"""
    same = sum(ours.pieces(text).ids == theirs.encode(text).ids for text in texts)
    if same < LEAST_ALIKE * len(texts):
        raise Difference(f"of {len(texts):,} texts only {same:,} are cut alike")
    return f"{same:,} of {len(texts):,} texts have equal ids"


def sentencepiece_case(name: str, path: Path, texts: list[str]) -> Case:
    """A Unigram model. SentencePiece 分词。"""
    ours = SentencePieceTokenizer.load(path)
    theirs = unigram_peer(ours.model)
    sides = [
        Side("hanformer, one by one", partial(one_by_one, ours, texts)),
        Side("tokenizers, one by one", partial(one_by_one, theirs, texts)),
    ]
    return Case(
        name, "character", sum(map(len, texts)), True, sides, partial(share_alike, ours, theirs, texts)
    )


def cases(chosen: argparse.Namespace) -> Iterator[Case]:
    """One or two for each file. 每个文件的案例。"""
    for path in chosen.files:
        texts = list(islice(lines(path), chosen.lines))
        if not any(texts):
            raise UserError(f"{path}: expected lines of text, found none")
        yield wordpiece_case(path.name, chosen.vocabulary, texts)
        if chosen.words is not None:
            yield words_case(f"{path.name}, words", chosen.words, texts)
        if chosen.sentencepiece is not None:
            yield sentencepiece_case(f"{path.name}, SentencePiece", chosen.sentencepiece, texts)


def main(arguments: Sequence[str]) -> int:
    """The command. 命令行入口。"""
    options = runner.parser("characters cut per second beside the tokenizers library", "tokenizing")
    options.add_argument("vocabulary", type=Path, help="a vocab.txt")
    options.add_argument("files", type=Path, nargs="+", help="text files, plain or packed")
    options.add_argument("--lines", type=int, default=10000, help="of each file; default: %(default)s")
    options.add_argument("--sentencepiece", type=Path, default=None, help="a Unigram .model")
    options.add_argument("--words", type=Path, default=None, help="a WoBERT vocab.txt")
    return runner.main("tokenizing", options, cases, arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
