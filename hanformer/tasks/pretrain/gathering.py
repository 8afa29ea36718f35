"""One file of text from many files of many forms: to learn a language, not one corpus."""

from __future__ import annotations

import gzip
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from hanformer.data.dialogues import read_dialogues
from hanformer.errors import UserError
from hanformer.records import read_record
from hanformer.tasks.pretrain.corpus import files_of, passages
from hanformer.tasks.pretrain.recipe import TextOptions
from hanformer.weights.atomic import writing_together

#: Bytes of a document's digest: two of a hundred million documents share one by chance once in a thousand corpora.
_DIGEST = 8


@dataclass(frozen=True)
class Source:
    """Files of one form: which ones, and where their text is.

    同一格式的一组文件，以及其中文本的位置。

    `files` are patterns below the folder of the data (`reviews/*.tsv.gz`); `text` as in the recipe of `pretrain`.
    `dialogues`: the files hold lists of utterances, as `hanformer train chat` reads them; each dialogue is a document.
    """

    name: str = ""
    files: tuple[str, ...] = ()
    dialogues: bool = False
    text: TextOptions = field(default_factory=TextOptions)

    def __post_init__(self) -> None:
        if self.dialogues and self.text != TextOptions():
            raise UserError(
                "dialogues have no columns and no documents to choose; leave text out, or dialogues"
            )


@dataclass
class Gathered:
    """What came of a source. 某一来源的统计。"""

    name: str
    documents: int = 0
    characters: int = 0
    repeated: int = 0


def read_sources(path: str | Path) -> list[Source]:
    """The sources that a TOML file lists, one table each.

    读取来源清单。

    Raises UserError for a file that cannot be read, an unknown name, a value of another kind, a source without files.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: cannot be read as TOML ({error})") from None
    if not tables:
        raise UserError(
            f'{path}: names no sources; expected tables such as [reviews] with files = ["reviews/*.tsv"]'
        )
    return [_source(f"{path}: [{name}]", name, values) for name, values in tables.items()]


def _source(where: str, name: str, values: Any) -> Source:
    if not isinstance(values, Mapping) or not values.get("files"):
        raise UserError(f'{where}: expected a table with files = ["folder/*.txt"], got {values!r}')
    try:
        return read_record(Source(name), values)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def gather(sources: Sequence[Source], folder: str | Path, out: str | Path) -> Iterator[Gathered]:
    """Writes the documents of all sources, lines with a blank line after each, and tells what came of each source.

    把各来源的文档写入一个文本文件，文档之间空一行；逐个来源给出统计。

    A document that came before, in whatever source, is left out. The file is packed where its name ends in .gz, and is
    the same, byte for byte, whenever it is made; it appears when all of it is written, as the iteration ends.
    Raises UserError for a pattern that meets no file, and as the readers do.
    """
    found = [_files(source, Path(folder)) for source in sources]
    target = Path(out).resolve()
    if any(file.resolve() == target for files in found for file in files):
        raise UserError(f"{out}: is one of the files to gather; choose another name to write")
    seen: set[bytes] = set()
    with _writing(Path(out)) as file:
        for source, files in zip(sources, found, strict=True):
            yield _write(source, files, seen, file)


def _write(source: Source, files: Sequence[Path], seen: set[bytes], file: TextIO) -> Gathered:
    told = Gathered(source.name)
    for text in _documents(source, files):
        digest = blake2b(text.encode("utf-8", "replace"), digest_size=_DIGEST).digest()
        if digest in seen:
            told.repeated += 1
            continue
        seen.add(digest)
        told.documents += 1
        told.characters += len(text)
        file.write(f"{text}\n\n")
    if not told.documents + told.repeated:
        raise UserError(
            f"[{source.name}]: {', '.join(map(str, files[:3]))}: no text; check the files and text.columns"
        )
    return told


def _documents(source: Source, files: Sequence[Path]) -> Iterator[str]:
    """The documents as lines that are not blank."""
    if source.dialogues:
        for file in files:
            for split in read_dialogues(file).values():
                yield from ("\n".join(_lines(dialogue)) for dialogue in split)
        return
    held: list[str] = []
    for passage in passages(files, source.text):
        if passage.begins and held:
            yield "\n".join(held)
            held = []
        held += _lines([passage.text])
    if held:
        yield "\n".join(held)


def _lines(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in map(str.strip, text.splitlines()) if line]


def _files(source: Source, folder: Path) -> list[Path]:
    found = []
    for pattern in source.files:
        if not pattern or Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise UserError(f"[{source.name}] {pattern!r}: expected a pattern below the folder of the data")
        try:
            files = sorted(file for file in folder.glob(pattern) if file.is_file())
        except ValueError as error:
            raise UserError(f"[{source.name}] {pattern}: is no pattern ({error})") from None
        if not files:
            raise UserError(
                f"[{source.name}] {folder / pattern}: no such file; check the pattern and the folder"
            )
        # Tables of a zip have a header each.
        found += files if source.dialogues else [member for file in files for member in files_of(file)]
    return found


@contextmanager
def _writing(out: Path) -> Iterator[TextIO]:
    with writing_together(out.parent, [out.name]) as place, place(out.name).open("wb") as raw:
        packed = gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) if out.suffix == ".gz" else raw
        with TextIOWrapper(packed, encoding="utf-8", errors="replace", newline="\n") as file:
            yield file
