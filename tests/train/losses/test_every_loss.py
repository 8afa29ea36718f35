"""Every loss through the harness."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hanformer.nn.functional.packing import Layout
from hanformer.train.losses.chain import LowRankTransitions, Transitions
from hanformer.train.losses.chunked_cross_entropy import chunked_cross_entropy
from hanformer.train.losses.cosent import cosent
from hanformer.train.losses.crf import crf
from hanformer.train.losses.cross_entropy import cross_entropy
from hanformer.train.losses.exactly_k import exactly_k
from hanformer.train.losses.focal import focal
from hanformer.train.losses.memm import memm
from hanformer.train.losses.simbert import similar_pairs
from hanformer.train.losses.simcse import info_nce, simcse
from hanformer.train.losses.zlpr import zlpr, zlpr_divergence, zlpr_sparse
from tests.harness.losses import LossCase, check_loss

SOURCE = torch.Generator().manual_seed(3)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=SOURCE)


HARD = (random(6, 5) > 0.3).double()
SOFT = random(6, 5).sigmoid()
IDS = torch.tensor([[0, 3, -1], [2, -1, -1], [-1, -1, -1], [1, 2, 4], [3, 3, 0], [4, -1, 1]])
HARD_OF_IDS = torch.zeros(6, 6).scatter(1, IDS + 1, 1.0)[:, 1:].double()
CLASSES = torch.tensor([0, 4, 2, 2, 1, 3])
PATHS = torch.tensor([[0, 1, 2, 1], [2, 2, 0, 1], [1, 0, 0, 2]])
TABLE, WIDE_TABLE = random(5, 4), random(5, 6)
STEPS = random(3, 3)
PAIRS = torch.eye(3, 4, dtype=torch.float64).repeat_interleave(2, 0)
GRADES = torch.tensor([0.0, 3, 1, 1, 2, 0])


def steps(low_rank: bool) -> Transitions | LowRankTransitions:
    torch.manual_seed(0)
    made = LowRankTransitions(3, 2, 2.0) if low_rank else Transitions(3, 2.0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made.requires_grad_(False)


def in_dtype_of(rows: Tensor, weights: Tensor) -> Tensor:
    return weights.to(torch.promote_types(rows.dtype, torch.float32))


def crf_of_rows(emissions: Tensor, labels: Tensor) -> Tensor:
    layout = Layout.of([emissions.shape[1]] * len(emissions))
    transitions = in_dtype_of(emissions, STEPS)
    return crf(emissions.flatten(0, 1), labels.flatten(), transitions, layout)


def memm_of_rows(emissions: Tensor, labels: Tensor, low_rank: bool = False) -> Tensor:
    layout = Layout.of([emissions.shape[1]] * len(emissions))
    transitions = steps(low_rank).to(torch.promote_types(emissions.dtype, torch.float32))
    each = memm(emissions.flatten(0, 1), labels.flatten(), transitions, layout)
    return each.unflatten(0, emissions.shape[:2]).sum(1)


def chunked(hidden: Tensor, labels: Tensor) -> Tensor:
    return chunked_cross_entropy(hidden, WIDE_TABLE.to(hidden.dtype), labels, logits_at_once=10).total


CASES = [
    LossCase("zlpr", zlpr, random(6, 5), HARD, 50 * (2 * HARD - 1)),
    LossCase(
        "zlpr_soft",
        zlpr,
        random(6, 5),
        SOFT,
        SOFT.logit() / 2,
        2 * (1 + (SOFT * (1 - SOFT)).sqrt().sum(1)).log(),
    ),
    LossCase("zlpr_sparse", zlpr_sparse, random(6, 5), IDS, 50 * (2 * HARD_OF_IDS - 1)),
    LossCase(
        "zlpr_divergence",
        lambda s, u: zlpr_divergence(in_dtype_of(s, u), s),
        random(6, 5),
        SOFT.logit(),
        SOFT.logit(),
    ),
    LossCase("exactly_k", exactly_k, random(6, 5), HARD, 50 * (2 * HARD - 1)),
    LossCase("focal", lambda s, y: focal(s, y).sum(-1), random(6, 5), HARD, 50 * (2 * HARD - 1)),
    LossCase(
        "similar_pairs",
        lambda v, _: similar_pairs(v),
        random(6, 4),
        CLASSES,
        PAIRS,
        math.log1p(4 * math.exp(-30)),
        2,
    ),
    LossCase(
        "simcse", lambda v, _: simcse(v), random(6, 4), CLASSES, PAIRS, math.log1p(4 * math.exp(-20)), 2
    ),
    LossCase(
        "info_nce",
        lambda v, y: info_nce(v, in_dtype_of(v, TABLE), y),
        random(6, 4),
        CLASSES,
        TABLE[CLASSES],
        F.cross_entropy(
            20 * F.cosine_similarity(TABLE[CLASSES, None], TABLE, dim=-1), CLASSES, reduction="none"
        ),
    ),
    LossCase("cosent", cosent, random(6).tanh(), GRADES, 10 * GRADES.double(), one_for_all=True),
    LossCase("crf", crf_of_rows, random(3, 4, 3), PATHS, 50.0 * F.one_hot(PATHS, 3).double()),
    LossCase("memm", memm_of_rows, random(3, 4, 3), PATHS, 80.0 * F.one_hot(PATHS, 3).double()),
    LossCase(
        "memm_low_rank",
        lambda e, y: memm_of_rows(e, y, low_rank=True),
        random(3, 4, 3),
        PATHS,
        80.0 * F.one_hot(PATHS, 3).double(),
    ),
    LossCase(
        "cross_entropy",
        lambda s, y: cross_entropy(s, y).total,
        random(6, 5),
        CLASSES,
        50.0 * F.one_hot(CLASSES, 5).double(),
        one_for_all=True,
    ),
    LossCase(
        "chunked_cross_entropy",
        chunked,
        random(6, 6),
        CLASSES,
        60.0 * F.one_hot(CLASSES, 5).double() @ torch.linalg.pinv(WIDE_TABLE).T,
        one_for_all=True,
        twice=False,
        half=0.05,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_loss(case: LossCase) -> None:
    check_loss(case)
