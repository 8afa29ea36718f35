"""Every line of real corpora: WordPiece as the tokenizers library cuts it, and the two word segmenters alike.

    python -m tests.text.check_corpora DATA_FOLDER [--checks uncased,cased,pairs,jieba] [--folders WORD] [--workers N]

Prints a table of what was checked and what differed in each folder of the data. The texts of a JSON file are its
strings, those of another file its lines; of equal texts of a file one is checked; each text and the next make a pair,
cut to 64 tokens. Files are shared out to processes, one a core. `--seconds` bounds the time for each check of each
file; a check that was cut short says so.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import groupby
from pathlib import Path

from tokenizers import BertWordPieceTokenizer

from hanformer.data.files import iterate_members
from hanformer.errors import UserError
from hanformer.text.word_segmentation import segmenter
from hanformer.text.wordpiece import WordPieceTokenizer

NO_TEXT = ("checkpoints", "images", "vocab", "word_vectors", "tokenizer_outputs")
TEXT_NAMES = (
    ".txt",
    ".tsv",
    ".csv",
    ".json",
    ".jsonl",
    ".utf8",
    ".data",
    ".conll",
    ".train",
    ".dev",
    ".test",
)
BATCH = 1000

Check = Callable[[Sequence[str]], Iterable[bool]]
"""For each text whether both sides agree."""


@dataclass
class Outcome:
    """What one check found in a file, or in all of a folder's."""

    texts: int = 0
    characters: int = 0
    differing: list[str] = field(default_factory=list)
    whole: bool = True
    seconds: float = 0.0

    def add(self, other: Outcome) -> None:
        """What another file brought."""
        self.texts += other.texts
        self.characters += other.characters
        self.differing += other.differing
        self.whole = self.whole and other.whole
        self.seconds += other.seconds


@dataclass(frozen=True)
class Task:
    """One check of one file."""

    path: Path
    name: str
    vocabulary: Path
    seconds: float


CHECKS = ("uncased", "cased", "pairs", "jieba")


def main(arguments: Sequence[str]) -> int:
    """Print the table; 1 where a text differs."""
    options = argparse.ArgumentParser(prog="python -m tests.text.check_corpora", description=__doc__)
    options.add_argument("data", type=Path)
    options.add_argument("--seconds", type=float, default=float("inf"))
    options.add_argument("--vocabulary", default="vocab/bert_zh_vocab_21128.txt")
    options.add_argument("--checks", default=",".join(CHECKS))
    options.add_argument("--folders", default="", help="only folders with this word in their path")
    options.add_argument("--workers", type=int, default=os.cpu_count())
    chosen = options.parse_args(arguments)
    names = [name for name in CHECKS if name in chosen.checks.split(",")]
    tasks = [
        Task(path, name, chosen.data / chosen.vocabulary, chosen.seconds)
        for folder in folders(chosen.data)
        if chosen.folders in str(folder.relative_to(chosen.data))
        for name in names
        for path in sorted(path for path in folder.iterdir() if path.is_file())
    ]
    # Processes are what shares the work out; threads within them would wait for each other.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        with ProcessPoolExecutor(chosen.workers) as pool:
            return report(chosen.data, tasks, pool.map(run, tasks))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


def report(data: Path, tasks: Iterable[Task], outcomes: Iterable[Outcome]) -> int:
    """One row for each folder and check, and the first texts that differ."""
    print("| folder | check | texts | characters | differ | CPU s | |\n|---|---|---:|---:|---:|---:|---|")
    differing = 0
    done = zip(tasks, outcomes, strict=True)
    for (folder, name), files in groupby(done, lambda pair: (pair[0].path.parent, pair[0].name)):
        found = Outcome()
        for _, outcome in files:
            found.add(outcome)
        differing += len(found.differing)
        counts = f"{found.texts:,} | {found.characters:,} | {len(found.differing)} | {found.seconds:,.0f}"
        print(f"| {folder.relative_to(data)} | {name} | {counts} | {cut_short(found)} |", flush=True)
        for text in found.differing[:3]:
            print(f"  differs: {text[:200]!r}", file=sys.stderr)
    return 1 if differing else 0


