"""WoBERT: words as tokens. A BERT vocabulary with the most frequent words, and the pieces that each one was.

WoBERT：以词为单位。由 BERT 词表构造含高频词的词表，并给出每个词原来的子词。

    vocabulary = BERT's without what is redundant + the N most frequent words that it lacks;
    row of a word = mean of the rows of the pieces that BERT's tokenizer gives for it.

The published vocabularies have 33,586 tokens (20,002 words) and, in the Plus form, 50,000.

Source: Su 2020, "Speed up without losing quality: Chinese WoBERT", kexue.fm 7758.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hanformer.errors import UserError
from hanformer.text.bert4keras_rules import is_chinese
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.vocabulary_tools import VocabularyChange, extended, simplified
from hanformer.text.word_segmentation import AUTOMATIC, Segmenter, segmenter
from hanformer.text.wordpiece import WordPieceTokenizer

WORDS: Final = 20000
"""How many words are added by default. 默认加入的词数。"""


def load(path: str | Path, *, convention: str | None = None, cut_by: str = AUTOMATIC) -> WordPieceTokenizer:
    """A tokenizer of a WoBERT folder or vocab.txt: words that the vocabulary holds, else BERT's pieces.

    读取 WoBERT 分词器：词表中的词为一个词元，其余按 BERT 切分。

    `cut_by` is rjieba, jieba or auto; `convention` as of `WordPieceTokenizer.load`.
    Raises: UserError, as `WordPieceTokenizer.load`, and where no segmenter is installed.
    """
    return WordPieceTokenizer.load(path, convention=convention, segmenter=cut_by)


def count_words(texts: Iterable[str], cut_by: Segmenter | None = None) -> Counter[str]:
    """How often each word of ideographs alone occurs in lowered texts.

    统计文本中（全为汉字的）词的频次。
    """
    cutter = segmenter() if cut_by is None else cut_by
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(cutter.cut(text.lower()))
    return Counter({word: count for word, count in counts.items() if _is_word(word)})


def word_vocabulary(
    vocabulary: Vocabulary, counts: Counter[str], words: int = WORDS, *, lowercase: bool = True
) -> VocabularyChange:
    """A WoBERT vocabulary of a BERT vocabulary and counted words; equal counts are ordered by code point.

    由 BERT 词表与词频构造 WoBERT 词表，给出 keep_tokens 与 compound_tokens。

    Words with a character that the vocabulary lacks are passed over, since they would begin as unknown; the
    published vocabularies hold some such characters.
    Raises: UserError for fewer than one word.
    """
    if words < 1:
        raise UserError(f"words is {words}, expected at least 1")
    base = simplified(vocabulary)
    tokenizer = WordPieceTokenizer(base.vocabulary, lowercase)
    pieces: dict[str, list[int]] = {}
    for word in sorted(counts, key=lambda word: (-counts[word], word)):
        found = tokenizer.pieces(word).ids
        if word not in base.vocabulary and base.vocabulary.unk_id not in found:
            pieces[word] = found
        if len(pieces) == words:
            break
    larger = extended(base.vocabulary, pieces, pieces.__getitem__)
    return VocabularyChange(larger.vocabulary, base.keep_tokens, larger.compound_tokens)


def _is_word(word: str) -> bool:
    return all(map(is_chinese, word))
