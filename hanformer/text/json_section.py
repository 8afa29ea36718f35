"""A JSON object of a file, asked for one entry at a time: what is of another kind is named with its file.

JSON 配置的安全读取：类型不符时指明文件与字段。
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hanformer.errors import UserError


@dataclass(frozen=True, slots=True)
class Section:
    """An object of a JSON file; an entry that is null counts as missing. JSON 对象。"""

    file: Path
    values: Mapping[str, object]

    @classmethod
    def of_file(cls, file: Path) -> Section:
        """The object that a file holds, an empty one where there is no file. 读取文件。

        Raises: UserError where the file cannot be read or holds something else.
        """
        if not file.exists():
            return cls(file, {})
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{file}: expected a JSON object ({error}); repair the file or delete it"
            ) from None
        if not isinstance(values, dict):
            kind = type(values).__name__
            raise UserError(f"{file}: expected a JSON object, found {kind}; repair the file or delete it")
        return cls(file, values)

    def flag(self, name: str) -> bool | None:
        """True, false, or None where it is missing. Raises: UserError, as the others. 布尔值。"""
        value = self.values.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong(name, "true or false")

    def count(self, name: str) -> int | None:
        """A number from 1 on. 正整数。"""
        value = self.values.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
            return value
        raise self.wrong(name, "a positive whole number")

    def text(self, name: str) -> str | None:
        """A text. 文本。"""
        value = self.values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self.wrong(name, "text")

    def inner(self, name: str) -> Section:
        """An object within, an empty one where it is missing. 内层对象。"""
        value = self.values.get(name)
        if value is None:
            return Section(self.file, {})
        if isinstance(value, dict):
            return Section(self.file, value)
        raise self.wrong(name, "an object")

    def listed(self, name: str) -> list[object]:
        """A list, an empty one where it is missing; of an object its values. 列表。"""
        value = self.values.get(name)
        if value is None:
            return []
        if isinstance(value, dict):
            return list(value.values())
        if isinstance(value, list):
            return value
        raise self.wrong(name, "a list")

    def token(self, name: str) -> str | None:
        """A token, which newer files write as an object with a content entry. 词元。"""
        return token_text(self.file, self.values.get(name))

    def wrong(self, name: str, expected: str) -> UserError:
        """The error that an entry is of another kind. 类型不符的错误。"""
        value = repr(self.values.get(name))[:60]
        return UserError(f"{self.file}: {name} is {value}, expected {expected}; repair the file")


def token_text(file: Path, token: object) -> str | None:
    """The text of a token that is written as text or as an object; None for null.

    词元的文本。

    Raises: UserError for anything else.
    """
    content = token.get("content") if isinstance(token, dict) else token
    if content is None or isinstance(content, str):
        return content
    raise UserError(f"{file}: a special token is {repr(token)[:60]}, expected text; repair the file")
