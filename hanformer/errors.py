"""The errors that a user of Hanformer is meant to read."""

from __future__ import annotations


class UserError(ValueError):
    """Something the caller gave cannot be used: the message says what was expected, what came and what to do.

    调用者给出的输入不可用：消息说明期望什么、收到什么、该怎么办。

    Commands print the message on one line and leave with exit code 2.
    """
