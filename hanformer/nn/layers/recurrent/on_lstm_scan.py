"""The recurrence of ON-LSTM as one function with a backward pass written by hand.

Autograd would add the gradient of the recurrent matrix step by step, and keep a dozen tensors for each. Here every
step is one matrix product and element-wise work on what lies in the cache, and the gradient of the matrix is one
product over all steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from hanformer.nn.layers.recurrent.products import repeated_product


def from_here(probabilities: Tensor) -> Tensor:
    """Σ_{j>=k} p_j. 不小于 k 的概率之和。"""
    return probabilities.flip(-1).cumsum(-1).flip(-1)


def above(probabilities: Tensor) -> Tensor:
    """Σ_{j>k} p_j, never negative, and 0 at the end. 大于 k 的概率之和。"""
    return functional.pad(from_here(probabilities)[..., 1:], (0, 1))


def up_to_here(values: Tensor) -> Tensor:
    """Σ_{k<=j} v_k, what `from_here` hands back. from_here 的转置。"""
    return values.cumsum(-1)


def below(values: Tensor) -> Tensor:
    """Σ_{k<j} v_k, what `above` hands back. above 的转置。"""
    return functional.pad(values.cumsum(-1)[..., :-1], (1, 0))


#: The master input gate from its probabilities, by the name of the form.
FORMS: dict[str, Callable[[Tensor], Tensor]] = {"paper": above, "su": from_here}
_TRANSPOSED: dict[str, Callable[[Tensor], Tensor]] = {"paper": below, "su": up_to_here}


def fused_scan(
    projected: Tensor, weight: Tensor, hidden: Tensor, memory: Tensor, levels: int, form: str
) -> tuple[Tensor, Tensor]:
    """Outputs [L, B, D] and the last c [B, D] of an ON-LSTM, from projected inputs [L, B, 2 levels + 4D].

    ON-LSTM 递推的融合形式：手写反向，矩阵梯度一次算完。

    `weight` [rows, D] is the recurrent matrix. Products run in the format of `projected`, the rest in float32 at
    least. Differentiable once; `unroll` is the definition, and can be differentiated again.
    """
    kind = projected.dtype
    outputs, last = _Scan.apply(
        projected.contiguous(), weight.to(kind), hidden.to(kind), memory, levels, form
    )
    return outputs, last


@dataclass
class _Places:
    """Where the parts of a row of gates lie: [B, 2, levels] of master gates, then o, g, i, f [B, levels, C]."""

    levels: int
    size: int

    def masters(self, row: Tensor) -> Tensor:
        return row[:, : 2 * self.levels].unflatten(1, (2, self.levels))

    def gates(self, row: Tensor) -> tuple[Tensor, ...]:
        return row[:, 2 * self.levels :].unflatten(1, (4, self.size)).unbind(1)

    def by_level(self, units: Tensor) -> Tensor:
        return units.unflatten(-1, (self.levels, self.size // self.levels))

    def spread(self, gate: Tensor) -> Tensor:
        """[B, levels] to [B, D]."""
        return gate[:, :, None].expand(-1, -1, self.size // self.levels).contiguous().flatten(1)

    def sums(self, units: Tensor) -> Tensor:
        """[B, D] to [B, levels]."""
        return self.by_level(units).sum(-1)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, weight: Tensor, hidden: Tensor, memory: Tensor, levels: int, form: str
    ) -> tuple[Tensor, Tensor]:
        steps, batch, _ = projected.shape
        wide = torch.promote_types(projected.dtype, torch.float32)
        places = _Places(levels, hidden.shape[1])
        gates = projected.new_empty(projected.shape, dtype=wide)
        hiddens = hidden.new_empty(steps + 1, *hidden.shape)
        memories = memory.new_empty(steps + 1, *memory.shape, dtype=wide)
        hiddens[0], memories[0] = hidden, memory
        product = repeated_product(weight, batch, steps)
        for step in range(steps):
            row = gates[step]
            torch.add(projected[step], product(hiddens[step]), out=row)
            _advance(places, FORMS[form], row, memories[step], memories[step + 1], hiddens[step + 1])
        ctx.save_for_backward(gates, hiddens, memories, weight)
        ctx.places, ctx.form = places, form
        return hiddens[1:], memories[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outputs_grad: Tensor, last_grad: Tensor) -> tuple[Tensor | None, ...]:
        gates, hiddens, memories, weight = ctx.saved_tensors
        steps = len(gates)
        grads = torch.empty_like(gates)
        product = repeated_product(weight.T.contiguous(), gates.shape[1], steps)
        towards_hidden, towards_memory = torch.zeros_like(memories[0]), last_grad
        for step in reversed(range(steps)):
            towards_memory = _retreat(
                ctx.places, ctx.form, gates[step], memories[step], memories[step + 1],
                outputs_grad[step] + towards_hidden, towards_memory, grads[step],
            )  # fmt: skip
            towards_hidden = product(grads[step].to(weight.dtype))
        narrow = grads.to(weight.dtype)
        weight_grad = narrow.flatten(0, 1).T @ hiddens[:-1].flatten(0, 1)
        return narrow, weight_grad, towards_hidden, towards_memory, None, None


def _advance(
    places: _Places,
    write_form: Callable[[Tensor], Tensor],
    row: Tensor,
    before: Tensor,
    after: Tensor,
    hidden: Tensor,
) -> None:
    """Turns the logits in `row` into gates (master gates: probabilities) in place, and fills `after`, `hidden`."""
    masters = places.masters(row)
    masters.copy_(masters.softmax(-1))
    write, forget = masters.unbind(1)
    o, g, i, f = places.gates(row)
    o.sigmoid_()
    g.tanh_()
    row[:, -2 * places.size :].sigmoid_()
    keep, add, _ = _overlaid(places, forget.cumsum(-1), write_form(write), f, i)
    torch.mul(keep, before, out=after).addcmul_(add, g)
    hidden.copy_(o * after.tanh())


def _overlaid(
    places: _Places, forget: Tensor, write: Tensor, f: Tensor, i: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """f̂, î and the overlap, [B, D] each."""
    overlap = forget * write
    wide = places.spread(overlap)
    keep = places.spread(forget - overlap).addcmul_(f, wide)
    add = places.spread(write - overlap).addcmul_(i, wide)
    return keep, add, wide


def _retreat(
    places: _Places,
    form: str,
    row: Tensor,
    before: Tensor,
    after: Tensor,
    hidden_grad: Tensor,
    memory_grad: Tensor,
    grad: Tensor,
) -> Tensor:
    """Fills the gradient of the logits of a step, and gives that of the c before it."""
    p_write, p_forget = places.masters(row).unbind(1)
    o, g, i, f = places.gates(row)
    grad_o, grad_g, grad_i, grad_f = places.gates(grad)
    forget, write = p_forget.cumsum(-1), FORMS[form](p_write)
    keep, add, wide = _overlaid(places, forget, write, f, i)

    squashed = after.tanh()
    torch.mul(hidden_grad * squashed, o * (1 - o), out=grad_o)
    memory_grad = memory_grad + hidden_grad * o * (1 - squashed * squashed)
    torch.mul(memory_grad * add, 1 - g * g, out=grad_g)
    towards_keep, towards_add = memory_grad * before, memory_grad * g
    torch.mul(towards_keep * wide, f * (1 - f), out=grad_f)
    torch.mul(towards_add * wide, i * (1 - i), out=grad_i)

    to_forget, to_write = places.sums(towards_keep), places.sums(towards_add)
    to_overlap = places.sums(towards_keep * f + towards_add * i) - to_forget - to_write
    to_forget = to_forget + to_overlap * write
    to_write = to_write + to_overlap * forget
    masters = places.masters(grad)
    masters[:, 0] = _through_softmax(p_write, _TRANSPOSED[form](to_write))
    masters[:, 1] = _through_softmax(p_forget, from_here(to_forget))
    return memory_grad * keep


def _through_softmax(probabilities: Tensor, grad: Tensor) -> Tensor:
    return probabilities * (grad - (probabilities * grad).sum(-1, keepdim=True))
