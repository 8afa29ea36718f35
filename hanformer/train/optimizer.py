"""Parameter groups by kind, the table of update rules by name, and their states on disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.train.optim.adamw import adamw
from hanformer.train.optim.base import OptimizerFactory, ParameterGroups
from hanformer.train.optim.muon import muon

KINDS = ("matrix", "embedding", "norm", "bias")
RULES: dict[str, OptimizerFactory] = {"adamw": adamw, "muon": muon}


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
    """The update rule of that name: adamw or muon.

    按名称取更新规则。

    Raises UserError for another name.
    """
    if name not in RULES:
        raise UserError(f"optimizer: expected one of {', '.join(RULES)}, got {name!r}")
    return RULES[name]


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
