"""Ctrl-C and termination wait for the end of an update, so that what is saved is consistent."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Inside its block the first SIGINT or SIGTERM only sets `requested`; a second one acts at once.

    在上下文中，第一次中断信号只做标记，第二次立即生效。

    Outside the main thread Python allows no handlers: signals then act as usual.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            # What is ignored stays so: a run in the background is not meant to hear a terminal's Ctrl-C.
            heard = [name for name in _SIGNALS if signal.getsignal(name) is not signal.SIG_IGN]
            self._previous = {name: signal.signal(name, self._note) for name in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        for name, handler in self._previous.items():
            signal.signal(name, handler)
        self._previous = {}
