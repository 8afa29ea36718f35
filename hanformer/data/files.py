"""Safe readers of text and JSON files, plain or packed: streamed, and every defect named by file and place.

安全地读取文本与 JSON 文件（可为 gz、xz、zip）：流式读取，错误指明文件与位置。
"""

from __future__ import annotations

import codecs
import gzip
import json
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from hanformer.errors import UserError

_CHUNK: Final = 1 << 20
#: How to convert what is not UTF-8.
TO_UTF_8: Final = "of GBK: iconv -f GB18030 -t UTF-8 OLD > NEW"
#: What every document of Excel or Word holds, which is a zip.
_OFFICE: Final = "[Content_Types].xml"
_LONGEST_RECORD: Final = 1 << 26
_SPACE: Final = " \t\r\n"


def iterate_json_records(path: str | Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield (number, object) for every JSON object of a file, numbered from 1.

    逐条读出 JSON 对象，编号从 1 开始。

    The file may hold one object a line, one list of objects, or objects one after another; it may be packed
    as .gz or .zip (the members of a zip are read in their order). What it is, is seen from its first bytes.

    Raises: UserError naming the file and the record, where the file is missing, damaged, truncated, not UTF-8
    or holds something that is no object.
    """
    number = 0
    for name, chunks in iterate_members(path, suffixes=(".json", ".jsonl")):
        for record in _objects(name, number, _decoded(name, chunks)):
            number += 1
            yield number, record


def read_json_records(path: str | Path) -> list[dict[str, object]]:
    """All JSON objects of a file, as `iterate_json_records` reads them.

    读出文件中全部 JSON 对象。

    Raises: UserError, as `iterate_json_records`, and where the file holds no object at all.
    """
    records = [record for _, record in iterate_json_records(path)]
    if not records:
        raise UserError(f"{path}: expected JSON records, found none; check that this is the file you meant")
    return records


def lines(path: str | Path) -> Iterator[str]:
    r"""Yield the lines of a UTF-8 text file (plain, .gz or .zip) without their ends, ``\n`` or ``\r\n``.

    逐行读出 UTF-8 文本（可压缩），不含行尾符。

    Only ``\n`` ends a line, so that a line may hold any other character. A byte order mark is dropped.
    Raises: UserError naming the file, and the line that is not UTF-8.
    """
    for name, chunks in iterate_members(path, suffixes=(".txt",)):
        for number, raw in enumerate(_raw_lines(chunks), start=1):
            raw = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
            try:
                yield raw.removesuffix(b"\r").decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{name}: line {number} is not UTF-8 (byte {error.start + 1} of the line); convert the file to "
                    f"UTF-8 ({TO_UTF_8}; in Excel: save as CSV UTF-8)"
                ) from None


def iterate_members(
    path: str | Path, suffixes: tuple[str, ...] = ()
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield (name, chunks of bytes) of each file that `path` holds: itself, or the members of a zip.

    给出文件（或 zip 成员）的名字与字节块。

    A zip with several members gives those whose names end in one of `suffixes`, or all if none does. A path below a
    zip, as `members_within` gives them, is that member alone.
    Raises: UserError naming the file, where it cannot be opened or its packing is damaged.
    """
    path = Path(path)
    archive = _archive_above(path)
    if archive is not None:
        yield from _one_member(archive, path)
        return
    with _named(path), path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic in (b"PK\x03\x04", b"PK\x05\x06"):
            yield from _zip_members(path, file, suffixes)
        elif magic == b"\xfd7zX":
            with lzma.LZMAFile(file) as opened:
                yield str(path), _chunks(path, opened)
        elif magic.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield str(path), _chunks(path, unpacked)
        else:
            yield str(path), _chunks(path, file)


def members_within(path: str | Path) -> list[Path]:
    """The files within a zip as paths below it, which `lines` and its kin read; any other file is its only member.

    zip 内的文件（以 zip 路径之下的路径表示）；其他文件即其自身。

    Raises: UserError naming the file, where it cannot be opened.
    """
    path = Path(path)
    if path.suffix.lower() != ".zip" or not path.is_file():
        return [path]
    with _named(path), zipfile.ZipFile(path) as archive:
        return [path / name for name in _files_of(archive)]


def _archive_above(path: Path) -> Path | None:
    return next((above for above in path.parents if above.suffix.lower() == ".zip" and above.is_file()), None)


def _one_member(archive: Path, path: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    with _named(archive), zipfile.ZipFile(archive) as opened:
        try:
            member = opened.open(path.relative_to(archive).as_posix())
        except KeyError:
            raise UserError(f"{path}: there is no such file in {archive}") from None
        with member:
            yield str(path), _chunks(path, member)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what the system and the unpackers raise into an error that names the file."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        gzip.BadGzipFile,
        lzma.LZMAError,
        zlib.error,
        EOFError,
        NotImplementedError,
    ) as error:
        raise UserError(f"{path}: truncated or damaged ({error}); fetch the file again") from None
    except RuntimeError as error:  # zipfile's way to say that a password is needed
        raise UserError(f"{path}: cannot be unpacked ({error}); unpack it first") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None


def _zip_members(
    path: Path, file: IO[bytes], suffixes: tuple[str, ...]
) -> Iterator[tuple[str, Iterator[bytes]]]:
    with zipfile.ZipFile(file) as archive:
        names = _files_of(archive)
        if _OFFICE in names:
            raise UserError(
                f"{path}: a document of Excel or Word, not a file of text; save it as CSV UTF-8, or as plain text"
            )
        wanted = [name for name in names if name.lower().endswith(suffixes)] if suffixes else []
        for name in wanted or names:
            with archive.open(name) as member:
                yield f"{path}:{name}", _chunks(path, member)


def _files_of(archive: zipfile.ZipFile) -> list[str]:
    return [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]


def _chunks(path: Path, file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    with _named(path):
        while chunk := file.read(_CHUNK):
            yield chunk


def _raw_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []
    for chunk in chunks:
        *complete, rest = chunk.split(b"\n")
        for line in complete:
            yield b"".join([*parts, line])
            parts = []
        if rest:
            parts.append(rest)
    if parts:
        yield b"".join(parts)


def _decoded(name: str, chunks: Iterator[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    read = 0
    try:
        for chunk in chunks:
            read += len(chunk)
            yield decoder.decode(chunk)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        # What the decoder was given ends where its input ended, and may begin in an earlier chunk.
        place = read - len(error.object) + error.start + 1
        if error.reason == "unexpected end of data":
            raise UserError(
                f"{name}: ends at byte {read} within a character; the file is truncated: get it again"
            ) from None
        raise UserError(f"{name}: byte {place} is not UTF-8 text; convert the file to UTF-8") from None


class _Buffer:
    """The part of a text stream that is not parsed yet."""

    def __init__(self, chunks: Iterator[str]) -> None:
        self.chunks, self.text, self.place, self.before = chunks, "", 0, 0

    def more(self, wanted: int) -> bool:
        """Read until `wanted` characters lie ahead; False at the end of the file."""
        self.before += self.place
        parts, ahead = [self.text[self.place :]], len(self.text) - self.place
        self.place, start = 0, ahead
        while ahead < wanted and (chunk := next(self.chunks, None)) is not None:
            parts.append(chunk)
            ahead += len(chunk)
        self.text = "".join(parts)
        return ahead > start

    def peek(self) -> str:
        """The next character that is not white space, or an empty string at the end of the file."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in _SPACE:
                self.place += 1
            if self.place < len(self.text):
                return self.text[self.place]
            if not self.more(1):
                return ""


def _objects(name: str, number: int, chunks: Iterator[str]) -> Iterator[dict[str, object]]:
    """The objects of one stream; list brackets and commas at the outermost level are only separators."""
    buffer, decoder = _Buffer(chunks), json.JSONDecoder()
    in_list = buffer.peek() == "["
    buffer.place += in_list
    closed = not in_list
    while (first := buffer.peek()) and not (in_list and closed):
        if in_list and first in ",]":
            closed = first == "]"
            buffer.place += 1
            continue
        number += 1
        yield _object(f"{name}: record {number}", decoder, buffer)
    if not closed or buffer.peek():
        what = "the list goes on after its end" if closed else "the list has no end, the file is truncated"
        raise UserError(f"{name}: after record {number}: {what}; fetch or repair the file")


def _object(where: str, decoder: json.JSONDecoder, buffer: _Buffer) -> dict[str, object]:
    where = f"{where} (character {buffer.before + buffer.place})"
    if (first := buffer.peek()) != "{":
        raise UserError(
            f"{where}: expected a JSON object, found {first!r}; the file is damaged or of another kind"
        )
    while True:
        try:
            value, buffer.place = decoder.raw_decode(buffer.text, buffer.place)
            return value
        except (ValueError, RecursionError) as error:
            # The object may only go on in the next chunk; reading doubles, so that the work stays linear.
            length = len(buffer.text) - buffer.place
            if length < _LONGEST_RECORD and buffer.more(2 * length + _CHUNK):
                continue
            raise UserError(
                f"{where}: no complete JSON object ({error}); the file is truncated or of another kind"
            ) from None
