"""Thousands of damaged bundles: each is read, or refused with one UserError; nothing crashes, hangs or swells."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from hanformer.errors import UserError
from hanformer.weights.bundle import Bundle, data_path
from hanformer.weights.bundle_records import WHOLE, read_entry
from hanformer.weights.checks import Malformed
from hanformer.weights.table import read_table, table_bytes
from tests.weights.material import damaged, make_bundle, put
from tests.weights.test_snappy import pack
from tests.weights.test_table import block, table

ROWS = torch.arange(12.0).reshape(4, 3)
MOST_SECONDS = 1.0
MOST_MEMORY = 300 << 10  # KiB


@pytest.fixture(autouse=True)
def nothing_swells() -> Iterator[None]:
    """No absurd shape, key or block of a test may raise the peak memory of the process by much."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY


def small_bundle(prefix: Path) -> Path:
    tensors = {
        "a/kernel": torch.ones(3, 2),
        "a/bias": torch.ones(2, dtype=torch.bfloat16),
        "flag": torch.tensor([True]),
        "graph": torch.zeros(5, dtype=torch.uint8),
        "step": torch.tensor(7),
    }
    parts = {"rows": ((4, 3), {((0, 2), (0, WHOLE)): ROWS[:2], ((2, 2), (0, WHOLE)): ROWS[2:]})}
    return make_bundle(prefix, tensors, parts, changes={"graph": {"kind": 7}})


def outcome(prefix: Path, checksums: bool) -> str:
    """ "read", or the beginning of the message; every tensor that the index names is read."""
    start = time.process_time()
    try:
        source = Bundle(prefix, checksums=checksums)
        for name in source.names():
            assert source.read(name).shape == source.info(name).shape
        return "read"
    except UserError as error:
        assert prefix.name in str(error)
        return "refused"
    finally:
        assert time.process_time() - start < MOST_SECONDS


@pytest.mark.parametrize("checksums", [True, False])
def test_damaged_indexes(tmp_path: Path, checksums: bool) -> None:
    """The bytes of the file itself: mostly footers, lengths and checksums meet this."""
    prefix = small_bundle(tmp_path / "x")
    index, generator = Path(f"{prefix}.index"), np.random.default_rng(int(checksums))
    content, counts = index.read_bytes(), Counter[str]()
    for _ in range(1000):
        put(index, damaged(content, generator))
        counts[outcome(prefix, checksums)] += 1
    assert counts["refused"] > (800 if checksums else 500) and counts["read"] > 5


def test_damaged_entries(tmp_path: Path) -> None:
    """Keys and messages are damaged, the table around them is right again: shapes, offsets and parts meet this."""
    prefix = small_bundle(tmp_path / "x")
    index, generator = Path(f"{prefix}.index"), np.random.default_rng(2)
    entries, counts = read_table(index), Counter[str]()
    for _ in range(2000):
        changed = dict(entries)
        key = list(entries)[int(generator.integers(0, len(entries)))]
        message = changed.pop(key)
        if generator.integers(0, 4):
            message = damaged(message, generator)
        else:
            key = damaged(key, generator)
        put(index, table_bytes(sorted((changed | {key: message}).items())))
        counts[outcome(prefix, bool(generator.integers(0, 2)))] += 1
    assert counts["refused"] > 800 and counts["read"] > 100


def test_damaged_packed_indexes(tmp_path: Path) -> None:
    """The same within blocks packed by snappy, whose checksums are right again."""
    prefix = small_bundle(tmp_path / "x")
    index, generator = Path(f"{prefix}.index"), np.random.default_rng(3)
    counts = Counter[str]()
    packed = pack(block([(0, key, value) for key, value in read_table(index).items()])[:-5])
    for _ in range(500):
        put(index, table([damaged(packed, generator) + b"\1" + bytes(4)]))
        counts[outcome(prefix, False)] += 1
    assert counts["refused"] > 300


def test_damaged_data(tmp_path: Path) -> None:
    """With checksums no change of a tensor's bytes passes."""
    prefix = small_bundle(tmp_path / "x")
    data, generator = data_path(prefix, 0, 1), np.random.default_rng(4)
    content, graph = data.read_bytes(), read_entry(read_table(Path(f"{prefix}.index"))[b"graph"])
    unread = range(graph.offset, graph.offset + graph.size)
    for _ in range(500):
        changed = damaged(content, generator)
        put(data, changed)
        differs = any(
            place >= len(changed) or changed[place] != byte
            for place, byte in enumerate(content)
            if place not in unread
        )
        assert (outcome(prefix, True) == "refused") == (differs or len(changed) < len(content))


def test_random_messages_are_entries_or_malformed() -> None:
    generator = np.random.default_rng(5)
    for _ in range(3000):
        with suppress(Malformed):
            read_entry(generator.bytes(int(generator.integers(0, 30))))
