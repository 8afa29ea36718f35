"""What an update rule is: a function from parameter groups and options to one of torch's optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from hanformer.train.options import TrainOptions

ParameterGroups = list[dict[str, Any]]
"""Groups as torch's optimizers take them: params, weight_decay, and the `kind` of the parameters.

参数组，含参数、权重衰减与种类。
"""

OptimizerFactory = Callable[[ParameterGroups, TrainOptions], torch.optim.Optimizer]
"""An update rule; another one (AdaX, Lion, ...) is another function of this kind.

更新规则：由参数组与选项得到优化器。
"""
