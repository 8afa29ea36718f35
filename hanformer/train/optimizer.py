"""Parameter groups by kind, the tables of update rules and wrappers by name, and their states on disk.

`--set optimizer=NAME` chooses a rule; `--set optimizer=lookahead+lazy+adamw` wraps it, the first word outermost.
What the rules take from `TrainOptions`, beside learning_rate, weight_decay and no_decay, which all of them take:

| name | options | decay |
|---|---|---|
| adamw | betas, epsilon | decoupled |
| adamw_uncorrected (no bias correction, as BERT was trained) | betas, epsilon | decoupled |
| muon (matrices; the rest by adamw) | betas, epsilon | decoupled |
| adax (b = 1e-4) | the first of betas, epsilon | added to the gradient |
| adaxw (b = 1e-4) | the first of betas, epsilon | decoupled |
| adafactor (rate relative to each weight: 1e-3 suits most models) | none | decoupled |
| lion (rates 10 times smaller than adamw's) | betas; (0.95, 0.98) where left at adamw's | decoupled |
| tiger (rates as lion) | the first of betas; 0.965 where left at adamw's | decoupled |
| lamb (what layerwise+adamw does, in less time) | betas, epsilon | decoupled, inside the adaptation |

Wrappers: lookahead (5 updates, share 0.5), layerwise (layer adaptation of matrices and embeddings), lazy (embedding
rows without a gradient stay). Their other numbers, and rates by name or depth, are arguments in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.train.optim.adafactor import adafactor
from hanformer.train.optim.adamw import adamw
from hanformer.train.optim.base import OptimizerFactory, ParameterGroups
from hanformer.train.optim.lamb import lamb
from hanformer.train.optim.moments import adamw_uncorrected, adax, adaxw
from hanformer.train.optim.muon import muon
from hanformer.train.optim.signs import lion, tiger
from hanformer.train.optim.wrappers import layerwise, lazy, lookahead

KINDS = ("matrix", "embedding", "norm", "bias")
RULES: dict[str, OptimizerFactory] = {
    "adamw": adamw,
    "muon": muon,
    "adamw_uncorrected": adamw_uncorrected,
    "adax": adax,
    "adaxw": adaxw,
    "adafactor": adafactor,
    "lion": lion,
    "tiger": tiger,
    "lamb": lamb,
}
WRAPPERS: dict[str, Callable[[OptimizerFactory], OptimizerFactory]] = {
    "lookahead": lookahead,
    "layerwise": layerwise,
    "lazy": lazy,
}


def parameter_groups(model: nn.Module, weight_decay: float, no_decay: Sequence[str]) -> ParameterGroups:
    """The learning parameters grouped by kind: matrix, embedding, norm, bias; a tied weight stands once.

    按种类（矩阵、嵌入、归一化、偏置）分组参数，并决定是否做权重衰减。

    no_decay: the kinds that decay spares, among matrix, embedding (tables), norm (parameters of normalisation
    layers) and bias (any other vector). A group names its `kind`, for rules that treat kinds apart.
    Raises UserError for another kind, and for a model with nothing to learn.
    """
    unknown = set(no_decay) - set(KINDS)
    if unknown:
        raise UserError(
            f"no_decay: expected kinds among {', '.join(KINDS)}, got {', '.join(sorted(unknown))}"
        )
    by_kind: dict[str, list[nn.Parameter]] = {kind: [] for kind in KINDS}
    for kind, parameter in _kinds(model):
        by_kind[kind].append(parameter)
    groups = [
        {"params": found, "kind": kind, "weight_decay": 0.0 if kind in no_decay else weight_decay}
        for kind, found in by_kind.items()
        if found
    ]
    if not groups:
        raise UserError("the model has no parameter that learns: unfreeze at least one")
    return groups


def rule_named(name: str) -> OptimizerFactory:
    """The update rule of that name, with wrappers before it where there are: adax, or lookahead+lazy+adamw.

    按名称取更新规则；可用加号在前面叠加包装器。

    Raises UserError for another name.
    """
    *wrappers, last = name.split("+")
    if last not in RULES:
        raise UserError(f"optimizer: expected one of {', '.join(RULES)}, got {last!r}")
    rule = RULES[last]
    for word in reversed(wrappers):
        if word not in WRAPPERS:
            raise UserError(f"optimizer: before a + expected one of {', '.join(WRAPPERS)}, got {word!r}")
        rule = WRAPPERS[word](rule)
    return rule


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state of any torch optimiser as named tensors ("3.exp_avg": of parameter 3) and JSON values.

    把优化器状态拆成具名张量与 JSON 值。
    """
    whole = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index, slots in whole["state"].items():
        for name, value in slots.items():
            (tensors if isinstance(value, Tensor) else values)[f"{index}.{name}"] = value
    return tensors, {"groups": whole["param_groups"], "values": values}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], plain: dict[str, Any]
) -> None:
    """Takes back what `optimizer_state` gave.

    恢复优化器状态。
    """
    state: dict[int, dict[str, Any]] = {}
    # Cloned: load_state_dict keeps the tensors that it is given.
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    for key, value in {**plain["values"], **copies}.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": plain["groups"]})


def _kinds(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield _kind(module, parameter), parameter


def _kind(module: nn.Module, parameter: nn.Parameter) -> str:
    class_name = type(module).__name__.lower()
    if "norm" in class_name:
        return "norm"
    if parameter.ndim <= 1:
        return "bias"
    return "embedding" if isinstance(module, nn.Embedding) or "embedding" in class_name else "matrix"
