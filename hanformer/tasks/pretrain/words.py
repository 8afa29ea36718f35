"""Where words begin among the tokens of a text, for masks that hide whole words."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

from hanformer.errors import UserError
from hanformer.text.cutting import CONTINUATION
from hanformer.text.protocols import Encoding, Tokenizer
from hanformer.text.word_segmentation import AUTOMATIC, Segmenter, segmenter

#: A text to ids, and to bools that say which of them begin a word.
Reader = Callable[[str], tuple[list[int], list[bool]]]


def reader(tokenizer: Tokenizer, words: str) -> Reader:
    """How texts become tokens with word beginnings: by a segmenter, or every token that is no ``##`` piece.

    把文本转为词元，并标出词首；words 为分词器名，none 表示逐字。

    Raises UserError for a segmenter that is not installed (auto takes what there is).
    """
    cutter = _segmenter(words)

    def read(text: str) -> tuple[list[int], list[bool]]:
        encoding = tokenizer.encode(text, special_tokens=False)
        if cutter is None:
            return encoding.ids, [not token.startswith(CONTINUATION) for token in encoding.tokens]
        return encoding.ids, _beginnings(encoding, cutter, text)

    return read


def _segmenter(words: str) -> Segmenter | None:
    if words == "none":
        return None
    try:
        return segmenter(words)
    except UserError:
        if words == AUTOMATIC:
            return None
        raise


def _beginnings(encoding: Encoding, cutter: Segmenter, text: str) -> list[bool]:
    """A token begins a word unless it starts inside the word in which the token before it started."""
    ends = list(accumulate(map(len, cutter.cut(text))))
    found: list[bool] = []
    place, last = 0, -1
    for start, _ in encoding.offsets:
        while place < len(ends) and ends[place] <= start:
            place += 1
        found.append(place != last)
        last = place
    return found
