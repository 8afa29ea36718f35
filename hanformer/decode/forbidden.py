"""Words that must not be written, as token sequences, and constraints together."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from hanformer.decode.protocols import Constraint
from hanformer.errors import UserError


class ForbiddenWords:
    """Never completes any of the token sequences (an Aho-Corasick automaton); a state is a node number.

    禁用词（词元序列，Aho-Corasick 自动机）。

    `start(prompt)` is the state after a prompt, so that a word begun there is not completed either; without a
    prompt it is `ForbiddenWords.root`. The end token is always allowed. A word that other tokens spell is
    another sequence: give every spelling. Raises UserError for an empty word, a word with the end token, or
    ids outside the vocabulary.

    Source: Aho & Corasick 1975, Efficient string matching.
    """

    root = 0

    def __init__(self, words: Sequence[Sequence[int]], vocabulary_size: int, end_id: int) -> None:
        self.vocabulary_size = vocabulary_size
        self._next: list[dict[int, int]] = [{}]
        self._fallback = [self.root]
        self._banned: list[set[int]] = [set()]
        for word in words:
            self._check(word, end_id)
            self._insert(word)
        self._link()

    def start(self, prompt: Sequence[int]) -> int:
        """The state after the tokens of a prompt, which may hold forbidden words."""
        state = self.root
        for token in prompt:
            state = self.advance(state, token)
        return state

    def allowed(self, state: int) -> Sequence[int]:
        """Every token but those that complete a word."""
        banned = self._banned[state]
        return [token for token in range(self.vocabulary_size) if token not in banned]

    def advance(self, state: int, token: int) -> int:
        """The node of the longest begun word that the text now ends with."""
        while token not in self._next[state] and state != self.root:
            state = self._fallback[state]
        return self._next[state].get(token, self.root)

    def _check(self, word: Sequence[int], end_id: int) -> None:
        if not word or end_id in word:
            raise UserError(f"expected words of at least one token, without the end token, got {list(word)}")
        if not 0 <= min(word) <= max(word) < self.vocabulary_size:
            raise UserError(f"expected token ids in 0..{self.vocabulary_size - 1}, got {list(word)}")

    def _insert(self, word: Sequence[int]) -> None:
        node = self.root
        for token in word[:-1]:
            if token not in self._next[node]:
                self._next[node][token] = len(self._next)
                self._next.append({})
                self._fallback.append(self.root)
                self._banned.append(set())
            node = self._next[node][token]
        self._banned[node].add(word[-1])

    def _link(self) -> None:
        """Fallbacks in breadth-first order: a node also bans what the nodes that it falls back to ban."""
        waiting = deque(self._next[self.root].values())
        while waiting:
            node = waiting.popleft()
            self._banned[node] |= self._banned[self._fallback[node]]
            for token, child in self._next[node].items():
                self._fallback[child] = self.advance(self._fallback[node], token)
                waiting.append(child)


class AllOf:
    """Constraints that must all hold. 同时满足多个约束。

    Raises UserError where there is none.
    """

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        if not constraints:
            raise UserError("expected at least one constraint, got none")
        self.constraints = tuple(constraints)

    def allowed(self) -> Tensor:
        """Bool [R, V]."""
        return torch.stack([constraint.allowed() for constraint in self.constraints]).all(0)

    def advance(self, tokens: Tensor) -> None:
        """Advances every constraint."""
        for constraint in self.constraints:
            constraint.advance(tokens)

    def select(self, rows: Tensor) -> None:
        """Selects the rows of every constraint."""
        for constraint in self.constraints:
            constraint.select(rows)
