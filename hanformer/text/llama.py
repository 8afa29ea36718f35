"""Llama's pieces as llama2.c writes them: tok512.bin, a list of scores and bytes.

读取 llama2.c 的分词文件（如 tok512.bin），转成 SentencePiece 模型。

Layout: the longest piece's length (int32), then for each piece its score (float32), its length (int32) and
its bytes. What a piece is, is not written: as in Llama's own model, id 0 stands for what is unknown, 1 and 2
for start and end, and 3 to 258 for the bytes.

Source: tokenizer.py and run.c of karpathy/llama2.c.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from hanformer.errors import UserError
from hanformer.text.sentencepiece_kinds import LLAMA
from hanformer.text.sentencepiece_model import (
    BPE,
    BYTE,
    CONTROL,
    SPACE,
    UNKNOWN,
    Cutting,
    Normalising,
    Piece,
    SentencePieceModel,
    read_bounded,
)
from hanformer.text.sentencepiece_tokenizer import SentencePieceTokenizer

_HEAD: Final = struct.Struct("<fi")
_FIXED: Final = (
    Piece("<unk>", 0.0, UNKNOWN),
    Piece("<s>", 0.0, CONTROL),
    Piece("</s>", 0.0, CONTROL),
    *(Piece(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)),
)


def load_llama2c(path: str | Path) -> SentencePieceTokenizer:
    """The tokenizer of a llama2.c file such as tok512.bin.

    读取 llama2.c 分词文件。

    Raises: UserError naming the file and the byte at which it is damaged.
    """
    model = read_llama2c(read_bounded(path), str(path))
    return SentencePieceTokenizer(model, LLAMA)


def read_llama2c(raw: bytes, origin: str = "llama2.c tokenizer") -> SentencePieceModel:
    """The SentencePiece model of the content of such a file. 文件内容转成 SentencePiece 模型。

    Raises: UserError naming `origin`, where the bytes are cut off or do not begin with Llama's pieces.
    """
    found = _entries(raw, origin)
    if [text for text, _ in found[3 : len(_FIXED)]] != [piece.text for piece in _FIXED[3:]]:
        raise UserError(f"{origin}: the pieces 3 to 258 are not <0x00> to <0xFF>; is this llama2.c's file?")
    normal = [Piece(text.replace(" ", SPACE), score) for text, score in found[len(_FIXED) :]]
    return SentencePieceModel(
        (*_FIXED, *normal),
        Cutting(BPE, byte_fallback=True),
        Normalising(single_blanks=False),
        origin=origin,
    )


def _entries(raw: bytes, origin: str) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    place = 4
    while place < len(raw):
        start = place + _HEAD.size
        score, length = _HEAD.unpack_from(raw, place) if start <= len(raw) else (0.0, -1)
        place = start + length
        if length < 0 or place > len(raw):
            raise UserError(f"{origin}: piece {len(found)} goes beyond the file's {len(raw)} bytes")
        try:
            found.append((raw[start:place].decode("utf-8"), score))
        except UnicodeDecodeError:
            raise UserError(f"{origin}: piece {len(found)} at byte {start} is not UTF-8") from None
    return found
