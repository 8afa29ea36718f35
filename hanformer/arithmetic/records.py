"""Word problems as records, and the readers of Math23K and Ape210k files as they are published.

应用题记录，以及 Math23K 与 Ape210k 公开文件的读取。

Source: Math23K (Wang et al. 2017, Deep Neural Solver), Ape210k (arXiv 2009.11506).
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from hanformer.errors import UserError

_ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "id": ("id",),
    "text": ("original_text", "text", "question"),
    "equation": ("equation",),
    "answer": ("ans", "answer"),
    "kind": ("kind",),
}
_SUFFIXES: Final = (".json", ".jsonl", ".zip", ".gz")
_MAX_BYTES: Final = 2**31


@dataclass(frozen=True)
class Problem:
    """One word problem: its text, the equation that solves it and the answer, as written. 一道应用题。"""

    id: str
    text: str
    equation: str
    answer: str | None
    kind: str = ""


@dataclass(frozen=True)
class Split:
    """Problems to learn from and problems held out. 训练题与留出题。"""

    train: list[Problem]
    test: list[Problem]
    valid: list[Problem] = field(default_factory=list)


def read_problems(path: str | Path) -> list[Problem]:
    """Read one file of problems: plain, gz or zip; JSON lines, a JSON list or concatenated JSON objects.

    读取一个题目文件；文件形式按内容识别。

    Raises: UserError naming the file, and the record and offset, where it cannot be read.
    """
    path = Path(path)
    problems = [problem for name, data in _members(path) for problem in _problems(name, data)]
    if not problems:
        raise UserError(f"{path}: expected JSON records of problems, found none")
    return problems


def read_split(path: str | Path) -> Split:
    """Read a file, or a folder with its files told apart by name: ``*test*``, ``*valid*``, ``*dev*``, train.

    读取文件或文件夹；名字含 test、valid、dev 的文件为留出集。

    A problem whose id stands in a held-out file is kept out of train (Math23K publishes all problems in one
    file, and the test problems once more). A single file is all train.
    Raises: UserError, as `read_problems`.
    """
    path = Path(path)
    if not path.is_dir():
        return Split(train=read_problems(path), test=[])
    parts: dict[str, list[Problem]] = {"train": [], "valid": [], "test": []}
    for file in _files(path):
        parts[_part(file.name.lower())] += read_problems(file)
    test = parts["test"]
    test_ids = {problem.id for problem in test}
    valid = [problem for problem in parts["valid"] if problem.id not in test_ids]
    held_out = test_ids | {problem.id for problem in valid}
    train = [problem for problem in parts["train"] if problem.id not in held_out]
    return Split(train, test, valid)


def _files(folder: Path) -> list[Path]:
    files = [file for file in sorted(folder.iterdir()) if file.name.lower().endswith(_SUFFIXES)]
    if not files:
        raise UserError(f"{folder}: expected files ending in {', '.join(_SUFFIXES)}, found none")
    return files


def _part(name: str) -> str:
    if "test" in name:
        return "test"
    return "valid" if "valid" in name or "dev" in name else "train"


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """The name and the unpacked bytes of each file that `path` holds."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    try:
        if data.startswith(b"PK\x03\x04"):
            yield from _zip_members(str(path), data)
        elif data.startswith(b"\x1f\x8b"):
            yield str(path), _read(gzip.GzipFile(fileobj=io.BytesIO(data)), str(path))
        else:
            yield str(path), data
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{path}: the archive is truncated or damaged ({error}); fetch it again") from None


def _zip_members(path: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            if name.endswith("/") or name.startswith("__MACOSX"):
                continue
            with archive.open(name) as member:
                yield f"{path}:{name}", _read(member, path)


def _read(stream: gzip.GzipFile | IO[bytes], path: str) -> bytes:
    data = stream.read(_MAX_BYTES)
    if len(data) == _MAX_BYTES:
        raise UserError(f"{path}: unpacks to more than {_MAX_BYTES} bytes; split it into smaller files")
    return data


def _problems(name: str, data: bytes) -> Iterator[Problem]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: expected UTF-8 text, byte {error.start} is not; convert the file") from None
    for number, (offset, value) in enumerate(_values(name, text), start=1):
        yield _problem(f"{name}: record {number} (character {offset})", value)


def _values(name: str, text: str) -> Iterator[tuple[int, object]]:
    """Each record with its offset; one loop serves lines, concatenated objects and lists of objects."""
    decoder = json.JSONDecoder()
    place, count = _skip_space(text, 0), 0
    while place < len(text):
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{name}: record {count + 1} (character {place}) is no complete JSON ({error}); "
                "the file is truncated or of another kind"
            ) from None
        records = value if isinstance(value, list) else [value]
        yield from ((place, record) for record in records)
        count += len(records)
        place = _skip_space(text, end)


def _skip_space(text: str, place: int) -> int:
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def _problem(where: str, value: object) -> Problem:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(value).__name__}")
    fields = {name: _text(where, value, name) for name in _ALIASES}
    missing = [name for name in ("id", "text", "equation") if fields[name] is None]
    if missing:
        names = ", ".join("/".join(_ALIASES[name]) for name in missing)
        raise UserError(f"{where}: the field {names} is missing; found {', '.join(map(str, value))[:80]}")
    return Problem(
        id=fields["id"] or "",
        text=fields["text"] or "",
        equation=fields["equation"] or "",
        answer=fields["answer"],
        kind=fields["kind"] or "",
    )


def _text(where: str, value: dict[str, object], name: str) -> str | None:
    found = next((value[key] for key in _ALIASES[name] if value.get(key) is not None), None)
    if found is None or isinstance(found, str):
        return found
    if isinstance(found, int | float) and not isinstance(found, bool):
        return str(found)
    raise UserError(f"{where}: the field {name} is {type(found).__name__}, expected text")
