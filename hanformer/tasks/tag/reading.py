"""Texts with their spans from files: segmented lines, columns of tokens and tags, the People's Daily form, JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, Final

from hanformer.data.files import iterate_json_records, lines
from hanformer.data.published import open_splits
from hanformer.errors import UserError
from hanformer.tasks.tag.json_spans import spans_of_record, words_of_record
from hanformer.tasks.tag.spans import WORD, TaggedText, TextSpan, of_words, spans_of_tags, split_tag

SCHEMES: Final = ("segmentation", "entities")
FORMS: Final = ("auto", "words", "people_daily", "columns", "json")
JOINS: Final[dict[str, str]] = {"nothing": "", "space": " "}

_JSON: Final = (".json", ".jsonl", ".ndjson")
_TAGS: Final = frozenset("BMESILUO")
_DATED: Final = re.compile(r"\ufeff?\d{8}-\d\d-\d{3}-\d{3}/m\s*")
# A word, its reading in braces, its part of speech; brackets around what is one name of several words.
_TAGGED: Final = re.compile(r"\[?(\S+?)(?:\{[^}]*\})?/[A-Za-z]+(?:\][A-Za-z]*)?(?=\s|$)")
_DOCUMENT: Final = "-DOCSTART-"


@dataclass(frozen=True)
class Source:
    """A file, and how its reader knows it where that is not its path: unpacked from a zip. 文件及其显示名称。"""

    path: Path
    name: str = ""

    def __str__(self) -> str:
        return self.name or str(self.path)

    def lines(self) -> Iterator[tuple[int, str]]:
        """(number from 1, line); raises UserError for a file that cannot be read."""
        return enumerate(lines(self.path), start=1)


@dataclass(frozen=True)
class Reading:
    """How files are read: `scheme` says what spans are, `form` what files look like, `join` what stands between tokens.

    读取方式：任务、文件形式、以及列形式中词元之间的连接符。
    """

    scheme: str
    form: str = "auto"
    join: str = "nothing"

    def texts(self, source: Source) -> list[TaggedText]:
        """All texts of a file that are not empty.

        读出全部带标注的文本。

        Raises UserError naming the file and the line (or record) for what is not of the form, spans outside of their
        text, unknown tags, text that is not UTF-8, and a file without texts.
        """
        form = self.form if self.form != "auto" else _form_of(source, self.scheme)
        found = [text for text in self._reader(form)(source) if text.text]
        if not found:
            raise UserError(f"{source}: holds no texts; expected {_expected(self.scheme)}")
        return found

    def _reader(self, form: str) -> Callable[[Source], Iterator[TaggedText]]:
        if self.scheme == "entities":
            readers = {"json": _entity_records, "columns": self._columns}
        else:
            readers = {
                "json": _word_records,
                "columns": self._columns,
                "words": _segmented,
                "people_daily": _people_daily,
            }
        if form not in readers:
            raise UserError(f"form: {self.scheme} are read from {', '.join(readers)}, got {form!r}")
        return readers[form]

    def _columns(self, source: Source) -> Iterator[TaggedText]:
        rows: list[tuple[str, str]] = []
        first = 1
        for number, line in chain(source.lines(), [(0, "")]):
            if line.strip():
                first = first if rows else number
                rows.append(_row(source, number, line))
            elif rows:
                yield self._joined(rows, f"{source}: line {first}")
                rows = []

    def _joined(self, rows: Sequence[tuple[str, str]], place: str) -> TaggedText:
        between = JOINS[self.join]
        starts = [0, *accumulate(len(token) + len(between) for token, _ in rows)]
        chunks = [
            TextSpan(kind, starts[first], starts[end] - len(between))
            for kind, first, end in spans_of_tags([tag for _, tag in rows])
        ]
        text = between.join(token for token, _ in rows)
        if self.scheme == "entities":
            if any(not span.kind for span in chunks):
                raise UserError(f"{place}: expected tags with a type, such as B-PER, got a bare letter")
            return TaggedText(text, tuple(chunks), place)
        if sum(span.end - span.start for span in chunks) != len(text):
            raise UserError(
                f"{place}: expected every token to be part of a word (B, M, E, S) and join=nothing, got O or a join; "
                "for named entities (B-PER, I-PER, O) choose --scheme entities"
            )
        return TaggedText(text, tuple(TextSpan(WORD, span.start, span.end) for span in chunks), place)


@contextmanager
def open_sources(path: str | Path) -> Iterator[dict[str, Source]]:
    """The files of a folder or a zip by split (train, valid, test), to be read inside the block; a file alone is its
    training set.

    按划分列出文件夹或 zip 中的文件，在代码块内读取。

    Raises UserError as `open_splits` does.
    """
    packed = Path(path).is_file()
    with open_splits(path) as splits:
        yield {
            split: Source(file, f"{path}:{file.name}" if packed and file != Path(path) else "")
            for split, file in splits.items()
        }


def _form_of(source: Source, scheme: str) -> str:
    """What a file looks like, by its name and its first line."""
    if any(suffix.lower() in _JSON for suffix in source.path.suffixes):
        return "json"
    if scheme == "entities":
        return "columns"
    first = next((line for _, line in source.lines() if line.strip()), "")
    if _DATED.match(first):
        return "people_daily"
    fields = first.split()
    # B or S before anything else: a text of two words, of which the second is such a letter, is rarer than columns.
    return "columns" if len(fields) == 2 and fields[1].partition("-")[0] in _TAGS else "words"


def _expected(scheme: str) -> str:
    if scheme == "entities":
        return "columns of tokens and tags with blank lines between texts, or JSON records with text and entities"
    return (
        "lines of words with blanks between them, word/tag lines, columns of tokens and tags, or JSON records"
    )


def _row(source: Source, number: int, line: str) -> tuple[str, str]:
    fields = line.split("\t") if "\t" in line else line.split()
    if len(fields) < 2 or not fields[0]:
        raise UserError(f"{source}: line {number}: expected a token and its tag, got {line!r}")
    if fields[0] == _DOCUMENT:
        return "", "O"
    tag = fields[-1].strip()
    try:
        split_tag(tag)
    except UserError as error:
        raise UserError(f"{source}: line {number}: {error}") from None
    return fields[0], tag


def _segmented(source: Source) -> Iterator[TaggedText]:
    cut = False
    for number, line in source.lines():
        words = line.split()
        cut = cut or len(words) > 1
        yield of_words(words, f"{source}: line {number}")
    if not cut:
        raise UserError(f"{source}: no line holds two words; expected words with blanks between them")


def _people_daily(source: Source) -> Iterator[TaggedText]:
    for number, line in source.lines():
        rest = _DATED.sub("", line, count=1)
        if left := _TAGGED.sub("", rest).strip():
            raise UserError(
                f"{source}: line {number}: expected word/tag, two blanks apart, got {left[:40]!r}"
            )
        yield of_words(_TAGGED.findall(rest), f"{source}: line {number}")


def _records(source: Source) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((f"{source}: record {number}", record) for number, record in iterate_json_records(source.path))


def _word_records(source: Source) -> Iterator[TaggedText]:
    return (of_words(words_of_record(record, place), place) for place, record in _records(source))


def _entity_records(source: Source) -> Iterator[TaggedText]:
    for place, record in _records(source):
        text, spans = spans_of_record(record, place)
        yield TaggedText(text, spans, place)
