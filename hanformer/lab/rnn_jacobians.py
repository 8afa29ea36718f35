"""Exact Jacobians of recurrent cells, step by step: of the whole state, and in closed form along the main path."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.nn.layers.recurrent.cell import RecurrentCell, State
from hanformer.nn.layers.recurrent.gru import GruCell, ModifiedGruCell, ResetAfterGruCell
from hanformer.nn.layers.recurrent.lstm import LstmCell
from hanformer.nn.layers.recurrent.simple import SimpleCell

Terms = dict[str, Tensor]
"""Matrices [D, D] by name, whose sum is the Jacobian; the one that a gate rules directly stands first.

按名称列出的各项矩阵，其和为雅可比矩阵；首项为门直接控制的主项。
"""

#: max over c of |c (1 - tanh² c)|, which bounds how a memory can act upon its own gates.
MEMORY_BOUND = 0.447743


def whole_jacobians(cell: RecurrentCell, x: Tensor, weight: Tensor) -> Tensor:
    """∂state_t / ∂state_{t-1} at every step of x [L, I]: [L, S, S] with S = parts · D, by automatic differentiation.

    每一步整个状态的雅可比矩阵（自动微分）。

    The state is (h) or (h, c), laid end to end, and starts from zero; x and weight are best in float64.
    """
    state = tuple(part.to(x.dtype) for part in cell.first_state(1))
    found = []
    for projected in cell.input(x[:, None]).detach():
        flat = torch.cat(state, dim=1)[0].detach()

        def advance(flat: Tensor, projected: Tensor = projected) -> Tensor:
            return torch.cat(cell.advance(projected, flat[None].chunk(cell.parts, dim=1), weight), dim=1)[0]

        found.append(torch.autograd.functional.jacobian(advance, flat, vectorize=True))
        state = advance(flat).detach()[None].chunk(cell.parts, dim=1)
    return torch.stack(found)


@torch.no_grad()
def path_terms(cell: RecurrentCell, x: Tensor, weight: Tensor) -> list[Terms]:
    """The closed form of the Jacobian along the main path at every step of x [L, I], term by term.

    主路径雅可比矩阵的闭式分解。

    SimpleRNN: ∂h_t/∂h_{t-1} = diag(1 - h_t²) U.
    LSTM, o_{t-1} held fixed, with D = diag(o_{t-1} (1 - tanh² c_{t-1})):
    ∂c_t/∂c_{t-1} = diag(f) + [diag(c f(1-f)) U_f + diag(g i(1-i)) U_i + diag(i(1-g²)) U_g] D.
    GRU: diag(1-z) + diag((ĥ-h) z(1-z)) U_z + diag(z(1-ĥ²)) U_h [diag(r) + diag(h r(1-r)) U_r]; torch's form alike.
    The modified GRU, r_{t-1} held fixed:
    ∂c_t/∂c_{t-1} = diag(1-z) + [diag((ĉ-c) z(1-z)) U_z + diag(z(1-ĉ²)) U_c] diag(r_{t-1}).
    Raises UserError for a cell without a closed form here. Source: kexue.fm/archives/7888.
    """
    kinds = [kind for kind in _TERMS if isinstance(cell, kind)]
    if not kinds:
        raise UserError(f"there is no closed form for {type(cell).__name__}; use whole_jacobians")
    state = tuple(part.to(x.dtype) for part in cell.first_state(1))
    held = torch.zeros_like(state[0][0])
    found = []
    for projected in cell.input(x[:, None]):
        terms, newly_held = _TERMS[kinds[0]](
            cell, projected[0], tuple(part[0] for part in state), held, weight
        )
        found.append(terms)
        state, held = cell.advance(projected, state, weight), newly_held
    return found


def _simple(cell: Any, projected: Tensor, state: State, held: Tensor, weight: Tensor) -> tuple[Terms, Tensor]:
    output = torch.tanh(projected + weight @ state[0])
    return {"recurrent": _scaled(1 - output**2, weight)}, held


def _lstm(cell: Any, projected: Tensor, state: State, held: Tensor, weight: Tensor) -> tuple[Terms, Tensor]:
    hidden, memory = state
    i, f, g, o = (projected + weight @ hidden).chunk(4)
    i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
    of_i, of_f, of_g, _ = weight.chunk(4)
    shown = held * (1 - memory.tanh() ** 2)
    return {
        "forget": torch.diag(f),
        "through the forget gate": _scaled(memory * f * (1 - f), of_f, shown),
        "through the input gate": _scaled(g * i * (1 - i), of_i, shown),
        "through the candidate": _scaled(i * (1 - g**2), of_g, shown),
    }, o


def _gru(cell: Any, projected: Tensor, state: State, held: Tensor, weight: Tensor) -> tuple[Terms, Tensor]:
    (hidden,) = state
    of_z, of_r, of_c = weight.chunk(3)
    for_z, for_r, for_c = projected.chunk(3)
    z, r = (for_z + of_z @ hidden).sigmoid(), (for_r + of_r @ hidden).sigmoid()
    candidate = torch.tanh(for_c + of_c @ (r * hidden))
    outer = _scaled(z * (1 - candidate**2), of_c)
    return {
        "keep": torch.diag(1 - z),
        "through the update gate": _scaled((candidate - hidden) * z * (1 - z), of_z),
        "through the candidate": outer * r,
        "through the reset gate": outer @ _scaled(hidden * r * (1 - r), of_r),
    }, held


def _reset_after(
    cell: Any, projected: Tensor, state: State, held: Tensor, weight: Tensor
) -> tuple[Terms, Tensor]:
    (hidden,) = state
    of_r, of_z, of_n = weight.chunk(3)
    for_r, for_z, for_n = projected.chunk(3)
    told_r, told_z, told_n = (weight @ hidden + cell.recurrent.bias).chunk(3)
    r, z = (for_r + told_r).sigmoid(), (for_z + told_z).sigmoid()
    candidate = torch.tanh(for_n + r * told_n)
    slope = (1 - z) * (1 - candidate**2)
    return {
        "keep": torch.diag(z),
        "through the update gate": _scaled((hidden - candidate) * z * (1 - z), of_z),
        "through the candidate": _scaled(slope * r, of_n),
        "through the reset gate": _scaled(slope * told_n * r * (1 - r), of_r),
    }, held


def _modified(
    cell: Any, projected: Tensor, state: State, held: Tensor, weight: Tensor
) -> tuple[Terms, Tensor]:
    hidden, memory = state
    of_z, _, of_c = weight.chunk(3)
    z, r, candidate = (projected + weight @ hidden).chunk(3)
    z, r, candidate = z.sigmoid(), r.sigmoid(), candidate.tanh()
    return {
        "keep": torch.diag(1 - z),
        "through the update gate": _scaled((candidate - memory) * z * (1 - z), of_z, held),
        "through the candidate": _scaled(z * (1 - candidate**2), of_c, held),
    }, r


def _scaled(rows: Tensor, matrix: Tensor, columns: Tensor | None = None) -> Tensor:
    """diag(rows) matrix diag(columns)."""
    scaled = rows[:, None] * matrix
    return scaled if columns is None else scaled * columns


_Analysis = Callable[[Any, Tensor, State, Tensor, Tensor], tuple[Terms, Tensor]]
_TERMS: Mapping[type[RecurrentCell], _Analysis] = {
    SimpleCell: _simple,
    LstmCell: _lstm,
    GruCell: _gru,
    ResetAfterGruCell: _reset_after,
    ModifiedGruCell: _modified,
}


def lag_log_norms(jacobians: Tensor) -> Tensor:
    """ln ‖J_L J_{L-1} ... J_{L-k+1}‖₂ for k = 1 ... L, from J [L, S, S]; the product is rescaled as it grows.

    各滞后的雅可比连乘之谱范数的对数。
    """
    product = torch.eye(jacobians.shape[1], dtype=jacobians.dtype)
    scale, found = torch.zeros((), dtype=jacobians.dtype), []
    for jacobian in jacobians.flip(0):
        product = product @ jacobian
        size = torch.linalg.matrix_norm(product, 2)
        scale = scale + size.log()
        found.append(scale)
        if size == 0:
            found += [scale] * (len(jacobians) - len(found))
            break
        product = product / size
    return torch.stack(found)
