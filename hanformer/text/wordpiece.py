"""BERT's tokenizer: basic words, then the longest pieces that the vocabulary holds, with exact offsets.

BERT 的 WordPiece 分词：先切成词，再在词内贪心取最长子词；偏移量精确对应原文。

    piece_1 = the longest prefix of the word in V;  piece_k = the longest "##" + prefix of the rest in V;
    a word with a rest that has no piece, or of more than `longest_word` characters, is one [UNK].

Source: Devlin et al. 2018, arXiv 1810.04805; equal to `BertWordPieceTokenizer` of the tokenizers library, and
by choice to the `Tokenizer` of bert4keras 0.11.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from hanformer.text import conventions, word_segmentation, wordpiece_files
from hanformer.text.basic import BasicRules, words
from hanformer.text.conventions import TRANSFORMERS, Convention
from hanformer.text.cutting import CONTINUATION, ChunkCutter, Cutter, GreedyPieces, SegmentCutter
from hanformer.text.protocols import Encoding, Pieces, bare, frame, frame_pair
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.word_segmentation import Segmenter


class WordPieceTokenizer:
    """Cuts text as Google's BERT does. 与谷歌 BERT 一致的分词器。

    `lowercase` lowers letters; `strip_accents` follows it unless given; `split_chinese` makes every ideograph
    a word; `longest_word` bounds a word in characters (by default 100, in bert4keras 200). Special and added
    tokens of the vocabulary are found in the raw text first (the longest one, from the left) and never split;
    with `read_specials` false (the default in bert4keras) only added ones. A `segmenter` cuts words first,
    and one that the vocabulary holds is a token (WoBERT). `convention` is whose rules are followed where
    toolkits differ.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        lowercase: bool = True,
        *,
        strip_accents: bool | None = None,
        split_chinese: bool = True,
        longest_word: int | None = None,
        read_specials: bool | None = None,
        convention: Convention = TRANSFORMERS,
        segmenter: Segmenter | None = None,
    ) -> None:
        self._vocabulary = vocabulary
        self.convention = convention
        self.segmenter = segmenter
        self.rules = BasicRules(
            lowercase, lowercase if strip_accents is None else strip_accents, split_chinese
        )
        self.longest_word = convention.longest_word if longest_word is None else longest_word
        self.read_specials = convention.reads_specials if read_specials is None else read_specials
        self._cutter = self._new_cutter()
        self._atomic = _atomic_pattern(vocabulary.atomic if self.read_specials else vocabulary.added)

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens and their ids. 词表。"""
        return self._vocabulary

    def encode(
        self, text: str, maximum_length: int | None = None, *, special_tokens: bool = True
    ) -> Encoding:
        """``[CLS] text [SEP]`` as ids, tokens and offsets; with `special_tokens` false the text alone.

        编码一段文本；`maximum_length` 含特殊词元，截断时 `truncated` 为真。

        Raises: UserError where `maximum_length` has no room for the special tokens.
        """
        put_around = frame if special_tokens else bare
        return self._shown(put_around(self._vocabulary, self.pieces(text), maximum_length), (text,))

    def encode_pair(self, first: str, second: str, maximum_length: int | None = None) -> Encoding:
        """``[CLS] first [SEP] second [SEP]``; segments 0 and 1; the longer text is cut first.

        编码一对文本，超长时先截较长者。

        Raises: UserError where `maximum_length` has no room for the special tokens.
        """
        pieces = self.pieces(first), self.pieces(second)
        encoding = frame_pair(self._vocabulary, *pieces, maximum_length, self.convention.pair_lengths)
        return self._shown(encoding, (first, second))

    def pieces(self, text: str) -> Pieces:
        """Ids and offsets of a text with nothing put around it. 仅文本本身的编号与位置。"""
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        text = self.convention.prepare(text, self.rules)
        start = 0
        if self._atomic is not None:
            for match in self._atomic.finditer(text):
                self._cutter.cut(text, start, match.start(), ids, offsets)
                ids.append(self._vocabulary.ids[match.group()])
                offsets.append(match.span())
                start = match.end()
        self._cutter.cut(text, start, len(text), ids, offsets)
        return Pieces(ids, offsets)

    def decode(self, ids: Sequence[int], *, skip_specials: bool = True) -> str:
        """Text of ids: pieces joined, blanks only where Latin words need them; added tokens stay.

        解码为可读文本。

        In bert4keras everything from ``[`` to ``]`` is left out, and blanks stand by its own rules.
        Raises: UserError for an id out of range.
        """
        dropped = frozenset(self._vocabulary.specials.names() if skip_specials else ())
        return self.convention.join(
            token for token in self._vocabulary.tokens_of(ids) if token not in dropped
        )

    def save(self, folder: str | Path) -> None:
        """Write vocab.txt and tokenizer_config.json, which `transformers` reads as well.

        保存词表与配置。

        Raises: UserError where they cannot be written.
        """
        settings = wordpiece_files.Settings(
            self._vocabulary,
            lowercase=self.rules.lowercase,
            strip_accents=self.rules.strip_accents,
            split_chinese=self.rules.split_chinese,
            longest_word=self.longest_word,
            read_specials=self.read_specials,
            convention=self.convention.name,
            segmenter=None if self.segmenter is None else self.segmenter.name,
        )
        wordpiece_files.write(folder, settings)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        lowercase: bool | None = None,
        convention: str | None = None,
        segmenter: str | None = None,
    ) -> WordPieceTokenizer:
        """Read a folder with vocab.txt or tokenizer.json, or a vocab.txt itself; what is given here is preferred.

        从文件夹或 vocab.txt 读取分词器；此处给出的选项优先。

        Without a word in the files, letters are lowered. `convention` is transformers or bert4keras;
        `segmenter` is rjieba, jieba or auto.
        Raises: UserError naming the file that is missing or cannot be used, or the option that is unknown.
        """
        settings = wordpiece_files.read(path)
        stored = settings.lowercase is not False
        lower = stored if lowercase is None else lowercase
        cutter = segmenter or settings.segmenter
        return cls(
            settings.vocabulary,
            lower,
            strip_accents=settings.strip_accents if lower == stored else None,
            split_chinese=settings.split_chinese is not False,
            longest_word=settings.longest_word,
            read_specials=settings.read_specials,
            convention=conventions.named(convention or settings.convention or TRANSFORMERS.name),
            segmenter=None if cutter is None else word_segmentation.segmenter(cutter),
        )

    def _new_cutter(self) -> Cutter:
        pieces = GreedyPieces(self._vocabulary, self.rules, self.convention, self.longest_word)
        if self.segmenter is not None:
            return SegmentCutter(pieces, self.segmenter)
        return ChunkCutter(self._vocabulary, pieces)

    def _shown(self, encoding: Encoding, texts: Sequence[str]) -> Encoding:
        """The tokens as the convention shows them."""
        unknown = self._vocabulary.unk_id
        if not self.convention.keeps_unknown_text or unknown not in encoding.ids:
            return encoding
        prepared = [self.convention.prepare(text, self.rules) for text in texts]
        tokens = list(encoding.tokens)
        for place, (start, end) in enumerate(encoding.offsets):
            if encoding.ids[place] == unknown and end > start:
                part = prepared[encoding.segments[place]][start:end]
                tokens[place] = "".join(word.text for word in self.convention.words(part, self.rules))
        return replace(encoding, tokens=tokens)


def character_pieces(text: str) -> list[str]:
    """The characters of a text as WordPiece writes them: ``ab 中`` is ``a``, ``##b``, ``中``.

    把文本拆成字符级子词，用于建立覆盖所有字符的词表。

    A vocabulary built from these leaves no word of known characters unknown.
    """
    return [
        character if place == 0 else CONTINUATION + character
        for word in words(text)
        for place, character in enumerate(word.text)
    ]


def _atomic_pattern(tokens: Iterable[str]) -> re.Pattern[str] | None:
    longest_first = sorted((token for token in tokens if token), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
