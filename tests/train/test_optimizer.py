from __future__ import annotations

import pytest
import torch
from torch import nn

from hanformer.errors import UserError
from hanformer.train.optim.adamw import adamw
from hanformer.train.optimizer import parameter_groups
from hanformer.train.options import TrainOptions
from hanformer.train.precision import Precision
from tests.train.tiny import tiny_model


def spared(model: nn.Module, no_decay: tuple[str, ...]) -> set[str]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, 0.1, no_decay)
    assert sum(len(group["params"]) for group in groups) == len(names)
    return {names[p] for group in groups if group["weight_decay"] == 0.0 for p in group["params"]}


def test_exclusions_by_kind() -> None:
    model = tiny_model()
    assert spared(model, ("bias", "norm")) == {"norm.weight", "norm.bias", "hidden.bias"}
    assert spared(model, ("embedding",)) == {"embedding.weight"}
    assert spared(model, ()) == set()
    with pytest.raises(UserError, match="matrix, embedding, norm, bias, got head"):
        parameter_groups(model, 0.1, ("head",))


def test_default_rule_is_fused_with_the_options() -> None:
    options = TrainOptions(updates=1, learning_rate=0.3, betas=(0.5, 0.6), epsilon=1e-3)
    optimizer = adamw(parameter_groups(tiny_model(), 0.2, ("bias", "norm")), options)
    group = optimizer.param_groups[0]
    assert isinstance(optimizer, torch.optim.AdamW) and group["fused"]
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.3, (0.5, 0.6), 1e-3, 0.2)


def test_precision_words() -> None:
    cpu = torch.device("cpu")
    for word, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        precision = Precision(word, cpu)
        with precision.autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
        assert not precision.may_overflow
    with pytest.raises(UserError, match="fp16"):
        Precision("fp16", cpu)
    with pytest.raises(UserError, match="precision: expected"):
        Precision("half", cpu)
