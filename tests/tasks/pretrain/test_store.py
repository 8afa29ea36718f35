"""Tokens on disk: what was written is read back, and what is broken is refused."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanformer.errors import UserError
from hanformer.tasks.pretrain.row_set import RowSet, at_most, hold_out
from hanformer.tasks.pretrain.rows import Row
from hanformer.tasks.pretrain.store import TokenStore, open_store, write_store

TOKEN = st.tuples(st.integers(0, 2**31 - 1), st.booleans())
ROWS = st.lists(st.lists(TOKEN, min_size=1, max_size=9), min_size=1, max_size=9)


@given(ROWS)
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, found: list) -> None:
    folder = tmp_path_factory.mktemp("store") / "tokens"
    store = write_store(folder, ([list(part) for part in zip(*row, strict=True)] for row in found), 7)
    assert store.lengths.tolist() == [len(row) for row in found] and store.tokens == sum(map(len, found))
    for number, row in enumerate(found):
        ids, begins = store[number]
        assert list(zip(ids.tolist(), begins.tolist(), strict=True)) == row
    assert len(TokenStore(folder, 7)) == len(store) == len(found)


def many(count: int, length: int) -> Iterator[Row]:
    row = (list(range(length)), [True] * length)
    return (row for _ in range(count))


def test_writing_and_reading_take_little_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    store = write_store(tmp_path / "tokens", many(4000, 400), 400)
    assert store[1234][0].tolist() == list(range(400))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert store.tokens * 4 == (tmp_path / "tokens" / "tokens.i32").stat().st_size == 6_400_000
    assert peak < 2_000_000


def test_what_is_broken_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    write_store(folder, many(3, 4), 5)
    with pytest.raises(UserError, match="another vocabulary"):
        TokenStore(folder, 6)
    (folder / "tokens.i32").write_bytes(b"1234")
    with pytest.raises(UserError, match=r"tokens\.i32: expected 48 bytes, found 4"):
        TokenStore(folder, 5)
    (folder / "store.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="not a store of tokens"):
        TokenStore(folder, 5)


def test_an_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[Row]:
        yield [1], [True]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "tokens", broken(), 5)
    assert list(tmp_path.iterdir()) == []
    assert len(open_store(tmp_path / "tokens", many(2, 2), 5)) == 2
    assert len(open_store(tmp_path / "tokens", broken(), 5)) == 2  # there: nothing is read again


def test_held_out_rows_are_not_learned(tmp_path: Path) -> None:
    store = write_store(tmp_path / "tokens", many(20, 3), 5)
    learn, held = hold_out(store, 6, seed=1)
    assert (len(held.rows), learn.tokens, held.tokens) == (6, 42, 18)
    assert np.array_equal(np.sort(np.concatenate([learn.rows, held.rows])), np.arange(20))
    assert np.array_equal(hold_out(store, 6, seed=1)[1].rows, held.rows)
    assert not np.array_equal(hold_out(store, 6, seed=2)[1].rows, held.rows)
    assert len(at_most(store, 30, 0).rows) == 20 and len(at_most(store, 5, 0).rows) == 5
    assert RowSet.all(store).tokens == 60
