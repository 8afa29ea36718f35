"""Learning rates of their own for some parameters, by name or by depth."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.train.optim.base import OptimizerFactory, ParameterGroups
from hanformer.train.options import TrainOptions


def rates_by_name(model: nn.Module, multipliers: Mapping[str, float]) -> dict[Tensor, float]:
    """For each parameter the product of the multipliers whose word stands in its name.

    按参数名中的片段设置学习率倍数，多个命中则相乘。

    Raises UserError for a word in no name and for a multiplier below 0. Source: bert4keras.
    """
    named = list(model.named_parameters())
    for word, multiplier in multipliers.items():
        if not multiplier >= 0:
            raise UserError(
                f"learning rate of {word!r}: expected a multiplier of 0 or more, got {multiplier}"
            )
        if not any(word in name for name, _ in named):
            raise UserError(
                f"learning rate of {word!r}: no parameter has that in its name, as {named[0][0]} has"
            )
    rates: dict[Tensor, float] = {}
    for name, parameter in named:
        rates[parameter] = 1.0
        for word, multiplier in multipliers.items():
            rates[parameter] *= multiplier if word in name else 1.0
    return rates


def rates_by_depth(model: nn.Module, decay: float) -> dict[Tensor, float]:
    """decay^(L - i) for block i of 0 to L - 1, decay^(L + 1) for what stands before the blocks, 1 for what follows.

    逐层衰减的学习率倍数：越靠近输入越小。

    Blocks are the entries of the first numbered list in the model; the last has decay^1.
    Raises UserError for a decay outside (0, 1], and for a model without blocks.
    Source: Howard and Ruder, arXiv 1801.06146.
    """
    if not 0 < decay <= 1:
        raise UserError(f"decay of rates by depth: expected a number above 0 and up to 1, got {decay}")
    named = list(model.named_parameters())
    found = [re.search(r"^(.*?)\.?(\d+)\.", name) for name, _ in named]
    lists = [match.group(1) for match in found if match]
    if not lists:
        raise UserError("rates by depth: the model has no numbered blocks; give rates by name")
    blocks = [int(match.group(2)) if match and match.group(1) == lists[0] else None for match in found]
    count = 1 + max(block for block in blocks if block is not None)
    rates: dict[Tensor, float] = {}
    before = True
    for (_, parameter), block in zip(named, blocks, strict=True):
        before = before and block is None
        power = count - block if block is not None else (count + 1 if before else 0)
        rates[parameter] = decay**power
    return rates


def with_rates(rule: OptimizerFactory, rates: Mapping[Tensor, float]) -> OptimizerFactory:
    """The rule with the learning rate times `rates` for each parameter, 1 where it is not named.

    为各参数设置不同的学习率倍数。

    Decoupled decay, learning rate times decay, is multiplied with it.
    """

    def factory(groups: ParameterGroups, options: TrainOptions) -> torch.optim.Optimizer:
        split: ParameterGroups = []
        for group in groups:
            by_rate: dict[float, list[Tensor]] = {}
            for parameter in group["params"]:
                by_rate.setdefault(rates.get(parameter, 1.0), []).append(parameter)
            for rate, some in by_rate.items():
                split.append({**group, "params": some, "lr": options.learning_rate * rate})
        return rule(split, options)

    return factory
