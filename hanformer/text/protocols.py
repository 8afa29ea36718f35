"""What every tokenizer gives: an `Encoding`, and the protocol that WordPiece and its neighbours follow.

分词器的统一接口与编码结果。
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hanformer.errors import UserError
from hanformer.text.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text, or a pair of texts, as tokens. 编码结果。

    All lists are of one length. `offsets[i]` is (start, end): token i stands for `text[start:end]` of the
    original text, the second one where `segments[i]` is 1; a special token that was put around the text has
    (0, 0). Else a token is empty, start = end, only where it is the blank ▁ that SentencePiece puts before a
    text, and CPM before every word, at the place where that begins: a piece of its own where no piece begins
    with both. Tokens share a place where one character becomes several, bytes among them. `truncated` says
    that tokens were cut off to keep to a maximum length.
    """

    ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    segments: list[int] = field(default_factory=list)
    truncated: bool = False

    def __len__(self) -> int:
        return len(self.ids)


class Tokenizer(Protocol):
    """Cuts text into tokens, with each token's exact place in the original text. 分词器协议。"""

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens and their ids. 词表。"""
        ...

    def encode(
        self, text: str, maximum_length: int | None = None, *, special_tokens: bool = True
    ) -> Encoding:
        """``[CLS] text [SEP]``; with `special_tokens` false the text alone. 编码一段文本。"""
        ...

    def encode_pair(self, first: str, second: str, maximum_length: int | None = None) -> Encoding:
        """``[CLS] first [SEP] second [SEP]``; segments 0 and 1. 编码一对文本。"""
        ...

    def decode(self, ids: Sequence[int], *, skip_specials: bool = True) -> str:
        """Readable text of ids. 解码。"""
        ...

    def save(self, folder: str | Path) -> None:
        """Write what `load` of the same class reads. 保存。"""
        ...


@dataclass(frozen=True, slots=True)
class Pieces:
    """Ids and places of one text, before anything is put around it. 未加特殊词元的编号与位置。"""

    ids: list[int]
    offsets: list[tuple[int, int]]


PairLengths = Callable[[int, int, int], tuple[int, int]]
"""(length, length, room) of two texts to how many tokens of each are kept. 成对截断规则。"""


def pair_lengths(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of each of two texts are kept in `room`, the longer one being cut first.

    两段文本各保留多少词元（最长优先）。

    If the shorter one fits in half of the room, it stays whole; else the room is halved, and an odd token
    goes to the longer one, or to the second of equals.
    Source: `truncate_encodings` of the tokenizers library (longest first).
    """
    if first + second <= room:
        return first, second
    shorter, longer = min(first, second), max(first, second)
    longer = shorter if shorter > room else max(shorter, room - shorter)
    if shorter + longer > room:
        shorter, longer = room // 2, room // 2 + room % 2
    return (longer, shorter) if first > second else (shorter, longer)


def bare(vocabulary: Vocabulary, pieces: Pieces, maximum_length: int | None) -> Encoding:
    """The pieces alone, cut at their end to keep to `maximum_length`. 不加特殊词元。"""
    room = _room(maximum_length, 0)
    ids, offsets = pieces.ids[:room], pieces.offsets[:room]
    return encoding(vocabulary, ids, offsets, [0] * len(ids), len(ids) < len(pieces.ids))


def frame(vocabulary: Vocabulary, pieces: Pieces, maximum_length: int | None) -> Encoding:
    """``[CLS] pieces [SEP]``, the pieces cut at their end to keep to `maximum_length`.

    加上首尾特殊词元，超长则截断并标记。

    Raises: UserError where `maximum_length` has no room for the two special tokens.
    """
    room = _room(maximum_length, 2)
    truncated = room is not None and len(pieces.ids) > room
    kept = Pieces(pieces.ids[:room], pieces.offsets[:room]) if truncated else pieces
    ids = [vocabulary.cls_id, *kept.ids, vocabulary.sep_id]
    offsets = [(0, 0), *kept.offsets, (0, 0)]
    return encoding(vocabulary, ids, offsets, [0] * len(ids), truncated)


def frame_pair(
    vocabulary: Vocabulary,
    first: Pieces,
    second: Pieces,
    maximum_length: int | None,
    kept: PairLengths = pair_lengths,
) -> Encoding:
    """``[CLS] first [SEP] second [SEP]``, cut by `kept` to keep to `maximum_length`.

    拼接一对文本，超长则按最长优先截断并标记。

    Raises: UserError where `maximum_length` has no room for the three special tokens.
    """
    lengths = (len(first.ids), len(second.ids))
    room = _room(maximum_length, 3)
    left, right = lengths if room is None else kept(*lengths, room)
    cls, sep = vocabulary.cls_id, vocabulary.sep_id
    ids = [cls, *first.ids[:left], sep, *second.ids[:right], sep]
    offsets = [(0, 0), *first.offsets[:left], (0, 0), *second.offsets[:right], (0, 0)]
    segments = [0] * (left + 2) + [1] * (right + 1)
    return encoding(vocabulary, ids, offsets, segments, (left, right) != lengths)


def encoding(
    vocabulary: Vocabulary,
    ids: list[int],
    offsets: list[tuple[int, int]],
    segments: list[int],
    truncated: bool = False,
) -> Encoding:
    """An `Encoding` with the tokens of its ids. 补上词元。"""
    return Encoding(ids, list(map(vocabulary.tokens.__getitem__, ids)), offsets, segments, truncated)


def _room(maximum_length: int | None, specials: int) -> int | None:
    if maximum_length is None:
        return None
    if maximum_length < specials:
        raise UserError(
            f"maximum_length is {maximum_length}, expected at least {specials}, for the special tokens"
        )
    return maximum_length - specials
