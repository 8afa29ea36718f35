"""CPM's pipeline: words by jieba, blanks and line ends as signs, then SentencePiece; with exact offsets.

CPM 的分词流程：jieba 切词，空格与换行换成符号，再用 SentencePiece 切分；位置精确到原文。

    words = jieba(text);  in each word " " becomes ▂ and "\\n" becomes ▃;  pieces = SentencePiece(" ".join(words))

Nothing is put around a text, and id 0 is a token like others. The first released model has no piece ▃: that
token is its ``<cls>``, id 3, which also ends an answer.

Source: kexue.fm/archives/7912; Zhang et al. 2020, arXiv 2012.00413; the released code of CPM-1.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from hanformer.errors import UserError
from hanformer.text.placed_text import PlacedText, readable
from hanformer.text.protocols import Pieces
from hanformer.text.sentencepiece_kinds import CPM
from hanformer.text.sentencepiece_model import CONTROL, NORMAL, SPACE, SentencePieceModel
from hanformer.text.sentencepiece_tokenizer import SentencePieceTokenizer, model_file

BLANK: Final = "\u2582"
"""How CPM writes a blank. 空格的写法。"""

LINE_END: Final = "\u2583"
"""How CPM writes a line end. 换行的写法。"""

Words = Callable[[str], Iterable[str]]
"""Cuts a text into words whose concatenation is the text. 分词函数。"""

_TO_SIGNS: Final = str.maketrans({" ": BLANK, "\n": LINE_END})
_FROM_SIGNS: Final = str.maketrans({BLANK: " ", LINE_END: "\n"})


class CpmTokenizer(SentencePieceTokenizer):
    """CPM's tokenizer; `words` cuts Chinese words, by default jieba with new words found. CPM 分词器。

    Raises: UserError where the model has no token for a line end.
    """

    def __init__(self, model: SentencePieceModel, words: Words | None = None) -> None:
        super().__init__(model, CPM)
        self._words = words or chinese_words
        self._line_end = _line_end(model)
        line_piece = model.pieces[self._line_end]
        self._translated = line_piece.text != LINE_END or line_piece.kind != NORMAL

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.model, self._words)

    @property
    def line_end_id(self) -> int:
        """The id of a line end, where an answer to a prompt of examples ends. 换行的编号。"""
        return self._line_end

    def pieces(self, text: str) -> Pieces:
        """Ids and offsets of a text. 编号与位置。"""
        made = joined(readable(text), self._words)
        found = self.pieces_of(made)
        if not self._translated:
            return found
        ids = [
            self._line_end if number == self._unknown and text[start:end] == "\n" else number
            for number, (start, end) in zip(found.ids, found.offsets, strict=True)
        ]
        return Pieces(ids, found.offsets)

    def decode(self, ids: Sequence[int], *, skip_specials: bool = True) -> str:
        """Text of ids: pieces one after another without blanks, then ▂ and ▃ as what they stand for.

        解码：去掉空格，再还原 ▂ 与 ▃。

        Raises: UserError for an id out of range.
        """
        parts = []
        for number, token in zip(ids, self._vocabulary.tokens_of(ids), strict=True):
            if number == self._line_end:
                parts.append(LINE_END)
            elif not (skip_specials and token in self._silent):
                parts.append(token)
        return "".join(parts).replace(SPACE, "").replace(" ", "").translate(_FROM_SIGNS)

    @classmethod
    def load(cls, path: str | Path, kind: str | None = None) -> CpmTokenizer:
        """Read CPM's .model file, or a folder with one. Raises: UserError naming the file. 读取模型。"""
        if kind not in (None, CPM.name):
            raise UserError(f"kind {kind!r}: CPM's tokenizer reads the kind cpm; use SentencePieceTokenizer")
        return cls(SentencePieceModel.load(model_file(Path(path))))


def joined(text: str, words: Words) -> PlacedText:
    """The words with signs for blanks and line ends, joined by blanks that stand for nothing.

    切词、替换符号，并以（不对应原文的）空格连接。
    """
    parts: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    place = 0
    for word in words(text):
        if parts:
            starts.append(place)
            ends.append(place)
        parts.append(word.translate(_TO_SIGNS))
        starts += range(place, place + len(word))
        ends += range(place + 1, place + len(word) + 1)
        place += len(word)
    return PlacedText(" ".join(parts), starts, ends)


def chinese_words(text: str) -> Iterable[str]:
    """The words of jieba, new words found by its hidden Markov model as CPM has it.

    jieba 切词（开启新词发现）；优先用 rjieba。

    Raises: UserError where neither rjieba nor jieba is installed.
    """
    return _cutter()(text)


@cache
def _cutter() -> Words:
    if importlib.util.find_spec("jieba") is not None:
        made = importlib.import_module("jieba").Tokenizer()
        # Its own way would unmarshal a cache file that anyone may have put into the folder for temporary files.
        made.FREQ, made.total = made.gen_pfdict(made.get_dict_file())
        made.initialized = True
        return made.cut
    if importlib.util.find_spec("rjieba") is not None:
        return importlib.import_module("rjieba").cut
    raise UserError("CPM's tokenizer needs jieba or rjieba: pip install 'hanformer[text]'")


def _line_end(model: SentencePieceModel) -> int:
    for wanted in (LINE_END, "<cls>"):
        for place, piece in enumerate(model.pieces[:64]):
            if piece.text == wanted and piece.kind in (NORMAL, CONTROL):
                return place
    raise UserError(f"{model.origin}: has neither {LINE_END} nor <cls> for line ends; is it CPM's model?")
