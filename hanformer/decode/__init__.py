"""Decoding: one loop over `step(tokens, state) -> logits`, and small rules and constraints over it.

解码：在 `step(tokens, state) -> logits` 之上的一个循环，以及若干小的规则与约束。
"""

from __future__ import annotations

from hanformer.decode.beam import Beam, Gnmt, Power
from hanformer.decode.bert4keras_beam import Bert4kerasBeam
from hanformer.decode.constraints import Automaton, AutomatonConstraint, Trie
from hanformer.decode.generate import generate
from hanformer.decode.greedy import Greedy
from hanformer.decode.protocols import Constraint, State, Step
from hanformer.decode.sample import Sample
from hanformer.decode.search import Hypothesis, Rule
from hanformer.decode.table import TableState, table_prompt, table_step

__all__ = [
    "Automaton",
    "AutomatonConstraint",
    "Beam",
    "Bert4kerasBeam",
    "Constraint",
    "Gnmt",
    "Greedy",
    "Hypothesis",
    "Power",
    "Rule",
    "Sample",
    "State",
    "Step",
    "TableState",
    "Trie",
    "generate",
    "table_prompt",
    "table_step",
]
