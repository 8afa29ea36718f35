"""From tokens back to a line that reads well: blanks between words of letters, none around Chinese.

由词元还原可读文本：西文单词之间加空格，中文之间不加。
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hanformer.text.basic import is_chinese, is_punctuation

_SPACED_AFTER: Final = frozenset(".,:;!?)]}>%&|\\")


def join(tokens: Iterable[str], continuation: str = "##") -> str:
    """Join tokens; one that begins with `continuation` goes on with the word before.

    拼接词元，按可读性决定空格。

    No blank stands beside Chinese or its punctuation, before a sign, after an opening sign or an operator, or
    inside a decimal such as ``3.5``.
    """
    parts: list[str] = []
    for token in tokens:
        if token.startswith(continuation) and len(token) > len(continuation):
            parts.append(token[len(continuation) :])
            continue
        if parts and _blank_between(parts, token):
            parts.append(" ")
        parts.append(token)
    return "".join(parts)


def _blank_between(parts: list[str], token: str) -> bool:
    last, first = parts[-1][-1:], token[:1]
    if not last or not first or _wide(last) or _wide(first):
        return False
    if is_punctuation(first) and not token.startswith("["):
        return False
    if last == "." and first.isdigit():
        return not (len(parts) > 1 and parts[-2][-1:].isdigit())
    return not is_punctuation(last) or last in _SPACED_AFTER


def _wide(character: str) -> bool:
    """Chinese, kana, fullwidth signs and Chinese punctuation. 中文及全角符号。"""
    code = ord(character)
    return (
        is_chinese(character)
        or 0x3000 <= code <= 0x30FF
        or 0xFF00 <= code <= 0xFFEF
        or character in "“”‘’—…·"
    )
