"""A run's curves for TensorBoard, beside what the terminal shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hanformer.errors import UserError
from hanformer.train.history import Record
from hanformer.train.progress import Reporter


class TensorBoardReporter:
    """Writes every record of a run as scalars under train/ and validation/, by update.

    把训练与验证记录写成 TensorBoard 标量曲线。

    Raises UserError where tensorboard is not installed. Show them with `tensorboard --logdir FOLDER`.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError("TensorBoard curves need tensorboard: pip install 'hanformer[train]'") from None
        self._writer = SummaryWriter(str(folder))

    def start(self, fraction: float) -> None:
        pass

    def trained(self, record: Record, fraction: float) -> None:
        for name in ("loss", "learning_rate", "gradient_norm", "tokens_per_second"):
            value = getattr(record, name)
            if value is not None:
                self._writer.add_scalar(f"train/{name}", value, record.update)

    def validated(self, record: Record, kept: bool) -> None:
        for name, value in record.metrics.items():
            self._writer.add_scalar(f"validation/{name}", value, record.update)
        self._writer.flush()

    def note(self, text: str) -> None:
        pass

    def close(self) -> None:
        self._writer.close()


class Reporters:
    """Tells several reporters the same. 同时通知多个报告器。"""

    def __init__(self, members: Sequence[Reporter]) -> None:
        self._members = members

    def start(self, fraction: float) -> None:
        for member in self._members:
            member.start(fraction)

    def trained(self, record: Record, fraction: float) -> None:
        for member in self._members:
            member.trained(record, fraction)

    def validated(self, record: Record, kept: bool) -> None:
        for member in self._members:
            member.validated(record, kept)

    def note(self, text: str) -> None:
        for member in self._members:
            member.note(text)

    def close(self) -> None:
        for member in self._members:
            member.close()


def with_curves(reporter: Reporter, folder: str) -> Reporter:
    """The reporter, and TensorBoard beside it where a folder is named. 需要时附加 TensorBoard。"""
    return Reporters([reporter, TensorBoardReporter(folder)]) if folder else reporter
