"""Reading treebanks: Penn brackets (.mrg) and the notation of the Sinica Treebank, without signs and empty leaves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from hanformer.data.files import iterate_members
from hanformer.errors import UserError
from hanformer.parsing.brackets import Brackets

EMPTY = frozenset({"-NONE-"})
#: Of the Penn Treebank; PU is that of the Chinese one.
PUNCTUATION = frozenset({",", ".", ":", "``", "''", "-LRB-", "-RRB-", "PU"})
#: What the authors of PRPN and ON-LSTM leave out besides.
CURRENCY = frozenset({"$", "#"})
#: What is left out of Penn trees unless said otherwise.
DROPPED = EMPTY | PUNCTUATION
_SUFFIXES = (".mrg", ".ptb", "/parsed")
#: Lines that hold a tag of the Chinese Treebank's files alone, such as <S ID=1>.
_TAG_LINE = re.compile(r"^[ \t]*</?[A-Z]+[^>\n]*>[ \t\r]*$", re.MULTILINE)
_PENN = re.compile(r"[()]|[^\s()]+")
_SINICA = re.compile(r"[()|]|[^()|]+")


@dataclass(frozen=True)
class Leaf:
    """A word and its tag. 词与词性。"""

    word: str
    tag: str


@dataclass(frozen=True)
class Gold:
    """A tree as it was read: its leaves, and the spans of all its nodes over them.

    读入的标准树：叶子与各结点覆盖的区间。
    """

    leaves: tuple[Leaf, ...]
    spans: tuple[tuple[int, int], ...]

    def brackets(self, dropped: frozenset[str] = DROPPED) -> Brackets:
        """The tree without the leaves of the tags `dropped`; spans that become equal, or of one word, are one or none.

        去掉指定词性的叶子后的括号。
        """
        places = [0]
        for leaf in self.leaves:
            places.append(places[-1] + (leaf.tag not in dropped))
        words = [leaf.word for leaf in self.leaves if leaf.tag not in dropped]
        return Brackets.of(words, [(places[start], places[stop]) for start, stop in self.spans])


def read_treebank(
    path: str | Path, dropped: frozenset[str] = DROPPED, *, longest: int | None = None
) -> list[Brackets]:
    """The trees of a file, folder or zip of Penn brackets (.mrg) or Sinica notation, of 1 to `longest` words.

    读取树库（Penn 括号或中研院句法树），去掉标点与空成分；`longest=10` 即 WSJ10。

    Raises UserError naming the file for what is no tree, and where there is none.
    """
    trees = [gold.brackets(dropped) for gold in _all(Path(path))]
    if not trees:
        raise UserError(f"{path}: expected trees in brackets, found none; check that this is a treebank")
    return [tree for tree in trees if tree.words and (longest is None or len(tree.words) <= longest)]


def _all(path: Path) -> Iterator[Gold]:
    files = sorted(found for found in path.rglob("*.mrg")) if path.is_dir() else [path]
    for name, chunks in chain.from_iterable(iterate_members(file, suffixes=_SUFFIXES) for file in files):
        try:
            text = b"".join(chunks).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise UserError(f"{name}: is not UTF-8 text; expected a treebank") from None
        yield from _read(name, text)


def _read(name: str, text: str) -> Iterator[Gold]:
    text = _TAG_LINE.sub("", text)
    stripped = text.lstrip()
    if stripped.startswith("("):
        yield from penn_trees(text, name)
    elif stripped.startswith("#"):
        yield from (
            sinica_tree(line, f"{name}, line {n}")
            for n, line in enumerate(text.split("\n"), 1)
            if line.strip()
        )
    elif stripped:
        raise UserError(f"{name}: expected trees that begin with ( or #, got {stripped[:20]!r}")


class _Building:
    """Leaves and spans while brackets open and close."""

    def __init__(self) -> None:
        self.leaves: list[Leaf] = []
        self.spans: list[tuple[int, int]] = []
        self.open: list[int] = []

    def begin(self) -> None:
        self.open.append(len(self.leaves))

    def end(self) -> None:
        self.spans.append((self.open.pop(), len(self.leaves)))

    def gold(self) -> Gold:
        return Gold(tuple(self.leaves), tuple(self.spans))


@dataclass
class _Bracket:
    """What stands in an open bracket: its names, and whether other brackets."""

    names: list[str] = field(default_factory=list)
    inner: bool = False

    @property
    def is_leaf(self) -> bool:
        return len(self.names) == 2 and not self.inner

    @property
    def is_node(self) -> bool:
        return len(self.names) < 2 and self.inner


def penn_trees(text: str, name: str = "text") -> Iterator[Gold]:
    """The trees of a text in Penn brackets, ( (S (NP (NNP Kim)) (VP (VBZ sleeps))) ) one after the other.

    解析 Penn 括号文本。

    A bracket holds a tag and a word, or brackets after at most one label. Raises UserError for anything else, and
    where brackets do not match.
    """
    building, open_ = _Building(), list[_Bracket]()
    for sign in _PENN.findall(text):
        if sign == "(":
            if open_:
                open_[-1].inner = True
            building.begin()
            open_.append(_Bracket())
        elif not open_:
            what = (
                "a bracket closes that never opened"
                if sign == ")"
                else f"{sign!r} stands outside of brackets"
            )
            raise UserError(f"{name}: {what}, after {len(building.leaves)} words of its tree")
        elif sign == ")":
            _close(building, open_.pop(), name)
            if not open_:
                yield building.gold()
                building = _Building()
        else:
            _name(open_[-1], sign, name)
    if open_:
        raise UserError(f"{name}: {len(open_)} brackets are never closed; the file is truncated")


def _name(bracket: _Bracket, sign: str, name: str) -> None:
    if bracket.inner or len(bracket.names) > 1:
        raise UserError(
            f"{name}: {sign!r} stands beside {'brackets' if bracket.inner else bracket.names}; expected (tag word), or "
            "a label and brackets: Penn notation, in which every word has a tag"
        )
    bracket.names.append(sign)


def _close(building: _Building, bracket: _Bracket, name: str) -> None:
    if bracket.is_leaf:
        building.leaves.append(Leaf(word=bracket.names[1], tag=bracket.names[0]))
    elif not bracket.is_node:
        inner = " and brackets" if bracket.inner else ""
        raise UserError(
            f"{name}: a bracket holds {bracket.names}{inner}; expected (tag word), or a label and brackets, as Penn "
            "notation has them"
        )
    building.end()


def sinica_tree(line: str, name: str = "text") -> Gold:
    """The tree of a line such as `#2:2.[39028] S(agent:NP(Head:Nhaa:你)|Head:VC31:喝)#，(COMMACATEGORY)`.

    解析中研院句法树的一行。

    The sign that ends the line is no part of the tree. Raises UserError for another notation.
    """
    parts = line.strip().split("#")
    if len(parts) < 3 or " " not in parts[1]:
        raise UserError(f"{name}: expected #number tree#sign, got {line.strip()[:40]!r}")
    return _sinica(parts[1].split(" ", 1)[1].strip(), name)


def _sinica(tree: str, name: str) -> Gold:
    building, pending = _Building(), ""

    def leaf() -> None:
        if pending:
            tag, _, word = pending.rpartition(":")
            building.leaves.append(Leaf(word, tag.rpartition(":")[2]))

    for sign in _SINICA.findall(tree):
        if sign == "(":
            building.begin()
            pending = ""
        elif sign == "|":
            leaf()
            pending = ""
        elif sign == ")" and building.open:
            leaf()
            pending = ""
            building.end()
        elif sign == ")":
            raise UserError(f"{name}: a bracket closes that never opened in {tree[:40]!r}")
        else:
            pending = sign
    leaf()
    if building.open:
        raise UserError(f"{name}: {len(building.open)} brackets are never closed in {tree[:40]!r}")
    return building.gold()
