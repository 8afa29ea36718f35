"""Text that matches a regular expression, token by token: a character automaton walked over a vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from hanformer.decode.pattern_syntax import Chain, Choice, Letter, Ranges, Repeat, Tree, parse
from hanformer.errors import UserError

MOST_NODES: Final = 10_000
"""Nodes of an automaton before an expression is refused as too large. 自动机节点数上限。"""

MOST_MOVES: Final = 200_000
"""Moves that are remembered. 缓存的转移数上限。"""

PatternState = frozenset[int]
"""The nodes that the text so far may have reached. 当前可能所处的节点集合。"""


class CharacterAutomaton:
    """The expression as an automaton over characters, its sets of nodes made when first reached.

    字符自动机（Thompson 构造，子集按需生成，时间与文本长度成正比）。

    Supported: literal characters, `.` (all but a newline), classes `[a-z]` `[^...]`, `\\d \\w \\s \\D \\W \\S`
    (ASCII), `\\n \\t \\r`, escaped signs, groups `(...)` and `(?:...)`, `|`, and the quantifiers
    `* + ? {m} {m,} {m,n}`. The whole text must match. Matching never backtracks. Raises UserError for other
    syntax, and for expressions of more than 10,000 nodes.

    Source: Thompson 1968, Regular expression search algorithm.
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self._edges: list[list[tuple[Ranges, int]]] = []
        self._free: list[list[int]] = []
        self._moves: dict[tuple[PatternState, str], PatternState] = {}
        first = self._new()
        self._final = self._build(parse(expression), first)
        self.start = self._closure([first])

    def matches(self, state: PatternState) -> bool:
        """Whether the text may end here."""
        return self._final in state

    def move(self, state: PatternState, character: str) -> PatternState:
        """The state after a character; empty where the text can no longer match."""
        found = self._moves.get((state, character))
        if found is None:
            if len(self._moves) >= MOST_MOVES:
                self._moves.clear()
            found = self._moves[state, character] = self._moved(state, ord(character))
        return found

    def _moved(self, state: PatternState, code: int) -> PatternState:
        return self._closure(
            target
            for node in state
            for ranges, target in self._edges[node]
            if any(first <= code <= last for first, last in ranges)
        )

    def _closure(self, nodes: Iterable[int]) -> PatternState:
        reached, waiting = set(), list(nodes)
        while waiting:
            node = waiting.pop()
            if node not in reached:
                reached.add(node)
                waiting += self._free[node]
        return frozenset(reached)

    def _new(self) -> int:
        if len(self._edges) >= MOST_NODES:
            raise UserError(
                f"regular expression {self.expression[:60]!r}: it needs more than {MOST_NODES} nodes; "
                "use smaller counts"
            )
        self._edges.append([])
        self._free.append([])
        return len(self._edges) - 1

    def _build(self, tree: Tree, start: int) -> int:
        """Adds the tree after the node `start`; the node where it is matched."""
        if isinstance(tree, Letter):
            end = self._new()
            self._edges[start].append((tree.ranges, end))
            return end
        if isinstance(tree, Chain):
            for part in tree.parts:
                start = self._build(part, start)
            return start
        if isinstance(tree, Choice):
            return self._build_choice(tree, start)
        return self._build_repeat(tree, start)

    def _build_choice(self, tree: Choice, start: int) -> int:
        end = self._new()
        for part in tree.parts:
            branch = self._new()
            self._free[start].append(branch)
            self._free[self._build(part, branch)].append(end)
        return end

    def _build_repeat(self, tree: Repeat, start: int) -> int:
        for _ in range(tree.least):
            start = self._build(tree.part, start)
        end = self._new()
        self._free[start].append(end)
        if tree.most is None:
            self._free[self._build(tree.part, end)].append(end)
            return end
        for _ in range(tree.most - tree.least):
            start = self._build(tree.part, start)
            self._free[start].append(end)
        return end


class Pattern:
    """Allows the tokens after which the text can still match, and the end token where it does.

    正则约束：只允许仍可能匹配的词元；匹配时方可结束。

    `token_texts[i]` is what token i adds to the text; None (a special token, a token of part of a character)
    or an empty text is never allowed. The start state is `start`. A vocabulary that cannot spell the rest of
    a match ends in the loop's error that no token is allowed. Errors are those of `CharacterAutomaton`.
    """

    def __init__(self, expression: str, token_texts: Sequence[str | None], end_id: int) -> None:
        self.characters = CharacterAutomaton(expression)
        self.token_texts, self.end_id = token_texts, end_id
        self.start = self.characters.start
        self._trie = _Node()
        for token, text in enumerate(token_texts):
            if text and token != end_id:
                self._trie.insert(text, token)

    def allowed(self, state: PatternState) -> list[int]:
        """A walk over the vocabulary's tree that turns back where nothing can match."""
        tokens = [self.end_id] if self.characters.matches(state) else []
        waiting = [(self._trie, state)]
        while waiting:
            node, reached = waiting.pop()
            tokens += node.tokens
            for character, child in node.children.items():
                following = self.characters.move(reached, character)
                if following:
                    waiting.append((child, following))
        return tokens

    def advance(self, state: PatternState, token: int) -> PatternState:
        """The state after the token's characters."""
        for character in self.token_texts[token] or "":
            state = self.characters.move(state, character)
        return state


class _Node:
    """A tree of the vocabulary's texts."""

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.tokens: list[int] = []

    def insert(self, text: str, token: int) -> None:
        node = self
        for character in text:
            node = node.children.setdefault(character, _Node())
        node.tokens.append(token)
