"""Passages joined and cut into rows of at most so many tokens; no row holds two documents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from hanformer.tasks.pretrain.corpus import Passage
from hanformer.tasks.pretrain.words import Reader

#: After the end of a sentence, with the quotes and brackets that close there.
_ENDS = re.compile(r"(?<=[。！？；!?;…])(?![。！？；!?;…”’」』）)\"'])|(?<=[。！？…][”’」』）])")

Row = tuple[list[int], list[bool]]
"""Ids, and which of them begin a word. 编号与词首标记。"""


def rows(passages: Iterable[Passage], read: Reader, room: int) -> Iterator[Row]:
    """Rows of at most `room` tokens: as many whole sentences of one document as fit, in order.

    把同一文档中相邻的句子拼成不超过 room 个词元的行；文档之间不相混。

    A sentence that is longer than a row is cut before a word.
    """
    ids: list[int] = []
    begins: list[bool] = []
    for text, starts_document in sentences(passages):
        more, marks = read(text)
        if ids and (starts_document or len(ids) + len(more) > room):
            yield ids, begins
            ids, begins = [], []
        ids, begins = ids + more, begins + marks
        start = 0
        while len(ids) - start > room:
            cut = _last_beginning(begins, start, room)
            yield ids[start:cut], begins[start:cut]
            start = cut
        ids, begins = ids[start:], begins[start:]
    if ids:
        yield ids, begins


def sentences(passages: Iterable[Passage]) -> Iterator[Passage]:
    """Passages cut after the ends of sentences. 按句末标点切分。"""
    for text, begins in passages:
        for part in _ENDS.split(text):
            if part.strip():
                yield Passage(part, begins)
                begins = False


def _last_beginning(begins: list[bool], start: int, room: int) -> int:
    """Where a row that starts there ends: at the last word beginning within the room, else where the room ends."""
    return next((place for place in range(start + room, start, -1) if begins[place]), start + room)
