"""A conversation: turns of two speakers, taken back, saved and opened again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hanformer.errors import UserError
from hanformer.weights.atomic import write_text

_KIND: Final = "hanformer conversation"
_VERSION: Final = 1


@dataclass(frozen=True)
class Conversation:
    """What was said so far, in turns: an utterance, its reply, an utterance, its reply, ...

    对话记录：一问一答交替。
    """

    turns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.turns, str):
            raise UserError(f"a conversation holds turns, got one text: write ({self.turns[:20]!r}, ...)")
        if len(self.turns) % 2:
            raise UserError(
                f"a conversation holds utterances and their replies in turn; got {len(self.turns)} turns, "
                "the last utterance has no reply"
            )

    def answered(self, utterance: str, reply: str) -> Conversation:
        """The same with one more utterance and its reply. 追加一问一答。"""
        return Conversation((*self.turns, utterance, reply))

    def undone(self) -> Conversation:
        """The same without the last utterance and its reply; raises UserError where there is none. 撤回一问一答。"""
        if not self.turns:
            raise UserError("there is nothing to take back: the conversation is empty")
        return Conversation(self.turns[:-2])

    def save(self, path: str | Path) -> None:
        """Writes the conversation as JSON, whole or not at all. 保存为 JSON。

        Raises UserError where the file cannot be written.
        """
        content = {"kind": _KIND, "version": _VERSION, "turns": list(self.turns)}
        write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def open_conversation(path: str | Path) -> Conversation:
    """The conversation that `save` wrote.

    读取保存的对话。

    Raises UserError for a file that is missing or broken, or holds anything else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected a saved conversation, this is no JSON ({error})") from None
    if not isinstance(content, Mapping) or content.get("kind") != _KIND:
        raise UserError(f"{path}: expected a conversation that /save wrote, this is another file")
    if content.get("version") != _VERSION:
        raise UserError(
            f"{path}: expected a conversation of version {_VERSION}, got {content.get('version')!r}; "
            "open it with the version of Hanformer that wrote it"
        )
    try:
        return Conversation(_turns(content.get("turns")))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _turns(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(turn, str) and turn.strip() for turn in values):
        raise UserError("turns: expected a list of texts that are not empty")
    return tuple(values)
