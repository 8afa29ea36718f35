"""The curves of a run: one record a line, in memory and as JSON lines on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hanformer.errors import UserError
from hanformer.weights.atomic import saving, write_text

HISTORY_FILE = "history.jsonl"


@dataclass(frozen=True)
class Record:
    """What was measured after `update` updates: of training since the record before, or of validation.

    一条训练或验证记录。

    update: updates done; epoch: epochs done, with a fraction; seconds: since the start, over all resumed
    parts. Training records: loss (mean over counts), learning_rate, gradient_norm (before clipping),
    tokens_per_second. Validation records: metrics by name, and None for the rest.
    """

    update: int
    epoch: float
    seconds: float
    loss: float | None = None
    learning_rate: float | None = None
    gradient_norm: float | None = None
    tokens_per_second: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The fields that hold something, as JSON values."""
        return {name: value for name, value in asdict(self).items() if value is not None and value != {}}


class History:
    """The records of a run, in order.

    训练过程的全部记录。
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.records = list(records)

    def add(self, record: Record) -> None:
        """Appends a record."""
        self.records.append(record)

    @property
    def training(self) -> list[Record]:
        """The records of training, for a loss curve."""
        return [record for record in self.records if record.loss is not None]

    @property
    def validations(self) -> list[Record]:
        """The records of validation, for curves of metrics."""
        return [record for record in self.records if record.metrics]

    @property
    def last_loss(self) -> float:
        """The training loss of the newest record.

        Raises UserError where nothing was recorded.
        """
        if not self.training:
            raise UserError("the history is empty: no update was recorded")
        loss = self.training[-1].loss
        return float("nan") if loss is None else loss

    def to_json(self) -> list[dict[str, Any]]:
        """Records as JSON values."""
        return [record.to_json() for record in self.records]

    @classmethod
    def from_json(cls, rows: Iterable[Mapping[str, Any]]) -> History:
        """The history of rows that `to_json` gave."""
        return cls(Record(**row) for row in rows)

    @classmethod
    def read(cls, path: str | Path) -> History:
        """Reads JSON lines; a last line that a kill cut short is left out.

        读取 JSON 行；被中断截断的最后一行会被忽略。

        Raises UserError for a missing file and for any other line that is not JSON.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise UserError(
                f"{path}: cannot be read ({error.strerror}); expected the history of a run"
            ) from None
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                if number == len(lines):
                    break
                raise UserError(f"{path}, line {number}: expected a JSON object, got {line[:40]!r}") from None
        return cls.from_json(rows)


class HistoryFile:
    """Keeps a JSON-lines file in step with a history: rewritten at the start, one line a record after that.

    让 JSON 行文件与历史记录保持一致。

    path: None for a run without a folder: nothing is written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def rewrite(self, history: History) -> None:
        """Makes the file hold exactly this history (a kill may have left records that are undone)."""
        if self._path is not None:
            write_text(self._path, "".join(_line(record) for record in history.records))

    def append(self, record: Record) -> None:
        """Adds one line."""
        if self._path is not None:
            with saving(self._path), open(self._path, "a", encoding="utf-8") as file:
                file.write(_line(record))


def _line(record: Record) -> str:
    return json.dumps(record.to_json(), ensure_ascii=False) + "\n"
