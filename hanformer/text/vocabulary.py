"""The vocabulary: a list of tokens, their ids, and which of them are special.

词表：词元与编号的对应，以及特殊词元。
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

from hanformer.errors import UserError
from hanformer.weights.atomic import write_text


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """How the special tokens are written; None where a vocabulary has no such role. 特殊词元的写法。"""

    pad: str | None = "[PAD]"
    unk: str | None = "[UNK]"
    cls: str | None = "[CLS]"
    sep: str | None = "[SEP]"
    mask: str | None = "[MASK]"

    def names(self) -> tuple[str, ...]:
        """The tokens that are not None, in the order pad, unk, cls, sep, mask. 所有特殊词元。"""
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(value for value in values if value is not None)


DEFAULT_SPECIALS = SpecialTokens()


class Vocabulary:
    """Tokens and ids, one to one: a token's id is its place in the list.

    词表：词元的编号即其位置。

    `added` names tokens that are no text of their own but signs, such as ``[N0]``: like the special tokens
    they are found in the raw text and never split.

    Raises: UserError where a token occurs twice (both line numbers named), where the unknown token is
    missing, or where an added token is not in the list.
    """

    def __init__(
        self,
        tokens: Iterable[str],
        specials: SpecialTokens = DEFAULT_SPECIALS,
        added: Iterable[str] = (),
        *,
        origin: str = "vocabulary",
    ) -> None:
        self.tokens: tuple[str, ...] = tuple(tokens)
        self.ids: dict[str, int] = {token: place for place, token in enumerate(self.tokens)}
        self.specials = specials
        self.added: tuple[str, ...] = tuple(dict.fromkeys(added))
        self._check(origin)

    def _check(self, origin: str) -> None:
        if len(self.ids) != len(self.tokens):
            raise UserError(
                f"{origin}: {_first_duplicate(self.tokens)}; keep one of them (ids follow the lines)"
            )
        if self.specials.unk is not None and self.specials.unk not in self.ids:
            raise UserError(
                f"{origin}: the unknown token {self.specials.unk} is missing; "
                "add it, or name another one in SpecialTokens(unk=...)"
            )
        absent = [token for token in self.added if token not in self.ids or not token]
        if absent:
            raise UserError(
                f"{origin}: added tokens {absent[:5]} are not in it; use with_added(...) to append them"
            )

    @classmethod
    def from_file(
        cls, path: str | Path, specials: SpecialTokens = DEFAULT_SPECIALS, added: Iterable[str] = ()
    ) -> Vocabulary:
        r"""Read a vocab.txt: UTF-8, one token a line; only ``\n`` (or ``\r\n`` throughout) ends a line.

        读取 vocab.txt，每行一个词元；其他空白字符都属于词元。

        Raises: UserError naming the file and the line.
        """
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
        return cls(_lines(str(path), raw), specials, added, origin=str(path))

    @classmethod
    def build(
        cls,
        texts: Iterable[str],
        split: Callable[[str], Iterable[str]],
        *,
        size: int | None = None,
        minimum_count: int = 1,
        specials: SpecialTokens = DEFAULT_SPECIALS,
        added: Sequence[str] = (),
    ) -> Vocabulary:
        """Count what `split` makes of the texts; most frequent first, equal counts by code point.

        由文本统计词表：按频次降序，同频按码点升序。

        The list begins with the special and the added tokens. `size` bounds the whole list; tokens seen fewer
        than `minimum_count` times are left out.
        Raises: UserError where `size` has no room for the special and added tokens.
        """
        counts = Counter(token for text in texts for token in split(text))
        first = list(dict.fromkeys([*specials.names(), *added]))
        if size is not None and size < len(first):
            raise UserError(
                f"vocabulary size {size} has no room for the {len(first)} special and added tokens"
            )
        taken = set(first)
        found = [token for token, count in counts.items() if count >= minimum_count and token not in taken]
        found.sort(key=lambda token: (-counts[token], token))
        return cls([*first, *found][:size], specials, added)

    def with_added(self, tokens: Iterable[str]) -> Vocabulary:
        """The same vocabulary with signs that are never split; those it lacks are appended, in order.

        添加不可拆分的词元；已有者编号不变，缺少者追加在末尾。
        """
        new = list(dict.fromkeys(tokens))
        missing = [token for token in new if token not in self.ids]
        return Vocabulary([*self.tokens, *missing], self.specials, [*self.added, *new])

    def save(self, path: str | Path) -> None:
        r"""Write vocab.txt, one token a line; `from_file` gives the same vocabulary back.

        写出 vocab.txt，可原样读回。

        Raises: UserError where a token cannot stand on a line of its own (it holds ``\n`` or ends in ``\r``),
        or the file cannot be written.
        """
        bad = next((token for token in self.tokens if "\n" in token or token.endswith("\r")), None)
        if bad is not None:
            raise UserError(f"{path}: token {bad!r} (id {self.ids[bad]}) cannot stand on a line; remove it")
        write_text(path, "".join(f"{token}\n" for token in self.tokens))

    def ids_of(self, tokens: Iterable[str]) -> list[int]:
        """The ids of tokens; a token that is not in the list gives the unknown id. 词元转编号。"""
        if self.specials.unk is None:
            return [self._id(token) for token in tokens]
        unknown = self.unk_id
        return [self.ids.get(token, unknown) for token in tokens]

    def tokens_of(self, ids: Iterable[int]) -> list[str]:
        """The tokens of ids. Raises: UserError for an id out of range. 编号转词元。"""
        found = []
        for number in ids:
            if not 0 <= number < len(self.tokens):
                raise UserError(f"id {number} is out of range: the vocabulary has {len(self.tokens)} tokens")
            found.append(self.tokens[number])
        return found

    @property
    def atomic(self) -> tuple[str, ...]:
        """The tokens that are found in raw text and never split: special ones present, and added ones.

        不可拆分的词元。
        """
        present = [token for token in self.specials.names() if token in self.ids]
        return tuple(dict.fromkeys([*present, *self.added]))

    @cached_property
    def pad_id(self) -> int:
        """The id of padding. Raises: UserError where there is none, as the next four. 填充编号。"""
        return self._id(self.specials.pad, "pad")

    @cached_property
    def unk_id(self) -> int:
        """The id of what is unknown. 未知词编号。"""
        return self._id(self.specials.unk, "unk")

    @cached_property
    def cls_id(self) -> int:
        """The id of the token that opens a text. 起始编号。"""
        return self._id(self.specials.cls, "cls")

    @cached_property
    def sep_id(self) -> int:
        """The id of the token that closes a text. 分隔编号。"""
        return self._id(self.specials.sep, "sep")

    @cached_property
    def mask_id(self) -> int:
        """The id of the token that hides another. 掩码编号。"""
        return self._id(self.specials.mask, "mask")

    def _id(self, token: str | None, role: str = "") -> int:
        if token is None or token not in self.ids:
            wanted = f"{role} token {token}" if role else f"token {token!r}"
            raise UserError(
                f"the vocabulary of {len(self.tokens)} tokens has no {wanted}; add it to the vocabulary"
            )
        return self.ids[token]

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self.ids

    def __getitem__(self, token: str) -> int:
        return self._id(token)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return (self.tokens, self.specials, self.added) == (other.tokens, other.specials, other.added)

    def __hash__(self) -> int:
        return hash((self.tokens, self.specials, self.added))

    def __repr__(self) -> str:
        return f"Vocabulary({len(self.tokens)} tokens, {len(self.added)} added)"


def _lines(origin: str, raw: bytes) -> list[str]:
    raw = raw.removeprefix(codecs.BOM_UTF8)
    parts = raw.removesuffix(b"\n").split(b"\n") if raw else []
    if parts and all(part.endswith(b"\r") for part in parts[:-1]) and raw.endswith(b"\r\n"):
        parts = [part.removesuffix(b"\r") for part in parts]
    tokens = []
    for number, part in enumerate(parts, start=1):
        try:
            tokens.append(part.decode("utf-8"))
        except UnicodeDecodeError:
            raise UserError(f"{origin}: line {number} is not UTF-8; convert the file to UTF-8") from None
    return tokens


def _first_duplicate(tokens: Sequence[str]) -> str:
    seen: dict[str, int] = {}
    for number, token in enumerate(tokens, start=1):
        if token in seen:
            return f"token {token!r} stands on line {seen[token]} and again on line {number}"
        seen[token] = number
    return "no duplicate"
