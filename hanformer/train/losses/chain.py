"""Chains of labels: transitions between neighbours, and the best path through a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.nn.functional.packing import Layout, padded_right
from hanformer.train.losses.numerics import widened


class Neighbours(Protocol):
    """Scores T[i, j] of label j after label i, however they are stored.

    相邻标签的转移打分。
    """

    @property
    def matrix(self) -> Tensor:
        """T: [K, K]."""

    def after(self, labels: Tensor) -> Tensor:
        """T[y, :] of given labels: [M] to [M, K]."""

    def before(self, labels: Tensor) -> Tensor:
        """T[:, y] of given labels: [M] to [M, K]."""


class Transitions(nn.Module):
    """A learned matrix T, stored as T / rate, so that an Adam-like optimizer moves T `rate` times as far.

    转移矩阵，带学习率倍率：存储 T/λ，使用 λ 倍的存储值。

    It starts at 0, which is a softmax at each place. A CRF over a pretrained encoder needs rates of 100 and more.
    A file holds T / rate: load it with the same rate. Raises UserError for a rate that is not above 0.
    Source: kexue.fm/archives/7196.
    """

    def __init__(self, labels: int, rate: float = 1.0) -> None:
        super().__init__()
        self.rate = _checked(rate)
        self.stored = nn.Parameter(torch.zeros(labels, labels))

    @property
    def matrix(self) -> Tensor:
        """T: [K, K]."""
        return self.rate * self.stored

    def after(self, labels: Tensor) -> Tensor:
        """T[y, :]: [M] to [M, K]."""
        return self.rate * self.stored[labels]

    def before(self, labels: Tensor) -> Tensor:
        """T[:, y]: [M] to [M, K]."""
        return self.rate * self.stored.T[labels]


class LowRankTransitions(nn.Module):
    """T = A Bᵀ of rank r, for very many labels: losses that look at given neighbours never make the matrix.

    低秩转移矩阵，适合标签很多的情形。

    Both factors start with deviation r^(−1/4) · 0.1 and are stored divided by the rate, as in `Transitions`.
    Raises UserError for a rate that is not above 0. Source: bert4keras, `MaximumEntropyMarkovModel(hidden_dim)`.
    """

    def __init__(self, labels: int, rank: int, rate: float = 1.0) -> None:
        super().__init__()
        self.rate = _checked(rate)
        deviation = 0.1 * rank**-0.25 / self.rate
        self.left = nn.Parameter(torch.randn(labels, rank) * deviation)
        self.right = nn.Parameter(torch.randn(labels, rank) * deviation)

    @property
    def matrix(self) -> Tensor:
        """T: [K, K]."""
        return self.rate**2 * self.left @ self.right.T

    def after(self, labels: Tensor) -> Tensor:
        """T[y, :]: [M] to [M, K]."""
        return self.rate**2 * self.left[labels] @ self.right.T

    def before(self, labels: Tensor) -> Tensor:
        """T[:, y]: [M] to [M, K]."""
        return self.rate**2 * self.right[labels] @ self.left.T


def _checked(rate: float) -> float:
    if not 0 < rate < math.inf:
        raise UserError(f"transitions: expected a rate above 0, got {rate}")
    return rate


def check_chain(emissions: Tensor, layout: Layout, transitions: Tensor) -> None:
    """Raises UserError unless emissions are [N, K] of the layout's tokens and transitions [..., K, K].

    检查形状。
    """
    labels = emissions.shape[-1]
    if emissions.shape != (layout.total, labels) or transitions.shape[-2:] != (labels, labels):
        raise UserError(
            f"expected emissions [{layout.total}, labels] and transitions [labels, labels], got "
            f"{list(emissions.shape)} and {list(transitions.shape)}"
        )


def viterbi(
    emissions: Tensor,
    transitions: Tensor,
    layout: Layout,
    *,
    starts: Sequence[int] | None = None,
    ends: Sequence[int] | None = None,
) -> Tensor:
    """argmax over labels of Σ_t e_t(y_t) + Σ_t T(y_{t−1}, y_t), row by row: int64 [N].

    维特比解码：每行得分最高的标签序列；可限定首、末标签；不修改输入。

    `starts` and `ends` are the labels that a row may begin and end with, None for all. A transition of −inf is
    forbidden. Shapes: emissions [N, K] packed; transitions [K, K], or [B, T − 1, K, K] where each step of each row has
    its own, T the longest row.
    Raises UserError for shapes that do not fit, labels that do not exist, and a row that no allowed path can fill.
    """
    check_chain(emissions, layout, transitions)
    if not layout.total:
        return torch.zeros(0, dtype=torch.int64, device=emissions.device)
    packing = padded_right(layout)
    nodes = packing.unpack(widened(emissions.detach()))
    edges = widened(transitions.detach())
    first = nodes[:, 0] + _penalty(starts, nodes)
    states, choices = _advance(first, nodes, edges, layout)
    best, label = (states + _penalty(ends, nodes)).max(-1)
    _check_possible(best, layout, starts, ends)
    path = [label]
    for choice in reversed(choices):
        path.append(choice.gather(-1, path[-1][:, None]).squeeze(-1))
    return packing.pack(torch.stack(path[::-1], 1))


def _advance(first: Tensor, nodes: Tensor, edges: Tensor, layout: Layout) -> tuple[Tensor, list[Tensor]]:
    """The best score of ending in each label, [B, K], and where each step's came from; ended rows stand still."""
    count, length, labels = nodes.shape
    edges = edges.expand(count, max(0, length - 1), labels, labels)
    lengths = torch.tensor(layout.lengths, device=nodes.device)[:, None]
    still = torch.arange(labels, device=nodes.device)
    states, choices = first, []
    for place in range(1, length):
        score, choice = (states[:, :, None] + edges[:, place - 1]).max(1)
        going = lengths > place
        states = torch.where(going, score + nodes[:, place], states)
        choices.append(torch.where(going, choice, still))
    return states, choices


def _penalty(allowed: Sequence[int] | None, nodes: Tensor) -> Tensor:
    """0 for allowed labels and −inf for others: [K]."""
    labels = nodes.shape[-1]
    if allowed is None:
        return nodes.new_zeros(labels)
    if not allowed or not all(0 <= label < labels for label in allowed):
        raise UserError(
            f"viterbi: expected labels from 0 to {labels - 1} to start or end with, got {allowed}"
        )
    return nodes.new_full((labels,), -math.inf).index_fill(
        0, torch.tensor(list(allowed), device=nodes.device), 0.0
    )


def _check_possible(
    best: Tensor, layout: Layout, starts: Sequence[int] | None, ends: Sequence[int] | None
) -> None:
    for row, score in enumerate(best.tolist()):
        if layout.lengths[row] and score == -math.inf:
            raise UserError(
                f"viterbi: no path of {layout.lengths[row]} labels is allowed in row {row} "
                f"(starts {starts}, ends {ends}); leave more labels or transitions open"
            )
