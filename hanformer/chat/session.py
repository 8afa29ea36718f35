"""Talking: utterances are answered, and lines that begin with a slash are commands.

对话过程：普通行得到回复，以斜线开头的行是命令。
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from hanformer.chat.conversation import Conversation, open_conversation
from hanformer.chat.replies import Replier
from hanformer.errors import UserError

HELP: Final = """/undo        take the last utterance and its reply back · 撤回上一轮
/reset       forget the conversation · 清空对话
/save FILE   write the conversation · 保存对话
/load FILE   go on with a saved conversation · 读取对话
/help        this list · 帮助
/quit        leave · 退出
//...        say something that begins with a slash · 说以斜线开头的话"""


class Session:
    """A conversation that goes on with a model.

    与模型进行中的对话。

    A reply that is interrupted counts as far as it was said. Each reply draws anew, also after `/undo`.
    """

    def __init__(self, replier: Replier, conversation: Conversation | None = None) -> None:
        self.replier = replier
        self.conversation = conversation or Conversation()
        self.over = False
        self._replies = 0
        self._commands: dict[str, Callable[[str], str]] = {
            "/undo": self._undo,
            "/reset": self._reset,
            "/save": self._save,
            "/load": self._load,
            "/help": self._help,
            "/quit": self._quit,
        }

    def say(self, utterance: str) -> Iterator[str]:
        """The reply piece by piece; close the iteration to cut it short. 逐段给出回复，可随时中断。

        Raises UserError for an utterance that is empty or does not fit.
        """
        utterance = utterance.strip()
        pieces: list[str] = []
        self._replies += 1
        try:
            for piece in self.replier.stream((*self.conversation.turns, utterance), number=self._replies):
                pieces.append(piece)
                yield piece
        finally:
            reply = "".join(pieces).strip()
            if reply:
                self.conversation = self.conversation.answered(utterance, reply)

    def command(self, line: str) -> str:
        """Does what a command says, and tells it. 执行命令。

        Raises UserError for an unknown command, and where it cannot be done.
        """
        name, _, rest = line.strip().partition(" ")
        if name not in self._commands:
            raise UserError(f"{name}: unknown command; /help lists them, //... says something with a slash")
        return self._commands[name](rest.strip())

    def _undo(self, rest: str) -> str:
        _nothing("/undo", rest)
        self.conversation = self.conversation.undone()
        return f"taken back; {len(self.conversation.turns)} turns are left"

    def _reset(self, rest: str) -> str:
        _nothing("/reset", rest)
        self.conversation = Conversation()
        return "a new conversation"

    def _save(self, rest: str) -> str:
        self.conversation.save(_file("/save", rest))
        return f"{rest}: {len(self.conversation.turns)} turns"

    def _load(self, rest: str) -> str:
        self.conversation = open_conversation(_file("/load", rest))
        return f"{rest}: {len(self.conversation.turns)} turns"

    def _help(self, rest: str) -> str:
        return HELP

    def _quit(self, rest: str) -> str:
        self.over = True
        return ""


def is_command(line: str) -> bool:
    """Whether a line is a command rather than something said. 是否为命令。"""
    return line.lstrip().startswith("/") and not line.lstrip().startswith("//")


def said(line: str) -> str:
    """What a line says: a doubled slash at its beginning is one. 去掉转义斜线。"""
    line = line.strip()
    return line[1:] if line.startswith("//") else line


def _file(command: str, rest: str) -> str:
    if not rest:
        raise UserError(f"{command} needs the name of a file, as in {command} talk.json")
    return rest


def _nothing(command: str, rest: str) -> None:
    if rest:
        raise UserError(f"{command} takes nothing behind it, got {rest!r}")
