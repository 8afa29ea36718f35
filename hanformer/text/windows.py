"""Texts longer than a model: windows with a stride, each with offsets into the whole text.

长文本滑动窗口：每个窗口的偏移量都指向原文。
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile

from hanformer.errors import UserError
from hanformer.text.protocols import Encoding, Tokenizer


def windows(tokenizer: Tokenizer, text: str, maximum_length: int, stride: int) -> list[Encoding]:
    """A text as windows of at most `maximum_length` tokens, special tokens included; no token is lost.

    把长文本切成窗口；不丢失任何词元。

    Each window begins `stride` tokens after the one before, so that two neighbours share
    maximum_length - 2 - stride tokens (what the `tokenizers` library calls its stride). The last one ends with
    the text. A text that fits is one window. `truncated` is false: together the windows are the text.
    Raises: UserError where `stride` is less than 1, or would leave tokens out.
    """
    whole = tokenizer.encode(text)
    return list(_slide(whole, *_place(whole, tokenizer.encode("")), maximum_length, stride))


def pair_windows(
    tokenizer: Tokenizer, first: str, second: str, maximum_length: int, stride: int
) -> list[Encoding]:
    """A pair as windows: the whole first text in each, the second one slides. 问题不变，段落滑动。

    Otherwise as `windows`. Raises: UserError, as there, and where the first text leaves no room.
    """
    whole = tokenizer.encode_pair(first, second)
    return list(_slide(whole, *_place(whole, tokenizer.encode_pair(first, "")), maximum_length, stride))


def _slide(whole: Encoding, start: int, end: int, maximum_length: int, stride: int) -> Iterator[Encoding]:
    """Windows over whole[start:end], with all that stands before and after it in each."""
    room = maximum_length - (len(whole) - (end - start))
    if room < 0 or (room == 0 and end > start):
        raise UserError(
            f"maximum_length is {maximum_length}, and {maximum_length - room} tokens stand in every window; "
            "raise it, or shorten the first text"
        )
    if not 1 <= stride <= max(room, 1):
        raise UserError(
            f"stride is {stride}, expected 1 to {room}: a window has room for {room} tokens, and a larger "
            "stride would leave some out"
        )
    left = start
    while left + room < end:
        yield _window(whole, start, end, left, left + room)
        left += stride
    yield _window(whole, start, end, left, end)


def _window(whole: Encoding, start: int, end: int, left: int, right: int) -> Encoding:
    kept = [*range(start), *range(left, right), *range(end, len(whole))]
    return Encoding(
        [whole.ids[place] for place in kept],
        [whole.tokens[place] for place in kept],
        [whole.offsets[place] for place in kept],
        [whole.segments[place] for place in kept],
    )


def _place(whole: Encoding, without: Encoding) -> tuple[int, int]:
    """Where the text that slides begins and ends, by the encoding without it: what is left is in every window.

    An empty span shows no special token: a blank that SentencePiece put in front of a text has one too.
    """
    parts = zip(_tokens(whole), _tokens(without), strict=False)
    start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], parts))
    return start, len(whole) - (len(without) - start)


def _tokens(found: Encoding) -> Iterator[tuple[int, tuple[int, int], int]]:
    return zip(found.ids, found.offsets, found.segments, strict=True)
