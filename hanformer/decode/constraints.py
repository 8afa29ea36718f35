"""Constraints from automata: a state says which tokens may follow, and a token leads to the next state."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from hanformer.errors import UserError

StateT = TypeVar("StateT", bound=Hashable)


class Automaton(Protocol[StateT]):
    """A deterministic automaton over token ids with hashable states: a trie, a grammar, a pattern.

    词元编号上的确定自动机（状态可哈希）：字典树、文法、模式。
    """

    def allowed(self, state: StateT) -> Sequence[int]:
        """The ids that may follow, the end token among them where the sequence may end."""
        ...

    def advance(self, state: StateT, token: int) -> StateT:
        """The state after an allowed token; the loop never advances by the token that ends a path."""
        ...


class AutomatonConstraint(Generic[StateT]):
    """Follows one automaton state a row; the masks are made once a state and kept.

    每行跟随一个自动机状态；掩码按状态缓存。

    `starts` are the states of the prompts, one each. At most `cached_masks` masks [V] are kept, those used
    last. Raises UserError where the automaton allows an id outside the vocabulary.
    """

    def __init__(
        self,
        automaton: Automaton[StateT],
        starts: Sequence[StateT],
        vocabulary_size: int,
        *,
        device: torch.device | str | None = None,
        cached_masks: int = 1024,
    ) -> None:
        self.automaton = automaton
        self.states = list(starts)
        self.vocabulary_size = vocabulary_size
        self.device = device
        self.cached_masks = cached_masks
        self._masks: OrderedDict[StateT, Tensor] = OrderedDict()

    def allowed(self) -> Tensor:
        """Bool [R, V]."""
        if not self.states:
            return torch.zeros(0, self.vocabulary_size, dtype=torch.bool, device=self.device)
        return torch.stack([self.mask(state) for state in self.states])

    def advance(self, tokens: Tensor) -> None:
        """Moves each row's automaton by its token [R]."""
        pairs = zip(self.states, tokens.tolist(), strict=True)
        self.states = [self.automaton.advance(state, token) for state, token in pairs]

    def select(self, rows: Tensor) -> None:
        """Row r takes the automaton state of the old row `rows[r]`."""
        self.states = [self.states[row] for row in rows.tolist()]

    def mask(self, state: StateT) -> Tensor:
        """Bool [V] of one automaton state, made or remembered."""
        if state in self._masks:
            self._masks.move_to_end(state)
            return self._masks[state]
        mask = self._make_mask(state)
        self._masks[state] = mask
        if len(self._masks) > self.cached_masks:
            self._masks.popitem(last=False)
        return mask

    def _make_mask(self, state: StateT) -> Tensor:
        tokens = list(self.automaton.allowed(state))
        if tokens and not 0 <= min(tokens) <= max(tokens) < self.vocabulary_size:
            raise UserError(
                f"expected allowed ids in 0..{self.vocabulary_size - 1}, "
                f"got {min(tokens)}..{max(tokens)} in automaton state {state!r}"
            )
        mask = torch.zeros(self.vocabulary_size, dtype=torch.bool)
        mask[tokens] = True
        return mask.to(self.device)


class Trie:
    """Allows exactly the given token sequences, each followed by the end token; a state is a node number.

    字典树：只允许给定的词元序列，其后为结束符。

    The start state is `Trie.root`. Raises UserError where there is no sequence, or one holds the end token.
    """

    root = 0

    def __init__(self, sequences: Iterable[Sequence[int]], end_id: int) -> None:
        self.children: list[dict[int, int]] = [{}]
        for sequence in sequences:
            self._insert([*sequence, end_id], end_id)
        if not self.children[self.root]:
            raise UserError("expected at least one allowed sequence, got none")

    def allowed(self, state: int) -> Sequence[int]:
        """The ids that continue an allowed sequence, and the end token where one is whole."""
        return list(self.children[state])

    def advance(self, state: int, token: int) -> int:
        """The child of the node."""
        return self.children[state][token]

    def _insert(self, sequence: Sequence[int], end_id: int) -> None:
        if end_id in sequence[:-1]:
            raise UserError(f"expected sequences without the end token {end_id}, got {list(sequence[:-1])}")
        node = self.root
        for token in sequence:
            if token not in self.children[node]:
                self.children[node][token] = len(self.children)
                self.children.append({})
            node = self.children[node][token]
