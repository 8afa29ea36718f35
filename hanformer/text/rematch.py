"""Where tokens stand in the text that they were made of, found from the tokens alone.

由词元反推其在原文中的字符位置。

An `Encoding` carries exact offsets, and where there is one, this is not needed. It is for tokens that come
without them: of another tool, a file, or a call of bert4keras' `rematch` that has to move.

Source: `rematch` of bert4keras 0.11.5.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from hanformer.errors import UserError
from hanformer.text import bert4keras_rules
from hanformer.text.basic import BasicRules, Placed

Places = list[list[int]]
"""For each token the indexes of its characters; none for a special token. 各词元的字符位置。"""


def rematch(text: str, tokens: Sequence[str], lowercase: bool = True) -> Places:
    """The places of each token's characters in `text`, exact whatever was lowered, decomposed or removed.

    各词元在原文中的字符位置；形如 ``[...]`` 的词元没有位置。

    Differs from bert4keras (see `rematch_as_bert4keras`): places are those of the original text also after a
    character that becomes longer in lower case, and each is named once.
    Raises: UserError naming the token that the text does not hold where it should stand.
    """
    prepared = bert4keras_rules.prepare(text, BasicRules(lowercase, lowercase))
    placed = bert4keras_rules.normalise(prepared, BasicRules(lowercase, lowercase))
    return [list(dict.fromkeys(places)) for places in _found(text, placed, tokens)]


def rematch_as_bert4keras(text: str, tokens: Sequence[str], lowercase: bool = True) -> Places:
    """What bert4keras' own `rematch` gives, to the last index.

    与 bert4keras 的 `rematch` 完全一致。

    Its indexes count characters of the lowered text: after ``İ``, whose small form has two characters, they
    are one too high. A character that decomposes into several has its index several times.
    Raises: UserError where bert4keras raises an error: a token that is not found.
    """
    lowered = text.lower() if lowercase else text
    placed: list[Placed] = []
    for place, character in enumerate(lowered):
        parts = unicodedata.normalize("NFD", character) if lowercase else character
        kept = (part for part in parts if not (lowercase and unicodedata.category(part) == "Mn"))
        placed += [(part, place) for part in kept]
    return _found(text, placed, tokens)


def _found(text: str, placed: Iterable[Placed], tokens: Sequence[str]) -> Places:
    kept = [item for item in placed if not _vanishes(item[0])]
    string, origins = "".join(part for part, _ in kept), [place for _, place in kept]
    found: Places = []
    end = 0
    for number, token in enumerate(tokens):
        if bert4keras_rules.is_special(token):
            found.append([])
            continue
        stem = token.removeprefix("##")
        start = string.find(stem, end)
        if start < 0:
            raise UserError(
                f"token {number}, {token!r}, is not found in the text after {string[max(0, end - 10) : end]!r}; "
                f"expected the tokens of {text[:20]!r}, cut with the same case"
            )
        end = start + len(stem)
        found.append(origins[start:end])
    return found


def _vanishes(character: str) -> bool:
    return character == "\ufffd" or unicodedata.category(character) in ("Cc", "Cf")
