"""Words and entities as JSON records hold them, checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hanformer.errors import UserError
from hanformer.tasks.tag.spans import TextSpan

_NAMES: Final = ("entities", "spans", "label", "labels")
_KIND: Final = ("type", "label", "kind", "entity_type")


def words_of_record(record: Mapping[str, Any], place: str) -> list[str]:
    """The list `words` of a record. Raises UserError for anything else than words without blanks. 词列表。"""
    words = record.get("words")
    if not isinstance(words, list) or not all(isinstance(w, str) and w.split() == [w] for w in words):
        raise UserError(f"{place}: expected words: a list of texts without blanks, got {words!r}")
    return list(words)


def spans_of_record(record: Mapping[str, Any], place: str) -> tuple[str, tuple[TextSpan, ...]]:
    """The text of a record and its entities, in any of these forms:

    读取文本与实体。

    {"text": ..., "entities": [{"start": 0, "end": 2, "type": "PER"}]}, end exclusive, in characters; the list may be
    named spans, label or labels, its items may be [0, 2, "PER"]; or CLUENER's "label": {"PER": {"小明": [[0, 1]]}},
    whose ends are inclusive. Raises UserError for other forms, a span outside of the text, and one whose own text is
    another.
    """
    text = record.get("text")
    name = next((name for name in _NAMES if name in record), None)
    if not isinstance(text, str) or name is None:
        raise UserError(f"{place}: expected text and entities, got {', '.join(sorted(record)) or 'nothing'}")
    listed = record[name]
    items = _of_surfaces(listed, place) if isinstance(listed, Mapping) else _of_list(listed, place)
    return text, tuple(
        sorted({_checked(item, text, place) for item in items}, key=lambda span: span[1:] + span[:1])
    )


_Item = tuple[Any, Any, Any, Any]
"""(kind, start, end, own text or None)"""


def _of_list(listed: Any, place: str) -> Iterator[_Item]:
    if not isinstance(listed, list):
        raise UserError(f"{place}: expected a list of entities, got {listed!r}")
    for item in listed:
        if isinstance(item, Mapping):
            kind = next((item[name] for name in _KIND if name in item), None)
            yield kind, item.get("start"), item.get("end"), item.get("text")
        elif isinstance(item, list) and len(item) == 3:
            yield item[2], item[0], item[1], None
        else:
            raise UserError(f"{place}: expected an entity with start, end and type, got {item!r}")


def _of_surfaces(listed: Mapping[str, Any], place: str) -> Iterator[_Item]:
    for kind, surfaces in listed.items():
        if not isinstance(surfaces, Mapping):
            raise UserError(f"{place}: expected the entities of type {kind} by their text, got {surfaces!r}")
        for own, places in surfaces.items():
            for pair in places if isinstance(places, list) else [places]:
                if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[1], int):
                    raise UserError(f"{place}: expected [first, last] of {own!r}, got {pair!r}")
                yield kind, pair[0], pair[1] + 1, own


def _checked(item: _Item, text: str, place: str) -> TextSpan:
    kind, start, end, own = item
    numbers = type(start) is int and type(end) is int
    if not numbers or not isinstance(kind, str) or not kind or not 0 <= start < end <= len(text):
        raise UserError(
            f"{place}: expected an entity of a type, from start to end (exclusive) within {len(text)} characters, "
            f"got type {kind!r}, start {start!r}, end {end!r}"
        )
    if own is not None and own != text[start:end]:
        raise UserError(
            f"{place}: the entity {own!r} stands from {start} to {end}, where the text has {text[start:end]!r}"
        )
    return TextSpan(kind, start, end)
