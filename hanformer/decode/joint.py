"""Several steps as one: classifier-free guidance, ensembles, and any other fusion of their logits.

多个 step 合为一个：无分类器引导、集成，以及其他融合方式。
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hanformer.decode.protocols import State, Step
from hanformer.errors import UserError

Fusion = Callable[[Tensor], Tensor]
"""Log-probabilities [S, ..., V] of S steps to logits [..., V].

把 S 个模型的对数概率融合为 logits。
"""


class JointState:
    """The states of several steps, moved together. 一同移动的多个状态。

    Raises UserError where there is none.
    """

    def __init__(self, states: Sequence[State]) -> None:
        if not states:
            raise UserError("expected at least one state, got none")
        self.states = tuple(states)

    @property
    def length(self) -> int:
        """Tokens appended after the prompts."""
        return self.states[0].length

    def select(self, rows: Tensor) -> None:
        """Selects the rows of every state."""
        for state in self.states:
            state.select(rows)

    def truncate(self, length: int) -> None:
        """Truncates every state."""
        for state in self.states:
            state.truncate(length)


# Each step has a state of its own type: pairs of them cannot be typed in one list.
def joint_step(steps: Sequence[Step[Any]], fusion: Fusion) -> Step[JointState]:
    """One step of several, over the same tokens; `fuse` gives the matching first logits.

    融合的 step 函数。

    Raises UserError when called with another number of states, or where the vocabularies differ.
    """

    def step(tokens: Tensor, state: JointState) -> Tensor:
        if len(state.states) != len(steps):
            raise UserError(f"expected {len(steps)} states, got {len(state.states)}")
        logits = [each(tokens, own) for each, own in zip(steps, state.states, strict=True)]
        return fuse(logits, fusion)

    return step


def fuse(logits: Sequence[Tensor], fusion: Fusion) -> Tensor:
    """Logits [..., V] of each step to fused ones. 融合 logits。

    Raises UserError where the shapes differ.
    """
    shapes = sorted({tuple(each.shape) for each in logits})
    if len(shapes) != 1:
        raise UserError(f"expected logits of one shape from every step, got {shapes}")
    return fusion(torch.stack([each.log_softmax(-1) for each in logits]))


def guidance(scale: float) -> Fusion:
    """Classifier-free guidance of two steps, with and without the condition.

    无分类器引导：第一个 step 有条件，第二个无条件。

        log p_without + scale * (log p_with - log p_without)

    A token impossible without the condition goes by the condition alone; one impossible with it stays so.
    Source: Sanchez et al. 2023, arXiv 2306.17806.
    """

    def fusion(log_p: Tensor) -> Tensor:
        if len(log_p) != 2:
            raise UserError(f"guidance: expected two steps (with and without condition), got {len(log_p)}")
        given, without = log_p
        guided = without + scale * (given - without)
        return torch.where(given.isneginf() | without.isneginf(), given, guided)

    return fusion


def agreement(log_p: Tensor) -> Tensor:
    """What several passages agree on: certain ones count most, and many that agree count more than one.

    多篇章融合：置信度高者权重大，彼此一致者得分高。

        P = sum_k p_k^2 / (1 + sum_k p_k)

    P is no distribution and is only ranked: decode with a rule `AsGiven`. An impossible token (p_k = 0) counts as if
    the passage were not there. Source: kexue.fm/archives/7115.
    """
    return (2 * log_p).logsumexp(0) - softplus(log_p.logsumexp(0))


def mean_probability(log_p: Tensor) -> Tensor:
    """The logarithm of the mean probability: an ensemble. 概率平均的集成。"""
    return log_p.logsumexp(0) - torch.tensor(float(len(log_p))).log().to(log_p)
