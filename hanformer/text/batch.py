"""Many texts at once: in this process, or in several where that is faster; the result is the same.

批量编码：单进程或多进程，结果与顺序相同。

What a worker made has to travel back and be made into lists again, which costs as much as cutting plain
Chinese does. So processes help where cutting is slow (a word segmenter), and not elsewhere; the first texts
show which it is.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Final

from hanformer.errors import UserError
from hanformer.text.protocols import Encoding, Tokenizer

Text = str | tuple[str, str]
"""A text, or a pair of texts. 单句或句对。"""

_CHUNK: Final = 1 << 15  # characters
_TRIAL: Final = 0.5  # seconds that each way is tried for
_WORTH: Final = 3.0  # seconds of work left that are worth a second way
_QUICK: Final = _CHUNK / 1e6  # seconds of a chunk that is cut as fast as a result is sent


def encode_batch(
    tokenizer: Tokenizer,
    texts: Sequence[Text],
    maximum_length: int | None = None,
    *,
    special_tokens: bool = True,
    workers: int | None = None,
) -> list[Encoding]:
    """The encodings of texts and pairs, in order, each as `encode` or `encode_pair` gives it.

    按顺序编码一批文本或句对，结果与逐条编码相同。

    `workers` is the number of processes; by default more than this one are started only where they help.
    Raises: UserError, as `encode`; for a single text instead of a list; for fewer than 1 worker; for a pair without
    special tokens.
    """
    if isinstance(texts, str):
        raise UserError("encode_batch: expected a list of texts, got one text; write [text]")
    if workers is not None and workers < 1:
        raise UserError(f"workers is {workers}, expected at least 1, or None to have it chosen")
    if not special_tokens and any(isinstance(text, tuple) for text in texts):
        raise UserError("a pair of texts needs special tokens between them; leave special_tokens true")
    job = _Job(tokenizer, maximum_length, special_tokens)
    chunks = list(_chunks(texts))
    if workers is None:
        return _encode_adaptively(job, chunks)
    return job.encode(texts) if workers == 1 else _encode_in_processes(job, chunks, workers)


@dataclass(frozen=True, slots=True)
class _Job:
    """What is done with every text."""

    tokenizer: Tokenizer
    maximum_length: int | None
    special_tokens: bool

    def encode(self, texts: Sequence[Text]) -> list[Encoding]:
        """The encodings of some texts."""
        return [self._one(text) for text in texts]

    def _one(self, text: Text) -> Encoding:
        if isinstance(text, tuple):
            return self.tokenizer.encode_pair(*text, self.maximum_length)
        return self.tokenizer.encode(text, self.maximum_length, special_tokens=self.special_tokens)


def _encode_adaptively(job: _Job, chunks: Sequence[Sequence[Text]]) -> list[Encoding]:
    """In this process for a while; where much is left, in several for a while; then whichever was faster."""
    done, seconds, number = _tried(map(job.encode, chunks), _TRIAL)
    rest, workers = chunks[number:], _usable_cores()
    if workers < 2 or seconds < _QUICK or len(rest) * seconds < _WORTH:
        return done + job.encode(list(chain.from_iterable(rest)))
    with _pool(job, workers) as pool:
        # The first ones pay for the start.
        done += chain.from_iterable(pool.map(_encode_taken, rest[:workers]))
        rest = rest[workers:]
        found, together, number = _tried(pool.map(_encode_taken, rest[: 8 * workers]), _TRIAL)
        done += found
        rest = rest[number:]
        if together < seconds:
            return done + list(chain.from_iterable(pool.map(_encode_taken, rest)))
    return done + job.encode(list(chain.from_iterable(rest)))


def _tried(results: Iterable[list[Encoding]], limit: float) -> tuple[list[Encoding], float, int]:
    """Take results until `limit` seconds are over: them, the seconds that one took, how many they were."""
    done: list[Encoding] = []
    number, start = 0, time.perf_counter()
    for found in results:
        done += found
        number += 1
        if time.perf_counter() - start > limit:
            break
    return done, (time.perf_counter() - start) / max(number, 1), number


def _encode_in_processes(job: _Job, chunks: Sequence[Sequence[Text]], workers: int) -> list[Encoding]:
    with _pool(job, workers) as pool:
        return list(chain.from_iterable(pool.map(_encode_taken, chunks)))


def _pool(job: _Job, workers: int) -> ProcessPoolExecutor:
    # A forked child needs no pickled tokenizer and no guarded main module; elsewhere there is no safe fork.
    context = multiprocessing.get_context("fork" if sys.platform.startswith("linux") else "spawn")
    return ProcessPoolExecutor(workers, context, _take, (job,))


_taken: list[_Job] = []


def _take(job: _Job) -> None:
    _taken[:] = [job]
    gc.freeze()  # else each worker's collector walks, and so copies, all that it shares with its parent


def _encode_taken(texts: Sequence[Text]) -> list[Encoding]:
    return _taken[0].encode(texts)


def _chunks(texts: Sequence[Text]) -> Iterator[list[Text]]:
    """Texts in order, in lists of about the same number of characters."""
    chunk: list[Text] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += 1 + len(text if isinstance(text, str) else text[0] + text[1])
        if size >= _CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else 1
