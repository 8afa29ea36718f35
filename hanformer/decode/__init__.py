"""Decoding: one loop over `step(tokens, state) -> logits`, and small rules and constraints over it.

解码：在 `step(tokens, state) -> logits` 之上的一个循环，以及若干小的规则与约束。
"""

from __future__ import annotations

from hanformer.decode.beam import Beam, Gnmt, Power
from hanformer.decode.bert4keras_beam import Bert4kerasBeam
from hanformer.decode.constraints import Automaton, AutomatonConstraint, Trie
from hanformer.decode.contrastive import Contrastive, contrastive_search
from hanformer.decode.diverse import DiverseBeam
from hanformer.decode.feed import Draft
from hanformer.decode.forbidden import AllOf, ForbiddenWords
from hanformer.decode.generate import generate, stream
from hanformer.decode.gibbs import Gibbs, MaskedConditional, gibbs_sample, sample_masked
from hanformer.decode.greedy import Greedy
from hanformer.decode.joint import JointState, agreement, fuse, guidance, joint_step, mean_probability
from hanformer.decode.joint_passages import AsGiven, answer_jointly, joint_passages, passages_step
from hanformer.decode.masked import Answer, MaskedReading, agreed, extract, read_masked, vote
from hanformer.decode.passage import PassageNgrams, PrefixFunction
from hanformer.decode.pattern import Pattern
from hanformer.decode.penalties import CountPenalty, NoRepeat, RepetitionPenalty
from hanformer.decode.prompt_lookup import PromptLookup
from hanformer.decode.protocols import Constraint, State, Step
from hanformer.decode.sample import Sample
from hanformer.decode.search import Filter, Hypothesis, Row, Rule, Search, Stop
from hanformer.decode.steering import Bias, Force, LengthDecay, Suppress
from hanformer.decode.stopping import StopStrings, StopTokens, TimeLimit, cut_at
from hanformer.decode.table import TableState, table_prompt, table_step
from hanformer.decode.text_stream import TextStream, stream_text
from hanformer.decode.trace import TokenScore, trace
from hanformer.decode.truncation import (
    Epsilon,
    Eta,
    KeepEnd,
    MinP,
    Mirostat,
    Temperature,
    TopK,
    TopP,
    Typical,
)

__all__ = [
    "AllOf",
    "Answer",
    "AsGiven",
    "Automaton",
    "AutomatonConstraint",
    "Beam",
    "Bert4kerasBeam",
    "Bias",
    "Constraint",
    "Contrastive",
    "CountPenalty",
    "DiverseBeam",
    "Draft",
    "Epsilon",
    "Eta",
    "Filter",
    "ForbiddenWords",
    "Force",
    "Gibbs",
    "Gnmt",
    "Greedy",
    "Hypothesis",
    "JointState",
    "KeepEnd",
    "LengthDecay",
    "MaskedConditional",
    "MaskedReading",
    "MinP",
    "Mirostat",
    "NoRepeat",
    "PassageNgrams",
    "Pattern",
    "Power",
    "PrefixFunction",
    "PromptLookup",
    "RepetitionPenalty",
    "Row",
    "Rule",
    "Sample",
    "Search",
    "State",
    "Step",
    "Stop",
    "StopStrings",
    "StopTokens",
    "Suppress",
    "TableState",
    "Temperature",
    "TextStream",
    "TimeLimit",
    "TokenScore",
    "TopK",
    "TopP",
    "Trie",
    "Typical",
    "agreed",
    "agreement",
    "answer_jointly",
    "contrastive_search",
    "cut_at",
    "extract",
    "fuse",
    "generate",
    "gibbs_sample",
    "guidance",
    "joint_passages",
    "joint_step",
    "mean_probability",
    "passages_step",
    "read_masked",
    "sample_masked",
    "stream",
    "stream_text",
    "table_prompt",
    "table_step",
    "trace",
    "vote",
]
