"""Optimizers: milliseconds an update of every rule, beside torch's fused AdamW.

    python -m benchmarks.optimizers

The parameters are those of BERT-base with 4 layers, their gradients random and the same in every update; nothing but
`optimizer.step()` is timed. The first side is torch's fused AdamW (the rule adamw), so the columns "time / ours" and
"CPU / ours" say how many times its time a rule takes. Before timing, each rule must have moved the weights to finite
values. Muon is left out unless it is asked for: its matrix products grow with the model, not with its parameters.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import nn

from benchmarks import runner
from benchmarks.measure import Case, Difference, Side
from hanformer import models
from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.train.optimizer import parameter_groups, rule_named
from hanformer.train.options import TrainOptions

RULES = ("adax", "adaxw", "adafactor", "lion", "tiger", "lamb", "lookahead+adamw", "lazy+adamw")
OPTIONS = TrainOptions(updates=1, learning_rate=1e-4)
#: The share of embedding rows that a batch touches, for the lazy rule to find the others.
TOUCHED = 0.1


def make_model(config: ModelConfig, seed: int) -> nn.Module:
    """A model whose parameters all have gradients; most rows of its token table have none. 带梯度的模型。"""
    torch.manual_seed(seed)
    model = models.build(config)
    for parameter in model.parameters():
        parameter.grad = 0.01 * torch.randn_like(parameter)
    gradient = model.embeddings.token.weight.grad
    assert gradient is not None
    gradient[torch.rand(len(gradient)) > TOUCHED] = 0.0
    return model


def take_steps(optimizer: torch.optim.Optimizer, count: int) -> None:
    """Updates by the gradients that stand there. 更新若干步。"""
    for _ in range(count):
        optimizer.step()


def check(name: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """Whether an update moves the weights and leaves them finite. 检查更新有效。"""
    before = next(model.parameters()).detach().clone()
    optimizer.step()
    after = next(model.parameters())
    if torch.equal(before, after) or not all(p.isfinite().all() for p in model.parameters()):
        raise Difference(f"{name}: an update left the weights as they were, or not finite")
    return f"{name} moves {sum(p.numel() for p in model.parameters()):,} parameters"


def cases(chosen: argparse.Namespace) -> Iterator[Case]:
    """One case a rule, AdamW beside it: no more than two sets of states at a time. 每条规则一个案例。"""
    config = ModelConfig(21128, 768, chosen.layers, 12, 3072)
    model = make_model(config, chosen.seed)

    def optimizer(name: str) -> torch.optim.Optimizer:
        groups = parameter_groups(model, OPTIONS.weight_decay, OPTIONS.no_decay)
        return rule_named(name)(groups, OPTIONS)

    for name in chosen.rules.split(","):
        if name == "adamw":
            raise UserError("rules: adamw stands beside each of the others; name those")
        ours, rule = optimizer("adamw"), optimizer(name)
        sides = [
            Side("adamw (torch, fused)", partial(take_steps, ours, chosen.steps)),
            Side(name, partial(take_steps, rule, chosen.steps)),
        ]
        yield Case(name, "update", chosen.steps, False, sides, partial(check, name, model, rule))


def main(arguments: Sequence[str]) -> int:
    """The command. 命令行入口。"""
    options = runner.parser("milliseconds an update beside torch's fused AdamW", "optimizers")
    options.add_argument("--rules", default=",".join(RULES), help="comma-separated: %(default)s")
    options.add_argument("--layers", type=int, default=4, help="12 for the whole BERT-base")
    options.add_argument("--steps", type=int, default=5, help="updates of a round; 5 hold one of lookahead")
    return runner.main("optimizers", options, cases, arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
