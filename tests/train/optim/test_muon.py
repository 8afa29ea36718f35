"""Muon against its definition, torch's own AdamW, and a problem that it must solve."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hanformer.errors import UserError
from hanformer.train.optim.muon import MOMENTUM, Muon, orthogonalise, working_format
from hanformer.train.optimizer import optimizer_state, parameter_groups, restore_optimizer, rule_named
from hanformer.train.options import TrainOptions

OPTIONS = TrainOptions(updates=1, learning_rate=0.05, weight_decay=0.1, betas=(0.9, 0.99))


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(7, 6), nn.Linear(6, 9), nn.LayerNorm(9), nn.Linear(9, 6))


def take_steps(net: nn.Module, optimizer: torch.optim.Optimizer, count: int, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        for parameter in net.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 5, 12), (2, 12, 5), (1, 1, 4)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape)
    turned = orthogonalise(matrices)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    values = torch.linalg.svdvals(turned)
    assert values.min() > 0.3 and values.max() < 1.35
    inside = left.mT @ turned @ right.mT
    assert (inside - torch.diag_embed(torch.diagonal(inside, dim1=-2, dim2=-1))).abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 50, 120), (1, 1, 4)])
def test_in_half_precision_it_is_the_same_to_its_rounding(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape)
    found = orthogonalise(matrices, torch.bfloat16)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, orthogonalise(matrices), atol=0.05, rtol=0.05)


def test_matrices_follow_the_definition_and_the_rest_is_adamw() -> None:
    net, twin = model(), model()
    take_steps(net, Muon(parameter_groups(net, 0.1, ("bias", "norm")), OPTIONS), 3)
    peers = [p for m in (twin[0], twin[2]) for p in m.parameters()] + [twin[1].bias, twin[3].bias]
    groups = [
        {"params": peers[:1], "weight_decay": 0.1},
        {"params": peers[1:], "weight_decay": 0.0},
    ]
    peer = torch.optim.AdamW(groups, lr=0.05, betas=(0.9, 0.99), eps=OPTIONS.epsilon)
    matrices = [twin[1].weight, twin[3].weight]
    momenta = [torch.zeros_like(matrix) for matrix in matrices]
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for parameter in twin.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        peer.step()
        with torch.no_grad():
            for matrix, momentum in zip(matrices, momenta, strict=True):
                momentum.mul_(MOMENTUM).add_(matrix.grad, alpha=1 - MOMENTUM)
                mixed = (MOMENTUM * momentum + (1 - MOMENTUM) * matrix.grad)[None]
                update = orthogonalise(mixed, working_format(mixed.device))[0]
                matrix.mul_(1 - 0.05 * 0.1).sub_(0.05 * 0.2 * max(matrix.shape) ** 0.5 * update)
    for ours, theirs in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_state_goes_round() -> None:
    net, twin = model(), model()
    first = Muon(parameter_groups(net, 0.1, ()), OPTIONS)
    take_steps(net, first, 2)
    twin.load_state_dict(net.state_dict())
    second = Muon(parameter_groups(twin, 0.1, ()), OPTIONS)
    tensors, plain = optimizer_state(first)
    restore_optimizer(second, tensors, plain)
    take_steps(net, first, 2, seed=1)
    take_steps(twin, second, 2, seed=1)
    for ours, theirs in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_it_converges() -> None:
    net = nn.Linear(5, 5, bias=False)
    target = torch.randn(5, 5)
    optimizer = rule_named("muon")(parameter_groups(net, 0.0, ()), OPTIONS)
    for step in range(300):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / 300)
        optimizer.zero_grad()
        loss = (net.weight - target).square().mean()
        loss.backward()
        optimizer.step()
    assert (net.weight - target).square().mean() < 1e-3


def test_unknown_rules_are_named() -> None:
    with pytest.raises(UserError, match="adamw, muon"):
        rule_named("sgdm")
