"""What a user sees while a run trains: a live bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Protocol, TextIO

from hanformer.train.history import Record

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Reporter(Protocol):
    """Told by the trainer what happens; `fraction` is the part of the run that is done, 0 to 1.

    训练过程的报告接口。
    """

    def start(self, fraction: float) -> None:
        """A run starts, or goes on from `fraction`."""

    def trained(self, record: Record, fraction: float) -> None:
        """Some updates were made."""

    def validated(self, record: Record, kept: bool) -> None:
        """A validation was made; `kept`: its checkpoint is the one that the run keeps so far."""

    def note(self, text: str) -> None:
        """Something to be read, in one line."""

    def close(self) -> None:
        """The run is over, or broke off."""


class SilentReporter:
    """Says nothing. 不输出。"""

    def start(self, fraction: float) -> None:
        pass

    def trained(self, record: Record, fraction: float) -> None:
        pass

    def validated(self, record: Record, kept: bool) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class LineReporter:
    """Plain lines, at most one each `every` seconds for training: for files, pipes and logs.

    纯文本逐行输出，用于日志与管道。
    """

    def __init__(self, stream: TextIO | None = None, every: float = 10.0) -> None:
        self._stream = stream
        self._every = every
        self._next = 0.0
        self._clock = RemainingTime()

    def start(self, fraction: float) -> None:
        self._clock = RemainingTime(fraction)
        self._next = 0.0

    def trained(self, record: Record, fraction: float) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + self._every
            self.note(f"{fraction:4.0%}  {describe(record)}  left {self._clock.left(fraction)}")

    def validated(self, record: Record, kept: bool) -> None:
        self.note(f"validation: {describe(record)}{'  (kept)' if kept else ''}")

    def note(self, text: str) -> None:
        print(text, file=self._stream or sys.stderr, flush=True)

    def close(self) -> None:
        pass


class BarReporter:
    """A live bar with loss, learning rate, tokens a second and the time left, by rich.

    终端进度条：损失、学习率、速度与剩余时间。
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.percentage:3.0f}%"),
            BarColumn(bar_width=10),
            TextColumn("{task.description}"),
        )
        self._bar: Progress = Progress(*columns, console=Console(file=stream or sys.stderr))
        self._task: TaskID | None = None
        self._clock = RemainingTime()

    def start(self, fraction: float) -> None:
        self._clock = RemainingTime(fraction)
        self._task = self._bar.add_task("starting", total=1.0)
        self._bar.update(self._task, completed=fraction)
        self._bar.start()

    def trained(self, record: Record, fraction: float) -> None:
        if self._task is not None:
            text = f"{brief(record)}  left {self._clock.left(fraction)}"
            self._bar.update(self._task, completed=fraction, description=text)

    def validated(self, record: Record, kept: bool) -> None:
        self.note(f"validation: {describe(record)}{'  (kept)' if kept else ''}")

    def note(self, text: str) -> None:
        self._bar.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        self._bar.stop()


def reporter_for(stream: TextIO | None = None) -> Reporter:
    """A bar where the stream (standard error by default) is a terminal, lines where it is not.

    终端用进度条，其他情况逐行输出。
    """
    return BarReporter(stream) if (stream or sys.stderr).isatty() else LineReporter(stream)


class RemainingTime:
    """Time left, from the part of the run done since `start`. 估计剩余时间。"""

    def __init__(self, start: float = 0.0) -> None:
        self._start = start
        self._began = time.monotonic()

    def seconds(self, fraction: float) -> float | None:
        """elapsed * (1 - fraction) / (fraction - start), or None before anything is done."""
        done = fraction - self._start
        if done <= 0.0:
            return None
        return (time.monotonic() - self._began) * max(1.0 - fraction, 0.0) / done

    def left(self, fraction: float) -> str:
        """The same as h:mm:ss or m:ss."""
        seconds = self.seconds(fraction)
        return "?" if seconds is None else clock(seconds)


def clock(seconds: float) -> str:
    """m:ss, or h:mm:ss from an hour on.

    把秒数写成 时:分:秒。
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def brief(record: Record) -> str:
    """A training record that leaves room for a bar in 80 columns.

    一条训练记录的简短形式。
    """
    loss, rate, speed = record.loss or 0.0, record.learning_rate or 0.0, record.tokens_per_second or 0.0
    return f"update {record.update}  loss {loss:.3f}  rate {rate:.1e}  {speed:,.0f} tokens/s"


def describe(record: Record) -> str:
    """A record in one line.

    用一行文字描述一条记录。
    """
    parts = [f"update {record.update}", f"epoch {record.epoch:.2f}", clock(record.seconds)]
    if record.loss is not None:
        parts.append(f"loss {record.loss:.4f}")
    if record.learning_rate is not None:
        parts.append(f"rate {record.learning_rate:.2e}")
    if record.tokens_per_second is not None:
        parts.append(f"{record.tokens_per_second:,.0f} tokens/s")
    parts += [f"{name} {value:.4f}" for name, value in record.metrics.items()]
    return "  ".join(parts)
