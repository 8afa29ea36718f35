"""A SentencePiece .model file as a plain record: read with bounds, checked, and written.

SentencePiece 模型文件的安全读写：不依赖 protobuf 库，内容先检查后使用。

Source: Kudo & Richardson 2018, arXiv 1808.06226; the message `ModelProto` of the sentencepiece library.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from hanformer.errors import UserError
from hanformer.weights.atomic import write_bytes
from hanformer.weights.checks import Malformed
from hanformer.weights.protobuf import (
    BYTES,
    FIXED32,
    VARINT,
    Buffer,
    bytes_field,
    fields,
    real,
    real_field,
    stated_number_field,
)

NORMAL: Final = 1
UNKNOWN: Final = 2
CONTROL: Final = 3
USER_DEFINED: Final = 4
UNUSED: Final = 5
BYTE: Final = 6
"""What a piece is, as the file numbers it. 词元的类型编号。"""

UNIGRAM: Final = 1
BPE: Final = 2
"""How a model cuts, as the file numbers it. 切分算法的编号。"""

SPACE: Final = "\u2581"
"""How a blank is written in pieces. 词元中空格的写法。"""

_KINDS: Final = frozenset({NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE})
_LARGEST: Final = 1 << 28


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece, its score (log probability, or minus the rank of its merge) and its kind. 词元、分数与类型。"""

    text: str
    score: float = 0.0
    kind: int = NORMAL


@dataclass(frozen=True, slots=True)
class Cutting:
    """What the trainer's part of a file says about cutting. 切分方式。

    `algorithm`: 1 unigram, 2 BPE, 3 words, 4 characters. `byte_fallback`: what no piece covers is spelt in
    bytes. `blank_behind`: a blank ends a piece instead of opening it.
    """

    algorithm: int = UNIGRAM
    byte_fallback: bool = False
    blank_behind: bool = False


@dataclass(frozen=True, slots=True)
class Normalising:
    """What is done to a text before it is cut. 切分前的规范化设置。

    `rules`: the compiled character map, empty for none. `blank_before`: one blank is put in front of the
    text. `single_blanks`: runs of blanks become one, and outer ones go. `escape_blanks`: blanks become ``▁``.
    """

    rules: bytes = b""
    blank_before: bool = True
    single_blanks: bool = True
    escape_blanks: bool = True


@dataclass(frozen=True, slots=True)
class SentencePieceModel:
    """A SentencePiece model. SentencePiece 模型。

    `rest` keeps the other parts of the file as they were, so that what is read and written means the same.
    Raises: UserError, naming `origin`, where pieces are empty or double, or there is not one unknown piece.
    """

    pieces: tuple[Piece, ...]
    cutting: Cutting = Cutting()
    normalising: Normalising = Normalising()
    rest: bytes = field(default=b"", repr=False)
    origin: str = "SentencePiece model"

    def __post_init__(self) -> None:
        _check(self.pieces, self.origin)

    def with_pieces(self, pieces: Iterable[Piece]) -> SentencePieceModel:
        """The same model with other pieces. Raises: UserError, as the class. 换一份词元表。"""
        return replace(self, pieces=tuple(pieces))

    def to_bytes(self) -> bytes:
        """The content of a .model file. 序列化为 .model 文件内容。"""
        rest = self.rest or _settings(self.cutting, self.normalising)
        return b"".join(bytes_field(1, _piece_bytes(piece)) for piece in self.pieces) + rest

    def save(self, path: str | Path) -> None:
        """Write a .model file. Raises: UserError where it cannot be written. 写出 .model 文件。"""
        write_bytes(path, self.to_bytes())

    @classmethod
    def from_bytes(cls, raw: bytes, origin: str = "SentencePiece model") -> SentencePieceModel:
        """Read the content of a .model file.

        解析 .model 文件内容。

        Raises: UserError naming `origin`, where the bytes are no such model or its pieces cannot be used.
        """
        try:
            return _read(raw, origin)
        except (Malformed, UnicodeDecodeError) as error:
            raise UserError(
                f"{origin}: not a SentencePiece model ({error}); fetch the file again, or check its name"
            ) from None

    @classmethod
    def load(cls, path: str | Path) -> SentencePieceModel:
        """Read a .model file. Raises: UserError naming the file. 读取 .model 文件。"""
        return cls.from_bytes(read_bounded(path), str(path))