def cut_short(found: Outcome) -> str:
    """What the last column says."""
    return "" if found.whole else "time was up"


def run(task: Task) -> Outcome:
    """Check the texts of a file in batches until they, or the seconds, are used up."""
    outcome, check = Outcome(), check_of(task.name, task.vocabulary)
    start, used = time.perf_counter(), time.process_time()
    for batch in batches(dict.fromkeys(texts_of(task.path))):
        if time.perf_counter() - start > task.seconds:
            outcome.whole = False
            break
        outcome.texts += len(batch)
        outcome.characters += sum(map(len, batch))
        outcome.differing += [text for text, same in zip(batch, check(batch), strict=True) if not same]
    outcome.seconds = time.process_time() - used
    return outcome


@cache
def check_of(name: str, vocabulary: Path) -> Check:
    """The check of that name, made once in each process."""
    makers = {
        "uncased": partial(wordpiece_check, vocabulary, True),
        "cased": partial(wordpiece_check, vocabulary, False),
        "pairs": partial(pairs_check, vocabulary),
        "jieba": segmenter_check,
    }
    return makers[name]()


def wordpiece_check(vocabulary: Path, lowercase: bool) -> Check:
    """Ids, tokens and offsets as the library gives them."""
    ours = WordPieceTokenizer.load(vocabulary, lowercase=lowercase)
    theirs = BertWordPieceTokenizer(str(vocabulary), lowercase=lowercase)

    def check(texts: Sequence[str]) -> Iterator[bool]:
        for text, other in zip(texts, theirs.encode_batch(list(texts)), strict=True):
            mine = ours.encode(text)
            yield (mine.ids, mine.tokens, mine.offsets) == (other.ids, other.tokens, other.offsets)

    return check


def pairs_check(vocabulary: Path, maximum: int = 64) -> Check:
    """Ids, segments and offsets of each text and the next one, cut to `maximum`."""
    ours = WordPieceTokenizer.load(vocabulary)
    theirs = BertWordPieceTokenizer(str(vocabulary))
    theirs.enable_truncation(maximum)

    def check(texts: Sequence[str]) -> Iterator[bool]:
        pairs = list(zip(texts, [*texts[1:], ""], strict=True))
        for pair, other in zip(pairs, theirs.encode_batch(pairs), strict=True):
            mine = ours.encode_pair(*pair, maximum)
            yield (mine.ids, mine.segments, mine.offsets) == (other.ids, other.type_ids, other.offsets)

    return check


def segmenter_check() -> Check:
    """The words of both segmenters in lowered text."""
    rust, python = segmenter("rjieba"), segmenter("jieba")

    def check(texts: Sequence[str]) -> Iterator[bool]:
        return (list(rust.cut(text.lower())) == list(python.cut(text.lower())) for text in texts)

    return check


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Texts in lists of `BATCH`."""
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def folders(data: Path) -> list[Path]:
    """The folders of the data that hold text files."""
    files = (path for path in sorted(data.rglob("*")) if path.is_file() and path.parent != data)
    found = dict.fromkeys(path.parent for path in files)
    return [folder for folder in found if folder.relative_to(data).parts[0] not in NO_TEXT]


def texts_of(path: Path) -> Iterator[str]:
    """All texts of a file, or of those that it packs."""
    for name, raw in contents(path):
        text = raw.decode("utf-8-sig", errors="replace")
        yield from json_strings(text) if ".json" in name else text.split("\n")


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of a file, plain or packed, or of each text file in a zip."""
    if path.suffix == ".xz":
        yield path.name, lzma.decompress(path.read_bytes())
        return
    for name, chunks in iterate_members(path, TEXT_NAMES):
        yield name.removeprefix(str(path.parent)), b"".join(chunks)


def json_strings(text: str) -> Iterator[str]:
    """The strings of a JSON file, or of one with a value on each line; what is no JSON as it stands."""
    try:
        yield from strings(json.loads(text))
    except ValueError:
        for line in text.split("\n"):
            try:
                yield from strings(json.loads(line))
            except ValueError:
                yield line


def strings(value: object) -> Iterator[str]:
    """All strings within a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
