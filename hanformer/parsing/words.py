"""The words of a recurrent language model: how a sentence is cut, and the id of every word."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hanformer.errors import UserError
from hanformer.text.basic import is_chinese
from hanformer.text.vocabulary import SpecialTokens, Vocabulary
from hanformer.text.word_segmentation import segmenter
from hanformer.weights.atomic import write_text

UNKNOWN, END = "<unk>", "<eos>"
WORDS_FILE, OPTIONS_FILE = "words.txt", "words.json"
_SPECIALS = SpecialTokens(pad=None, unk=UNKNOWN, cls=None, sep=None, mask=None)
#: Characters: words of Chinese have two or so.
_LONG = 6
#: So much of a sentence is repeated in a message.
_SHOWN = 120
_NUMBER = re.compile(r"[0-9][0-9.,/:-]*")


def _chinese(text: str) -> list[str]:
    return [word for word in segmenter().cut(text) if not word.isspace()]


def _characters(text: str) -> list[str]:
    return [character for character in text if not character.isspace()]


def _length_of_chinese(words: Sequence[str]) -> float:
    """The mean length of words, where half of them or more hold ideographs; else 0."""
    chinese = [len(word) for word in words if any(map(is_chinese, word))]
    return sum(chinese) / len(chinese) if 2 * len(chinese) >= len(words) else 0.0


#: How a line is cut into words.
SEGMENTERS: dict[str, Callable[[str], list[str]]] = {
    "spaces": str.split,
    "jieba": _chinese,
    "characters": _characters,
}


@dataclass(frozen=True)
class Words:
    """A vocabulary of words, with <unk> and <eos>, and the way that text is cut into them.

    词表与切词方式。

    `segment` is spaces, jieba (extra `text`) or characters.
    Raises UserError for another way, and where <unk> or <eos> is missing.
    """

    vocabulary: Vocabulary
    segment: str = "spaces"

    def __post_init__(self) -> None:
        if self.segment not in SEGMENTERS:
            raise UserError(f"segment: expected one of {', '.join(SEGMENTERS)}, got {self.segment!r}")
        if END not in self.vocabulary:
            raise UserError(f"expected the word {END} in the vocabulary, as the end of every line")

    @classmethod
    def learn(
        cls, lines: Iterable[str], segment: str = "spaces", *, size: int | None = None, minimum_count: int = 1
    ) -> Words:
        """The most frequent words of lines, at most `size` with <unk> and <eos>; raises UserError where none is left.

        由文本统计词表。
        """
        if segment not in SEGMENTERS:
            raise UserError(f"segment: expected one of {', '.join(SEGMENTERS)}, got {segment!r}")
        found = Vocabulary.build(
            lines,
            SEGMENTERS[segment],
            size=size,
            minimum_count=minimum_count,
            specials=_SPECIALS,
            added=(END,),
        )
        if len(found) <= len({UNKNOWN, END}):
            raise UserError(
                f"expected words that occur {minimum_count} times or more, and a vocabulary with room for them, found "
                "none; lower minimum_count, raise model.vocabulary_size, or look at the text"
            )
        if segment == "spaces" and (length := _length_of_chinese(found.tokens)) > _LONG:
            warnings.warn(
                f"the text is cut at spaces, into pieces of {length:.0f} characters: Chinese words have no spaces "
                "between them; choose --set segment=jieba or --set segment=characters",
                stacklevel=2,
            )
        return cls(found, segment)

    @property
    def end_id(self) -> int:
        """The id of <eos>."""
        return self.vocabulary[END]

    @property
    def unknown_id(self) -> int:
        """The id of <unk>."""
        return self.vocabulary[UNKNOWN]

    def __len__(self) -> int:
        return len(self.vocabulary)

    def cut(self, text: str) -> list[str]:
        """The words of a text. 切词。"""
        return SEGMENTERS[self.segment](text)

    def read(self, text: str) -> list[str]:
        """The words of a sentence; raises UserError where it has none, or none that is known. 切词并检查。"""
        words = self.cut(text)
        if not words:
            raise UserError(f"expected a sentence with words, got {text!r}")
        if self.unknown_share([words]) == 1:
            shown = " / ".join(words)
            raise UserError(
                f"the model knows no word of {shown[:_SHOWN] + '…' * (len(shown) > _SHOWN)!r}; its text was cut by "
                f"{self.segment}: write the sentence as that text is written"
            )
        return words

    def ids(self, words: Sequence[str]) -> list[int]:
        """The ids of words: as they stand, else in small letters, else N for a number, else <unk>.

        词到编号：依次尝试原样、小写、数字归一为 N，最后为未知词。
        """
        return [self._id(word) for word in words]

    def _id(self, word: str) -> int:
        number = "N" if _NUMBER.fullmatch(word) else word.lower()
        known = (form for form in (word, word.lower(), number) if form in self.vocabulary)
        return self.vocabulary[next(known, UNKNOWN)]

    def stream(self, lines: Iterable[str]) -> list[int]:
        """The ids of all lines one after the other, each closed by <eos>. 首尾相接的编号序列。"""
        return [id_ for line in lines for id_ in (*self.ids(self.cut(line)), self.end_id)]

    def unknown(self, words: Sequence[str]) -> list[str]:
        """Those of some words that are not in the vocabulary. 未知词。"""
        return [word for word, id_ in zip(words, self.ids(words), strict=True) if id_ == self.unknown_id]

    def unknown_share(self, sentences: Iterable[Sequence[str]]) -> float:
        """The share of words that are not in the vocabulary; 0 where there are no words. 未知词的比例。"""
        ids = [id_ for words in sentences for id_ in self.ids(words)]
        return ids.count(self.unknown_id) / max(len(ids), 1)

    def save(self, folder: str | Path) -> None:
        """Writes words.txt and words.json. 保存。"""
        self.vocabulary.save(Path(folder) / WORDS_FILE)
        write_text(Path(folder) / OPTIONS_FILE, json.dumps({"segment": self.segment}) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> Words:
        """What `save` wrote; raises UserError where a file is missing or broken. 读取。"""
        path = Path(folder) / OPTIONS_FILE
        try:
            segment = json.loads(path.read_text(encoding="utf-8"))["segment"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: cannot be read ({error}); the folder is incomplete") from None
        return cls(Vocabulary.from_file(path.with_name(WORDS_FILE), _SPECIALS, (END,)), segment)
