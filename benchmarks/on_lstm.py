"""ON-LSTM: milliseconds a time step, forward and backward, beside the published way and torch's own LSTM.

    python -m benchmarks.on_lstm --threads 1

The first side is ours. "as published" is the authors' way, written anew: the input projected once, then in Python one
linear layer a step with its own bias, both softmaxes and sums, gates as [rows, levels, chunk], and autograd over all
of it. "torch LSTM" is `torch.nn.LSTM` of the same sizes, which computes less: it is the yardstick. All sides compute
the gradients of the input and of every weight. Before timing, outputs and gradients of the first two must agree.
`--bf16` runs them under autocast instead; torch's LSTM then runs in it too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import runner
from benchmarks.measure import Case, Difference, Side
from hanformer.nn.layers.recurrent.on_lstm import OnLstmCell

Run = Callable[[Tensor], Tensor]


class AsPublished(nn.Module):
    """The loop of the authors' cell, on the weights of ours. 作者实现的写法。"""

    def __init__(self, ours: OnLstmCell) -> None:
        super().__init__()
        self.levels, self.chunk, self.size = ours.levels, ours.chunk_size, ours.hidden_size
        self.ih = nn.Linear(ours.input_size, len(ours.input.bias))
        self.hh = nn.Linear(ours.hidden_size, len(ours.input.bias))
        with torch.no_grad():
            self.ih.weight.copy_(ours.input.weight)
            self.ih.bias.copy_(ours.input.bias)
            self.hh.weight.copy_(ours.recurrent.weight)
            self.hh.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """[L, B, I] to [L, B, D]."""
        hidden = x.new_zeros(x.shape[1], self.size)
        memory = x.new_zeros(x.shape[1], self.levels, self.chunk)
        outputs, distances = [], []
        for row in self.ih(x):
            hidden, memory, distance = self._step(row, hidden, memory)
            outputs.append(hidden)
            distances.append(distance)
        torch.stack(distances)
        return torch.stack(outputs)

    def _step(self, row: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gates = row + functional.linear(hidden, self.hh.weight, self.hh.bias)
        write, forget = gates[:, : 2 * self.levels].chunk(2, 1)
        rest = gates[:, 2 * self.levels :].view(-1, 4 * self.levels, self.chunk).chunk(4, 1)
        out, cell, into, keep = rest
        write = 1 - functional.softmax(write, dim=-1).cumsum(-1)
        forget = functional.softmax(forget, dim=-1).cumsum(-1)
        distance = 1 - forget.sum(dim=-1) / self.levels, write.sum(dim=-1) / self.levels
        write, forget = write[:, :, None], forget[:, :, None]
        keep, into, cell, out = keep.sigmoid(), into.sigmoid(), cell.tanh(), out.sigmoid()
        overlap = forget * write
        keep = keep * overlap + (forget - overlap)
        into = into * overlap + (write - overlap)
        memory = keep * memory + into * cell
        hidden = out * memory.tanh()
        return hidden.reshape(-1, self.size), memory, torch.stack(distance)


class TorchLstm(nn.Module):
    """torch's LSTM, outputs alone. torch 自带的 LSTM。"""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, size)

    def forward(self, x: Tensor) -> Tensor:
        """[L, B, I] to [L, B, D]."""
        outputs: Tensor = self.lstm(x)[0]
        return outputs


class Ours(nn.Module):
    """Our cell, outputs alone. 本项目的实现。"""

    def __init__(self, cell: OnLstmCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        """[L, B, I] to [L, B, D]."""
        outputs: Tensor = self.cell(x)[0]
        return outputs


def train_once(model: nn.Module, x: Tensor, format_: Callable[[], AbstractContextManager[object]]) -> None:
    """Forward and backward, gradients made anew. 一次前向与反向。"""
    model.zero_grad(set_to_none=True)
    x.grad = None
    with format_():
        outputs = model(x)
    outputs.float().square().sum().backward()


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Of the input and of the three parameters that all ON-LSTMs here have. 输入与参数的梯度。"""
    train_once(model, x, nullcontext)
    found = [x.grad, *(parameter.grad for parameter in list(model.parameters())[:3])]
    return [grad.clone() for grad in found if grad is not None]


def check(ours: Ours, published: AsPublished, x: Tensor) -> str:
    """Whether both give the same outputs and gradients, in float32. 检查两者一致。"""
    with torch.no_grad():
        pairs = [(ours(x), published(x))]
    pairs += zip(gradients(ours, x), gradients(published, x), strict=True)
    worst = max(float((one - other).abs().max() / other.abs().max()) for one, other in pairs)
    if worst > 1e-3:
        raise Difference(f"outputs or gradients differ by {worst:.1e} of the largest")
    return f"outputs and gradients as published within {worst:.0e} of the largest"


def cases(chosen: argparse.Namespace) -> Iterator[Case]:
    """One case: a whole sequence forward and backward. 单一案例：整段序列前向与反向。"""
    torch.manual_seed(chosen.seed)
    cell = OnLstmCell(chosen.inputs, chosen.hidden, chosen.chunk)
    ours, published, lstm = Ours(cell), AsPublished(cell), TorchLstm(chosen.inputs, chosen.hidden)
    x = torch.randn(chosen.steps, chosen.rows, chosen.inputs, requires_grad=True)
    half = partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    format_: Callable[[], AbstractContextManager[object]] = half if chosen.bf16 else nullcontext
    sides = [
        Side(name, partial(train_once, model, x, format_))
        for name, model in (("ours", ours), ("as published", published), ("torch LSTM", lstm))
    ]
    name = f"{chosen.hidden} units, {chosen.rows} rows, {'bf16' if chosen.bf16 else 'fp32'}"
    yield Case(name, "step", chosen.steps, False, sides, partial(check, ours, published, x))


def main(arguments: Sequence[str]) -> int:
    """The command. 命令行入口。"""
    options = runner.parser("milliseconds a step of ON-LSTM, forward and backward", "on_lstm")
    options.add_argument("--inputs", type=int, default=1150, help="channels of the input: %(default)s")
    options.add_argument("--hidden", type=int, default=1150, help="units: %(default)s")
    options.add_argument("--chunk", type=int, default=10, help="units a level: %(default)s")
    options.add_argument("--steps", type=int, default=70, help="time steps: %(default)s")
    options.add_argument("--batch-rows", dest="rows", type=int, default=20, help="rows: %(default)s")
    options.add_argument("--bf16", action="store_true", help="under autocast to bfloat16")
    return runner.main("on_lstm", options, cases, arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
