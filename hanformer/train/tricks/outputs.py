"""What tricks ask of an objective's outputs."""

from __future__ import annotations

from torch import Tensor

from hanformer.errors import UserError
from hanformer.train.objective import Loss


def output(loss: Loss, name: str, trick: str) -> Tensor:
    """The output of that name; raises UserError, in the trick's name, where the objective gives none.

    按名称取目标函数的输出。
    """
    if name not in loss.outputs:
        raise UserError(f'{trick}: expected an objective whose loss has outputs["{name}"]; wrap another one')
    return loss.outputs[name]
