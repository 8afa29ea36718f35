"""Trimming a SentencePiece model to one language: which pieces stay, and the ids that their rows had.

裁剪 SentencePiece 词表（如 mT5 → 中文）：保留哪些词元，以及它们原来的编号。

    kept = the first 259 pieces (special ones and bytes) + pieces seen often enough + the last 100 (signs)

The list of old ids is what a model is loaded with (`keep_tokens`); it may name rows beyond the pieces, which
an embedding often has.

Source: kexue.fm/archives/7867; the tokenizer folder of bojone/t5_in_bert4keras.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hanformer.errors import UserError
from hanformer.text.protocols import Tokenizer
from hanformer.text.sentencepiece_model import UNKNOWN, SentencePieceModel, read_bounded
from hanformer.weights.atomic import write_text


def count_pieces(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """How often each token stands in texts. 统计语料中各词元的频次。"""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(tokenizer.encode(text, special_tokens=False).tokens)
    return counts


def frequent_ids(
    model: SentencePieceModel,
    counts: Mapping[str, int],
    *,
    minimum_count: int = 1000,
    first: int = 259,
    last: int = 100,
    beyond: Sequence[int] = (),
) -> list[int]:
    """The ids to keep, ascending: the first, those seen at least `minimum_count` times, the last.

    按频次选出要保留的编号（升序）；`beyond` 是词表之外也要保留的嵌入行，如 mT5 的 250100 与 250101。

    Raises: UserError where `first` and `last` are no counts of pieces, or the unknown piece would go.
    """
    size = len(model.pieces)
    if first < 0 or last < 0 or first + last > size:
        raise UserError(f"first {first} and last {last}: expected counts from 0 to {size} in all")
    kept = [
        number
        for number, piece in enumerate(model.pieces)
        if number < first or number >= size - last or counts.get(piece.text, 0) >= minimum_count
    ]
    trimmed(model, kept)
    return [*kept, *beyond]


def trimmed(model: SentencePieceModel, keep: Sequence[int]) -> SentencePieceModel:
    """The model with the pieces of these ids alone, in this order; ids beyond its pieces are only rows.

    只保留指定编号的词元；超出词表的编号只对应嵌入行。

    Raises: UserError where ids are negative, double, or lack the unknown piece.
    """
    size = len(model.pieces)
    if len(set(keep)) != len(keep) or min(keep, default=0) < 0:
        raise UserError(f"{model.origin}: the ids to keep are negative or double; repair the list")
    rows = [place for place, number in enumerate(keep) if number >= size]
    if rows and rows[0] != len(keep) - len(rows):
        raise UserError(
            f"{model.origin}: id {keep[rows[0]]} is beyond the {size} pieces but not at the end of the list; "
            "does the list belong to this model?"
        )
    pieces = [model.pieces[number] for number in keep if number < size]
    if not any(piece.kind == UNKNOWN for piece in pieces):
        raise UserError(f"{model.origin}: the ids to keep lack the unknown piece; add it")
    return model.with_pieces(pieces)


def write_trimmed(model: str | Path, keep: Sequence[int], target: str | Path) -> Path:
    """Write the trimmed .model file, and beside it NAME_keep_tokens.json; gives the path of the list.

    写出裁剪后的 .model 与保留编号表（JSON），返回后者路径。

    Raises: UserError, as `trimmed`, or where a file cannot be read or written.
    """
    target = Path(target)
    made = trimmed(SentencePieceModel.load(model), keep)
    listed = target.with_name(f"{target.stem}_keep_tokens.json")
    made.save(target)
    write_text(listed, json.dumps(list(keep)) + "\n")
    return listed


def read_keep_tokens(path: str | Path) -> list[int]:
    """The ids of a JSON list. Raises: UserError naming the file, where it is none. 读取保留编号表。"""
    try:
        found = json.loads(read_bounded(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected a JSON list of ids ({error}); repair the file") from None
    if not isinstance(found, list) or not all(type(number) is int and number >= 0 for number in found):
        raise UserError(f"{path}: expected a JSON list of ids, whole numbers from 0 on; repair the file")
    return found
