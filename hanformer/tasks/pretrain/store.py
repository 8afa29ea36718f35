"""Tokens of a corpus on disk: written once, then mapped, so that a corpus may be larger than memory."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hanformer.errors import UserError
from hanformer.tasks.pretrain.rows import Row
from hanformer.weights.atomic import atomic_folder, recover_folder

_TOKENS, _ENDS, _ABOUT = "tokens.i32", "ends.i64", "store.json"
_VERSION = 1
_BUFFER = 1 << 20


class TokenStore:
    """Rows of token ids in a folder, mapped from disk.

    磁盘上的词元库，按行映射读取。

    tokens.i32 holds the rows end to end: an id, or its complement ~id (below 0) where the token goes on with the
    word of the one before. ends.i64 says where each row ends. Raises UserError for a folder that is not whole, or
    was written with another vocabulary.
    """

    def __init__(self, folder: str | Path, vocabulary: int) -> None:
        self.folder = Path(folder)
        about = _read_about(self.folder)
        if about.get("version") != _VERSION or about.get("vocabulary") != vocabulary:
            raise UserError(
                f"{folder}: tokens of another vocabulary or version; remove the folder and run again"
            )
        tokens, rows = int(about["tokens"]), int(about["rows"])
        self._tokens = _mapped(self.folder / _TOKENS, np.dtype("<i4"), tokens)
        self._ends = _mapped(self.folder / _ENDS, np.dtype("<i8"), rows)
        self.lengths = np.diff(self._ends, prepend=0)
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids int64 [n], and bool [n]: which begin a word."""
        end = int(self._ends[row])
        found = self._tokens[end - int(self.lengths[row]) : end].astype(np.int64)
        begins = found >= 0
        return np.where(begins, found, ~found), begins


def write_store(folder: str | Path, rows: Iterable[Row], vocabulary: int) -> TokenStore:
    """Writes rows as they come, holding one at a time; the folder appears when it is whole.

    逐行写入词元库；写完才会出现。

    There must be a row, since files of no length cannot be mapped. Raises UserError where the disk is full.
    """
    with atomic_folder(folder) as place:
        tokens, ends = 0, array("q")
        with (place / _TOKENS).open("wb", buffering=_BUFFER) as file:
            for ids, begins in rows:
                signed = [n if first else ~n for n, first in zip(ids, begins, strict=True)]
                file.write(np.asarray(signed, dtype="<i4").tobytes())
                tokens += len(ids)
                ends.append(tokens)
        (place / _ENDS).write_bytes(np.asarray(ends, dtype="<i8").tobytes())
        about = {"version": _VERSION, "vocabulary": vocabulary, "tokens": tokens, "rows": len(ends)}
        (place / _ABOUT).write_text(json.dumps(about) + "\n", encoding="utf-8")
    return TokenStore(folder, vocabulary)


def open_store(folder: Path, rows: Iterable[Row], vocabulary: int) -> TokenStore:
    """The store of a folder, written first where there is none. 打开词元库；没有则先写入。"""
    recover_folder(folder)
    if (folder / _ABOUT).is_file():
        return TokenStore(folder, vocabulary)
    return write_store(folder, rows, vocabulary)


def _mapped(path: Path, dtype: np.dtype, count: int) -> np.ndarray:
    size = path.stat().st_size if path.is_file() else -1
    if size != count * dtype.itemsize:
        raise UserError(
            f"{path}: expected {count * dtype.itemsize} bytes, found {max(size, 0)}; remove the folder and run again"
        )
    # A plain view: slices of a memmap cost far more than the rows that they give.
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=(count,)))


def _read_about(folder: Path) -> dict[str, int]:
    try:
        values: dict[str, int] = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder}: not a store of tokens ({error}); remove the folder and run again"
        ) from None
    return values