def read_bounded(path: str | Path, limit: int = _LARGEST) -> bytes:
    """The bytes of a file that is no larger than a tokenizer can be. 读取文件，限制大小。

    Raises: UserError naming the file, where it cannot be read or is larger than `limit` bytes.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > limit:
            raise UserError(f"{path}: {size} bytes, expected at most {limit}; this is no tokenizer's file")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None


def _read(raw: bytes, origin: str) -> SentencePieceModel:
    pieces: list[Piece] = []
    rest: list[bytes] = []
    parts: dict[int, bytes] = {}
    for number, kind, _, content in fields(raw):
        if number == 1 and kind == BYTES:
            pieces.append(_read_piece(content))
            continue
        if kind == BYTES:
            parts[number] = parts.get(number, b"") + bytes(content)
            rest.append(bytes_field(number, bytes(content)))
    if not pieces:
        raise UserError(f"{origin}: not a SentencePiece model, it holds no piece; check the file's name")
    return SentencePieceModel(
        tuple(pieces),
        _read_cutting(parts.get(2, b"")),
        _read_normalising(parts.get(3, b"")),
        b"".join(rest),
        origin,
    )


def _read_piece(message: Buffer) -> Piece:
    text, score, kind = "", 0.0, NORMAL
    for number, form, value, content in fields(message):
        if (number, form) == (1, BYTES):
            text = bytes(content).decode("utf-8")
        elif (number, form) == (2, FIXED32):
            score = real(content)
        elif (number, form) == (3, VARINT):
            kind = value
    return Piece(text, score, kind)


def _read_cutting(message: bytes) -> Cutting:
    numbers = _numbers(message)
    return Cutting(numbers.get(3, UNIGRAM), bool(numbers.get(35, 0)), bool(numbers.get(24, 0)))


def _read_normalising(message: bytes) -> Normalising:
    numbers = _numbers(message)
    rules = b""
    for number, kind, _, content in fields(message):
        if (number, kind) == (2, BYTES):
            rules = bytes(content)
    return Normalising(rules, bool(numbers.get(3, 1)), bool(numbers.get(4, 1)), bool(numbers.get(5, 1)))


def _numbers(message: bytes) -> dict[int, int]:
    return {number: value for number, kind, value, _ in fields(message) if kind == VARINT}


def _piece_bytes(piece: Piece) -> bytes:
    written = bytes_field(1, piece.text.encode("utf-8")) + real_field(2, piece.score)
    return written + (b"" if piece.kind == NORMAL else stated_number_field(3, piece.kind))


def _settings(cutting: Cutting, normalising: Normalising) -> bytes:
    trainer = (
        stated_number_field(3, cutting.algorithm)
        + stated_number_field(24, cutting.blank_behind)
        + stated_number_field(35, cutting.byte_fallback)
    )
    normaliser = (
        (bytes_field(2, normalising.rules) if normalising.rules else b"")
        + stated_number_field(3, normalising.blank_before)
        + stated_number_field(4, normalising.single_blanks)
        + stated_number_field(5, normalising.escape_blanks)
    )
    return bytes_field(2, trainer) + bytes_field(3, normaliser)


def _check(pieces: tuple[Piece, ...], origin: str) -> None:
    seen: dict[str, int] = {}
    for place, piece in enumerate(pieces):
        if piece.kind not in _KINDS or not piece.text or not math.isfinite(piece.score):
            raise UserError(
                f"{origin}: piece {place} is {piece}, expected text, a finite score and a kind from 1 to 6; "
                "the file is damaged"
            )
        if seen.setdefault(piece.text, place) != place:
            raise UserError(
                f"{origin}: piece {piece.text!r} has the ids {seen[piece.text]} and {place}; keep one of them"
            )
    unknown = sum(piece.kind == UNKNOWN for piece in pieces)
    if unknown != 1:
        raise UserError(f"{origin}: {unknown} pieces stand for what is unknown, expected one")
