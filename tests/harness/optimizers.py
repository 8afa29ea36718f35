"""What every update rule must satisfy, ours and torch's, wrapped or not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from hanformer.train.optim.base import OptimizerFactory, ParameterGroups
from hanformer.train.optimizer import optimizer_state, parameter_groups, restore_optimizer
from hanformer.train.options import TrainOptions

OPTIONS = TrainOptions(updates=1, learning_rate=0.05, weight_decay=0.1, betas=(0.9, 0.99))


def check_optimizer(rule: OptimizerFactory, rate: float = 0.05) -> None:
    """All of the checks below, at a learning rate that suits the rule."""
    options = replace(OPTIONS, learning_rate=rate)
    check_convergence(rule, options)
    check_resuming(rule, options, torch.float32)
    check_resuming(rule, options, torch.bfloat16)
    check_apart(rule, options)
    check_missing_gradients(rule, options)
    check_layouts(rule, options, "matrix")
    check_layouts(rule, options, "embedding")
    check_half_precision(rule, options)
    check_rate_of_zero(rule, options)
    check_closure(rule, options)


def small_model(dtype: torch.dtype = torch.float32) -> nn.Module:
    """All kinds of parameters: embedding, matrices (two of one shape), norm, biases."""
    torch.manual_seed(0)
    layers = (nn.Embedding(7, 6), nn.Linear(6, 9), nn.LayerNorm(9), nn.Linear(9, 6), nn.Linear(6, 9))
    return nn.Sequential(*layers).to(dtype)


def groups_of(model: nn.Module) -> ParameterGroups:
    return parameter_groups(model, OPTIONS.weight_decay, ("bias", "norm"))


def random_gradients(shapes: Sequence[torch.Size], count: int, seed: int = 0) -> list[list[Tensor]]:
    """Float32 gradients of `count` updates."""
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(count)]


def take_steps(
    parameters: Sequence[Tensor], optimizers: Sequence[torch.optim.Optimizer], count: int, seed: int = 0
) -> None:
    """Updates by the same gradients whatever the format and layout of the parameters."""
    for gradients in random_gradients([p.shape for p in parameters], count, seed):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.to(parameter.dtype)
        for optimizer in optimizers:
            optimizer.step()


def check_convergence(rule: OptimizerFactory, options: TrainOptions, updates: int = 250) -> None:
    """The distance to given weights falls to under a hundredth, all kinds of parameters together."""
    model = small_model()
    targets = [torch.randn(p.shape) + 0.5 for p in model.parameters()]
    optimizer = rule(parameter_groups(model, 0.0, ()), options)
    losses = []
    for update in range(updates):
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * (1 - update / updates)
        optimizer.zero_grad()
        pairs = zip(model.parameters(), targets, strict=True)
        loss = torch.stack([(parameter - target).square().sum() for parameter, target in pairs]).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0], f"{losses[0]} to {losses[-1]}"


def check_resuming(rule: OptimizerFactory, options: TrainOptions, dtype: torch.dtype) -> None:
    """A state that went through JSON and copies goes on bit for bit."""
    model, twin = small_model(dtype), small_model(dtype)
    first, second = rule(groups_of(model), options), rule(groups_of(twin), options)
    take_steps(list(model.parameters()), [first], 3)
    twin.load_state_dict(model.state_dict())
    tensors, plain = optimizer_state(first)
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    restore_optimizer(second, copies, json.loads(json.dumps(plain)))
    for learner, optimizer in ((model, first), (twin, second)):
        take_steps(list(learner.parameters()), [optimizer], 4, seed=1)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


def check_apart(rule: OptimizerFactory, options: TrainOptions) -> None:
    """All parameters in one optimizer move as each does in one of its own."""
    model, twin = small_model(), small_model()
    take_steps(list(model.parameters()), [rule(groups_of(model), options)], 6)
    alone = [
        rule([{**group, "params": [parameter]}], options)
        for group in groups_of(twin)
        for parameter in group["params"]
    ]
    take_steps(list(twin.parameters()), alone, 6)
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def check_missing_gradients(rule: OptimizerFactory, options: TrainOptions) -> None:
    """Without a gradient a parameter stays, decay or not; with its first one it goes along."""
    model = small_model()
    optimizer = rule(groups_of(model), options)
    optimizer.step()
    still, moving = list(model.parameters())[:2], list(model.parameters())[2:]
    before = [parameter.detach().clone() for parameter in model.parameters()]
    take_steps(moving, [optimizer], 6)
    assert all(torch.equal(p, q) for p, q in zip(still, before, strict=False))
    assert not any(torch.equal(p, q) for p, q in zip(moving, before[2:], strict=True))
    take_steps(list(model.parameters()), [optimizer], 6, seed=1)
    assert not any(torch.equal(p, q) for p, q in zip(still, before, strict=False))


def check_layouts(rule: OptimizerFactory, options: TrainOptions, kind: str) -> None:
    """A transposed and a strided parameter move as contiguous ones do, under gradients of either layout."""
    start = torch.randn(6, 10, generator=torch.Generator().manual_seed(3))
    strange = [nn.Parameter(start.clone().mT), nn.Parameter(start.repeat_interleave(2, 1)[:, ::2])]
    plain = [nn.Parameter(parameter.detach().clone().contiguous()) for parameter in strange]
    assert not any(parameter.is_contiguous() for parameter in strange)
    for parameters in (strange, plain):
        group = {"params": parameters, "kind": kind, "weight_decay": 0.1}
        take_steps(parameters, [rule([group], options)], 3)
    for ours, theirs in zip(strange, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def check_half_precision(rule: OptimizerFactory, options: TrainOptions) -> None:
    """bfloat16 weights follow the float32 ones: they move, the same way, as far as their format tells."""
    model, wide = small_model(torch.bfloat16), small_model(torch.bfloat16).float()
    before = [parameter.detach().clone() for parameter in wide.parameters()]
    for learner in (model, wide):
        gradients = random_gradients([p.shape for p in learner.parameters()], 1)[0]
        for parameter, gradient in zip(learner.parameters(), gradients, strict=True):
            parameter.grad = gradient.bfloat16().to(parameter.dtype)
        rule(groups_of(learner), options).step()
    for narrow, expected, start in zip(model.parameters(), wide.parameters(), before, strict=True):
        assert narrow.dtype == torch.bfloat16
        unit = 2.0**-7 * start.abs().max().clamp(min=options.learning_rate)
        assert (narrow.float() - expected).abs().max() <= 2 * unit


def check_rate_of_zero(rule: OptimizerFactory, options: TrainOptions) -> None:
    """At the rate 0, as a schedule may give, nothing moves and nothing breaks."""
    model = small_model()
    optimizer = rule(groups_of(model), options)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [parameter.detach().clone() for parameter in model.parameters()]
    take_steps(list(model.parameters()), [optimizer], 2)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def check_closure(rule: OptimizerFactory, options: TrainOptions) -> None:
    """`step` runs a closure with gradients, and hands its loss back."""
    model = small_model()

    def closure() -> Tensor:
        loss = torch.stack([parameter.square().sum() for parameter in model.parameters()]).sum()
        loss.backward()
        return loss.detach()

    before = [parameter.detach().clone() for parameter in model.parameters()]
    loss = rule(groups_of(model), options).step(closure)
    assert loss is not None and float(loss) > 0
    assert not torch.equal(next(model.parameters()), before[0])
