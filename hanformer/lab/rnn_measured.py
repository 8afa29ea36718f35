"""What is measured of a recurrent cell on one text, and of every layer of a model: Jacobians, and gradients by lag.

循环单元与模型各层的测量：雅可比矩阵与逐滞后的梯度。

Source: kexue.fm/archives/7888.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from hanformer.errors import UserError
from hanformer.lab.rnn_jacobians import lag_log_norms, path_terms, whole_jacobians
from hanformer.models.recurrent_lm import RecurrentLm
from hanformer.nn.layers.recurrent.cell import RecurrentCell, State
from hanformer.nn.layers.recurrent.kinds import ON_LSTM
from hanformer.nn.layers.recurrent.on_lstm import OnLstmCell

_Module = TypeVar("_Module", bound=nn.Module)
#: Growth a step between these is called steady.
STEADY = (0.97, 1.03)


@dataclass(frozen=True, eq=False)
class CellGradients:
    """What was measured of one cell on one text of L steps.

    一个单元在一段输入上的测量结果。

    `norms`, `radii` [L]: spectral norm and spectral radius of each step's Jacobian of the state; `by_lag` [L]: ln of
    the norm of the product of the last k of them; `mean_exponent`: the mean of ln of all singular values of the
    product of all, a step, from determinants; `shares`: how the mean norm of each term of the closed form compares with
    their sum, empty for a cell without one. The state has `numbers` numbers, and `left_out` more that nothing writes.
    """

    name: str
    norms: Tensor
    radii: Tensor
    by_lag: Tensor
    mean_exponent: float
    shares: Mapping[str, float]
    numbers: int
    left_out: int

    @property
    def largest_exponent(self) -> float:
        """ln of the norm of the product of all Jacobians, a step: the largest Lyapunov exponent of so many steps.

        有限步最大李雅普诺夫指数。
        """
        return float(self.by_lag[-1]) / len(self.by_lag)

    @property
    def growth(self) -> float:
        """The factor a step by which the product of Jacobians grows over the longer half of the lags. 每步增长率。"""
        last = len(self.by_lag) - 1
        half = min(len(self.by_lag) // 2, last - 1)
        slope = float(self.by_lag[-1] - self.by_lag[half]) / (last - half)
        return math.exp(slope) if math.isfinite(slope) else 0.0

    @property
    def verdict(self) -> str:
        """vanishing, steady or exploding. 结论：消失、平稳或爆炸。"""
        low, high = STEADY
        return "vanishing" if self.growth < low else "exploding" if self.growth > high else "steady"


def kind_name(kind: str, form: str) -> str:
    """A kind of cell, with the form where there is a choice of it: on_lstm (paper). 单元名称（ON-LSTM 附其形式）。"""
    return f"{kind} ({form})" if kind == ON_LSTM else kind


def written_units(cell: RecurrentCell) -> int:
    """The units that are measured, from the lowest on: those above are never written, and stay 0 in h and c.

    参与测量的单元数；从不被写入的单元除外。

    Nothing that a cell reads reaches them, so that the Jacobian of the others among themselves is whole without them.
    """
    return cell.written if isinstance(cell, OnLstmCell) else cell.hidden_size


def measure_cell(name: str, cell: RecurrentCell, x: Tensor, weight: Tensor | None = None) -> CellGradients:
    """Measures a cell along x [L, I] from a state of zeros, in float64; `weight` stands in for its recurrent matrix.

    精确测量一个单元的雅可比矩阵；代价随状态大小的三次方增长。

    Raises UserError for less than two steps.
    """
    if len(x) < 2:
        raise UserError(f"expected at least two steps to measure gradients along, got {len(x)}")
    wide = _wide(cell)
    used = wide.recurrent.weight if weight is None else weight
    used, x = used.detach().cpu().double(), x.detach().cpu().double()
    jacobians = _of_written(cell, whole_jacobians(wide, x, used))
    numbers = jacobians.shape[1]
    return CellGradients(
        name,
        norms=torch.linalg.matrix_norm(jacobians, 2),
        radii=torch.linalg.eigvals(jacobians).abs().amax(-1),
        by_lag=lag_log_norms(jacobians),
        mean_exponent=float(torch.linalg.slogdet(jacobians).logabsdet.mean()) / numbers,
        shares=_shares(wide, x, used),
        numbers=numbers,
        left_out=cell.parts * cell.hidden_size - numbers,
    )


def _wide(module: _Module) -> _Module:
    """A float64 copy on the CPU that shares nothing with the module."""
    return copy.deepcopy(module).cpu().double()


def _of_written(cell: RecurrentCell, jacobians: Tensor) -> Tensor:
    """The rows and columns of [L, S, S] that belong to written units."""
    units = torch.arange(written_units(cell))
    numbers = torch.cat([part * cell.hidden_size + units for part in range(cell.parts)])
    return jacobians[:, numbers[:, None], numbers]


def _shares(cell: RecurrentCell, x: Tensor, weight: Tensor) -> dict[str, float]:
    try:
        terms = path_terms(cell, x, weight)
    except UserError:
        return {}
    means = {
        name: float(torch.stack([torch.linalg.matrix_norm(step[name], 2) for step in terms]).mean())
        for name in terms[0]
    }
    total = sum(means.values()) or 1.0
    return {name: mean / total for name, mean in means.items()}


def measure_model(model: RecurrentLm, ids: Sequence[int]) -> list[CellGradients]:
    """Measures every layer of a language model while it reads the ids; each layer for the input that it gets there.

    测量语言模型各层在给定文本上的雅可比矩阵。

    A float64 copy reads; the model stays as it was.
    """
    wide = _wide(model).eval()
    with torch.no_grad():
        tokens = torch.tensor(ids)[:, None]
        inputs = [wide.embedding(tokens), *wide.read(tokens).raw[:-1]]
    kind = kind_name(wide.config.kind, wide.config.form)
    return [
        measure_cell(f"layer {number}, {kind}", cell, x[:, 0], wide.stack.weight(cell))
        for number, (cell, x) in enumerate(zip(wide.stack.layers, inputs, strict=True))
    ]


def loss_gradients(model: RecurrentLm, ids: Sequence[int]) -> Tensor:
    """‖∂ loss_T / ∂ state_{T-k}‖ of every layer, [layers, k = 0 ... L-2], for the loss of the last id alone.

    最后一个词的损失对各层各时刻状态的梯度范数（BPTT 的逐滞后梯度）。

    The gradient goes through all layers of a float64 copy, the states are those of a pass step by step, and of them the
    written units count. Raises UserError for less than three ids.
    """
    if len(ids) < 3:
        raise UserError(f"expected at least three words to follow a gradient through, got {len(ids)}")
    wide = _wide(model).eval()
    states_by_step, hidden = _walk(wide, torch.tensor(ids[:-1]))
    loss = functional.cross_entropy(wide.output(hidden), torch.tensor(ids[-1:]))
    flat = [part for states in states_by_step for state in states for part in state]
    gradients = iter(torch.autograd.grad(loss, flat, allow_unused=True, materialize_grads=True))
    cells = wide.stack.layers
    norms = [
        [_norm(next(gradients)[0, : written_units(cell)] for _ in range(cell.parts)) for cell in cells]
        for _ in states_by_step
    ]
    return torch.tensor(norms, dtype=torch.float64).flip(0).T


def _walk(model: RecurrentLm, ids: Tensor) -> tuple[list[list[State]], Tensor]:
    """Step by step through all layers; a state is handed on as copies, so that each part has a gradient of its own."""
    stack = model.stack
    weights = [stack.weight(cell) for cell in stack.layers]
    states, kept = list(stack.first_states(1)), []
    x = model.embedding(ids[:1])
    for place in range(len(ids)):
        x = model.embedding(ids[place : place + 1])
        for layer, cell in enumerate(stack.layers):
            state = cell.advance(cell.input(x), states[layer], weights[layer])
            states[layer] = tuple(part.clone() for part in state)
            x = states[layer][0]
        kept.append(list(states))
    return kept, x


def _norm(gradients: Iterable[Tensor]) -> float:
    """The norm of all together, also where their squares would leave the range of numbers."""
    return math.hypot(*torch.cat(list(gradients)).tolist())
