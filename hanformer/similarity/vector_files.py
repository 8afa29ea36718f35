"""Texts read from files, and their vectors written to one. 文本的读取与向量的写出。"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from hanformer.data.files import iterate_json_records, lines
from hanformer.errors import UserError
from hanformer.similarity.encode import Block, Encoder
from hanformer.weights.atomic import writing_together

STANDARD_INPUT: Final = "-"
_JSON_ENDINGS: Final = (".jsonl", ".json", ".jsonl.gz", ".json.gz")


def read_texts(source: str | Path, field: str | None = None) -> list[str]:
    """The texts of a file: one a line, or the field of that name of JSON records; "-" is standard input.

    读取文本：每行一条，或 JSON 记录的某个字段；"-" 为标准输入。

    An empty line is an empty text, so that rows stay beside lines. Raises UserError naming the file and the place,
    where it cannot be read, a record lacks the field, or JSON comes without the name of a field; and for no text.
    """
    if field is None and str(source).lower().endswith(_JSON_ENDINGS):
        raise UserError(f"{source}: say which field of the records holds the text, as in --field text")
    if field is None:
        texts = list(_standard_lines(sys.stdin.buffer) if source == STANDARD_INPUT else lines(source))
    else:
        records = _standard_records() if source == STANDARD_INPUT else iterate_json_records(source)
        texts = list(_fields(str(source), records, field))
    if not texts:
        raise UserError(f"{source}: expected texts, found none; check that this is the file you meant")
    return texts


def _fields(source: str, records: Iterable[tuple[int, object]], field: str) -> Iterator[str]:
    for number, record in records:
        text = record.get(field) if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise UserError(f"{source}: record {number} {_instead(record, field)}")
        yield text


def _instead(record: object, field: str) -> str:
    """What a record holds where a text was expected."""
    if not isinstance(record, dict):
        return f"is a {type(record).__name__}, expected an object with the field {field!r}"
    if field not in record:
        return f"has no field {field!r}; it holds {', '.join(map(str, list(record)[:6]))}"
    held = json.dumps(record[field], ensure_ascii=False)
    shown = held if len(held) <= 40 else held[:40] + "..."
    return f"has {shown} in the field {field!r}, expected a text in quotes; name another field, or put quotes around"


def _standard_lines(stream: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"standard input, line {number}: expected UTF-8 text ({error.reason})") from None


def _standard_records() -> Iterator[tuple[int, object]]:
    for number, line in enumerate(_standard_lines(sys.stdin.buffer), start=1):
        try:
            if line.strip():
                yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"standard input, line {number}: not a JSON record ({error})") from None


def write_vectors(
    path: str | Path, stages: Encoder, texts: Sequence[str], progress: Callable[[int], object] | None = None
) -> list[Block]:
    """Writes the vectors of texts as a .npy file, float32 [n, C]; the file appears when it is whole.

    把文本向量写成 .npy 文件（float32）；全部完成后才出现该文件。

    Some thousands of texts are held at a time. Returns what became of them, without the vectors. Raises UserError
    where the file cannot be written; an earlier one is then as it was.
    """
    target = Path(path)
    if target.suffix != ".npy" or target.is_dir():
        raise UserError(f"{path}: expected the name of a .npy file to write")
    told = []
    with writing_together(target.parent, [target.name]) as place, open(place(target.name), "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(texts), stages.size)}
        np.lib.format.write_array_header_1_0(file, header)
        for block in stages.blocks(texts, progress):
            file.write(block.vectors.float().numpy().astype("<f4", copy=False).tobytes())
            told.append(Block(block.vectors[:0], block.tokens, block.cut, block.empty))
    return told


def summary(out: Path, stages: Encoder, blocks: Sequence[Block], count: int, seconds: float) -> str:
    """A line on what was written and how fast. 写出情况与速度的一行说明。"""
    tokens = sum(block.tokens for block in blocks)
    return (
        f"{out}: {count:,} vectors of {stages.size} numbers; {seconds:.1f} s, "
        f"{count / seconds:,.0f} texts/s, {tokens / seconds:,.0f} tokens/s "
        f"({str(stages.dtype).removeprefix('torch.')}, {stages.device})"
    )
