"""Grammars of arithmetic expressions as automata over token ids: decoding under them gives expressions only.

算术表达式的语法自动机：在其约束下解码，只会得到合法的表达式。

States are hashable and carry how many tokens may still be written, so that every path that is begun can be
closed in time. An operand is a sequence of tokens (one slot token, or the digits of a number).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from hanformer.errors import UserError

Operand = tuple[int, ...]


@dataclass(frozen=True)
class Operands:
    """The numbers that exist for one problem, each as its token sequence. 一道题可用的数。"""

    sequences: frozenset[Operand]

    @cached_property
    def shortest(self) -> int:
        """Tokens of the shortest operand."""
        return min(len(sequence) for sequence in self.sequences)

    @cached_property
    def _following(self) -> dict[Operand, frozenset[int]]:
        following: dict[Operand, set[int]] = {}
        for sequence in self.sequences:
            for end in range(len(sequence)):
                following.setdefault(sequence[:end], set()).add(sequence[end])
        return {begun: frozenset(tokens) for begun, tokens in following.items()}

    def following(self, begun: Operand) -> frozenset[int]:
        """Tokens that may come after the begun part of an operand."""
        return self._following.get(begun, frozenset())

    def to_finish(self, begun: Operand) -> int:
        """The fewest tokens that complete the begun part."""
        return min(len(s) - len(begun) for s in self.sequences if s[: len(begun)] == begun)


@dataclass(frozen=True)
class Progress:
    """Where a row stands: operands still owed (prefix) or brackets still open (infix), and tokens left.

    解码进度：尚缺的操作数（前缀式）或未闭合的括号（中缀式），以及剩余可写的词元数。

    `begun` is the unfinished operand, () between operands; `after_operand` matters to infix alone.
    """

    operands: Operands
    owed: int
    left: int
    begun: Operand = ()
    after_operand: bool = False


@dataclass(frozen=True)
class Grammar(ABC):
    """What prefix and infix share: the ids of operators and of the end token. 前缀与中缀语法的共同部分。"""

    operators: frozenset[int]
    end: int

    @abstractmethod
    def start(self, operands: Operands, length: int) -> Progress:
        """The state before the first of at most `length` tokens, end included."""

    @abstractmethod
    def allowed(self, state: Progress) -> Sequence[int]:
        """Token ids that keep the expression well-formed and completable."""

    @abstractmethod
    def advance(self, state: Progress, token: int) -> Progress:
        """The state after `token`."""

    def _started(self, operands: Operands, length: int, owed: int) -> Progress:
        if not operands.sequences:
            raise UserError("no number can be used: the problem has none and there are no constants")
        if length < operands.shortest + 1:
            raise UserError(
                f"an expression and its end need at least {operands.shortest + 1} tokens, got {length}"
            )
        return Progress(operands, owed, length)


@dataclass(frozen=True)
class PrefixGrammar(Grammar):
    """Operators before their two operands; done when no operand is owed. Operands are single tokens.

    前缀式：运算符在两个操作数之前；每个操作数是一个词元。
    """

    def start(self, operands: Operands, length: int) -> Progress:
        """The state before the first of at most `length` tokens, end included."""
        return self._started(operands, length, owed=1)

    def allowed(self, state: Progress) -> Sequence[int]:
        """Token ids that keep the expression well-formed and completable."""
        if not state.owed:
            return [self.end]
        # After this token and the fewest that complete it, the end must still fit.
        operators = self.operators if state.owed + 2 < state.left else ()
        return sorted({*operators, *state.operands.following(())})

    def advance(self, state: Progress, token: int) -> Progress:
        """The state after `token`."""
        change = 1 if token in self.operators else -1
        return replace(state, owed=state.owed + change, left=state.left - 1)


@dataclass(frozen=True)
class InfixGrammar(Grammar):
    """Operators between operands, with brackets; done after an operand with no bracket open. 中缀式，带括号。"""

    opening: int
    closing: int

    def start(self, operands: Operands, length: int) -> Progress:
        """The state before the first of at most `length` tokens, end included."""
        return self._started(operands, length, owed=0)

    def allowed(self, state: Progress) -> Sequence[int]:
        """Token ids that keep the expression well-formed and completable."""
        candidates = set(state.operands.following(state.begun))
        if state.after_operand:
            candidates |= self.operators
            if state.owed:
                candidates.add(self.closing)
        elif not state.begun:
            candidates.add(self.opening)
        closable = {token for token in candidates if self._closes(self.advance(state, token))}
        return sorted(closable | {self.end} if state.after_operand and not state.owed else closable)

    def _closes(self, state: Progress) -> bool:
        if state.after_operand:
            operand = 0
        else:
            operand = state.operands.to_finish(state.begun) if state.begun else state.operands.shortest
        return operand + state.owed + 1 <= state.left

    def advance(self, state: Progress, token: int) -> Progress:
        """The state after `token`."""
        left = state.left - 1
        begun = (*state.begun, token)
        if token in state.operands.following(state.begun):
            done = begun in state.operands.sequences
            return replace(state, left=left, begun=begun, after_operand=done)
        if token in self.operators:
            return replace(state, left=left, begun=(), after_operand=False)
        if token == self.opening:
            return replace(state, owed=state.owed + 1, left=left, begun=(), after_operand=False)
        if token == self.closing:
            # A closed bracket is a finished operand that no digit may continue.
            return replace(state, owed=state.owed - 1, left=left, begun=_CLOSED, after_operand=True)
        return replace(state, left=left)


#: No operand begins like this, so nothing can follow it but operators, brackets and the end.
_CLOSED: Operand = (-1,)
