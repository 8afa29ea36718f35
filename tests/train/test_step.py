"""Accumulation: n micro-batches of unequal length equal one large batch, to rounding."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hanformer.errors import UserError
from hanformer.train.objective import Loss
from hanformer.train.options import TrainOptions
from hanformer.train.precision import Precision
from hanformer.train.step import backward, scale_and_clip
from hanformer.train.trainer import Trainer
from tests.train.tiny import SameSource, TinyBatch, TinySource, objective, tiny_model

FP32 = Precision("fp32", torch.device("cpu"))


def joined(batches: list[TinyBatch]) -> TinyBatch:
    return torch.cat([ids for ids, _ in batches]), torch.cat([targets for _, targets in batches])


def trained(batches: list[TinyBatch], accumulate: int, loss: object = objective) -> nn.Module:
    model = tiny_model().double()
    options = TrainOptions(
        updates=50, accumulate=accumulate, learning_rate=1e-2, clip_norm=0.3, warm_up=5, average="ema"
    )
    Trainer(model, loss, SameSource(batches), options).fit()  # type: ignore[arg-type]
    return model


def distance(left: nn.Module, right: nn.Module) -> float:
    pairs = zip(left.parameters(), right.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def test_fifty_updates_equal_the_large_batch() -> None:
    batches = TinySource().batches(0)
    assert distance(trained(batches, len(batches)), trained([joined(batches)], 1)) < 1e-11


def test_mean_of_means_would_fail_that_test() -> None:
    def mean_objective(model: nn.Module, batch: TinyBatch) -> Loss:
        return Loss(F.cross_entropy(model(batch[0]), batch[1]), 1)

    batches = TinySource().batches(0)
    naive = trained(batches, len(batches), mean_objective)
    assert distance(naive, trained([joined(batches)], 1)) > 1e-3


def test_ragged_last_group_is_divided_by_its_own_count() -> None:
    batches = TinySource(sizes=(4, 3, 6)).batches(0)
    paired = [joined(batches[:2]), batches[2]]
    assert distance(trained(batches, 2), trained(paired, 1)) < 1e-11


@pytest.mark.parametrize("as_tensor", [False, True])
def test_order_and_kind_of_counts_do_not_matter(as_tensor: bool) -> None:
    def counted(model: nn.Module, batch: TinyBatch) -> Loss:
        loss = objective(model, batch)
        return Loss(loss.total, torch.tensor(float(loss.count)) if as_tensor else loss.count)

    batches = TinySource(sizes=(3, 1, 8)).batches(0)
    model = tiny_model().double()
    expected = gradients(model, [joined(batches)])
    for order in itertools.permutations(batches):
        sums = backward(model, counted, order, FP32)
        scale_and_clip(list(model.parameters()), sums.scale, None)
        for parameter, gradient in zip(model.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
        model.zero_grad()


def gradients(model: nn.Module, batches: list[TinyBatch]) -> list[Tensor]:
    sums = backward(model, objective, batches, FP32)
    scale_and_clip(list(model.parameters()), sums.scale, None)
    found = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    return found


def test_micro_batches_without_targets_add_nothing() -> None:
    model = tiny_model().double()
    empty = (torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    full = TinySource(sizes=(6,)).batches(0)[0]
    expected = gradients(model, [full])
    for batches in ([empty, full], [full, empty]):
        for found, gradient in zip(gradients(model, batches), expected, strict=True):
            torch.testing.assert_close(found, gradient)
    assert all(not gradient.any() for gradient in gradients(model, [empty]))


@pytest.mark.parametrize("clip", [None, 1e-2, 1e6])
def test_clipping_equals_torch(clip: float | None) -> None:
    model = tiny_model().double()
    batch = TinySource(sizes=(6,)).batches(0)[0]
    twin = copy.deepcopy(model)
    (objective(twin, batch).total / 6).backward()
    limit = float("inf") if clip is None else clip
    expected_norm = torch.nn.utils.clip_grad_norm_(twin.parameters(), limit)
    sums = backward(model, objective, [batch], FP32)
    norm = scale_and_clip(list(model.parameters()), sums.scale, clip)
    torch.testing.assert_close(norm, expected_norm)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_objectives_that_give_something_else() -> None:
    model, batches = tiny_model(), TinySource().batches(0)
    with pytest.raises(UserError, match="expected hanformer.train.Loss"):
        backward(model, lambda model, batch: torch.zeros(()), batches, FP32)  # type: ignore[arg-type,return-value]
    with pytest.raises(UserError, match=r"scalar total.*\[3\]"):
        backward(model, lambda model, batch: Loss(torch.zeros(3), 1), batches, FP32)
