"""What a model wants around a text, and around a pair of texts: written as templates such as ``A </s>``.

模型要求的首尾词元：用模板（如 ``A </s>``）描述单段与成对文本的排列。
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from hanformer.errors import UserError
from hanformer.text.protocols import Encoding, Pieces, encoding, pair_lengths
from hanformer.text.vocabulary import Vocabulary

TEXTS = ("A", "B")
"""The names of the first and the second text in a template. 模板中两段文本的名字。"""


@dataclass(frozen=True, slots=True)
class Template:
    """Words between blanks: A and B are the texts, others are tokens, ``</s>:1`` one of segment 1. 模板。

    The tokens of A have segment 0, those of B segment 1, and every other token 0 unless it says so.
    """

    single: str = "A"
    pair: str = "A B"


@dataclass(frozen=True, slots=True)
class _Token:
    number: int
    segment: int


class Frame:
    """A template with the ids of a vocabulary. 编号化的模板。

    Raises: UserError where the vocabulary lacks a token of the template.
    """

    def __init__(self, vocabulary: Vocabulary, template: Template) -> None:
        self.vocabulary = vocabulary
        self.template = template
        self._single = _parts(vocabulary, template.single)
        self._pair = _parts(vocabulary, template.pair)

    def around(self, pieces: Pieces, maximum_length: int | None = None) -> Encoding:
        """One text in its frame, cut at its end to keep to `maximum_length`.

        单段文本加首尾词元，超长则截断并标记。

        Raises: UserError where `maximum_length` has no room for the frame.
        """
        room = _room(self._single, maximum_length)
        return self._filled(self._single, [pieces], [len(pieces.ids) if room is None else room])

    def around_pair(self, first: Pieces, second: Pieces, maximum_length: int | None = None) -> Encoding:
        """Two texts in their frame, the longer one cut first. Raises: UserError, as `around`. 成对文本。"""
        room = _room(self._pair, maximum_length)
        lengths = (len(first.ids), len(second.ids))
        kept = lengths if room is None else pair_lengths(*lengths, room)
        return self._filled(self._pair, [first, second], kept)

    def _filled(self, parts: list[_Token | int], texts: list[Pieces], kept: Sequence[int]) -> Encoding:
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        segments: list[int] = []
        for part in parts:
            if isinstance(part, _Token):
                ids.append(part.number)
                offsets.append((0, 0))
                segments.append(part.segment)
                continue
            found = texts[part].ids[: kept[part]]
            ids += found
            offsets += texts[part].offsets[: kept[part]]
            segments += [part] * len(found)
        truncated = any(len(text.ids) > room for text, room in zip(texts, kept, strict=True))
        return encoding(self.vocabulary, ids, offsets, segments, truncated)


class FramedTokenizer(ABC):
    """A tokenizer whose subclasses cut the text, and whose template says what stands around it. 带模板的分词器。"""

    def __init__(self, vocabulary: Vocabulary, template: Template) -> None:
        self._vocabulary = vocabulary
        self._frame = Frame(vocabulary, template)
        self._bare = Frame(vocabulary, Template())

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens and their ids. 词表。"""
        return self._vocabulary

    @property
    def template(self) -> Template:
        """What stands around texts. 首尾模板。"""
        return self._frame.template

    @abstractmethod
    def pieces(self, text: str) -> Pieces:
        """Ids and offsets of a text with nothing put around it. 仅文本本身的编号与位置。"""

    def encode(
        self, text: str, maximum_length: int | None = None, *, special_tokens: bool = True
    ) -> Encoding:
        """The text in its frame as ids, tokens and offsets; with `special_tokens` false the text alone.

        编码一段文本；`maximum_length` 含首尾词元，截断时 `truncated` 为真。

        Raises: UserError where `maximum_length` has no room for the frame.
        """
        frame = self._frame if special_tokens else self._bare
        return frame.around(self.pieces(text), maximum_length)

    def encode_pair(self, first: str, second: str, maximum_length: int | None = None) -> Encoding:
        """Two texts in their frame; segments 0 and 1; the longer text is cut first.

        编码一对文本，超长时先截较长者。

        Raises: UserError where `maximum_length` has no room for the frame.
        """
        return self._frame.around_pair(self.pieces(first), self.pieces(second), maximum_length)


def _parts(vocabulary: Vocabulary, template: str) -> list[_Token | int]:
    parts: list[_Token | int] = []
    for word in template.split():
        token, _, segment = word.rpartition(":") if word[-2:] in (":0", ":1", ":2") else (word, "", "0")
        parts.append(TEXTS.index(word) if word in TEXTS else _Token(vocabulary[token], int(segment)))
    return parts


def _room(parts: list[_Token | int], maximum_length: int | None) -> int | None:
    if maximum_length is None:
        return None
    tokens = sum(isinstance(part, _Token) for part in parts)
    if maximum_length < tokens:
        raise UserError(
            f"maximum_length is {maximum_length}, expected at least {tokens}, for the special tokens"
        )
    return maximum_length - tokens
