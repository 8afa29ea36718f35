"""Kernels as TensorFlow stores them, [in, out], beside kernels laid out as torch does: the forward pass of one encoder.

    python -m benchmarks.kernels

`hanformer.load` takes the kernels of a TensorFlow checkpoint as they lie in the file, as transposed views, and training
lays them out. Both sides are the same model with the same numbers.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks import runner
from benchmarks.measure import Case, Difference, Side
from hanformer import models
from hanformer.config import ModelConfig
from hanformer.models.transformer import Transformer

#: Rows and tokens of a row.
BATCHES = ((1, 8), (1, 128), (8, 128))
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1}


def transposed(model: nn.Module) -> nn.Module:
    """A copy whose matrices are views of their transposes, as from TensorFlow. 转置存放的副本。"""
    model = copy.deepcopy(model)
    for part in model.modules():
        if isinstance(part, nn.Linear):
            part.weight = nn.Parameter(part.weight.detach().t().contiguous().t())
    return model


@torch.no_grad()
def encode(model: nn.Module, ids: Tensor) -> Tensor:
    """The hidden states of a batch. 前向计算。"""
    hidden: Tensor = model(ids).sequence
    return hidden


def check(laid_out: nn.Module, lying: nn.Module, ids: Tensor, dtype: torch.dtype) -> str:
    """The same hidden states. 输出须相同。"""
    difference = float((encode(laid_out, ids) - encode(lying, ids)).abs().max())
    if not difference <= TOLERANCE[dtype]:
        raise Difference(f"hidden states differ by {difference}, expected at most {TOLERANCE[dtype]}")
    return f"hidden states differ by {difference:.1e} at most"


def cases(chosen: argparse.Namespace) -> Iterator[Case]:
    """Each precision and batch. 全部案例。"""
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(chosen.seed)
        built: Transformer = models.build(ModelConfig(21128, layers=chosen.layers, family="bert"), ())
        laid_out = built.to(dtype).eval()
        lying = transposed(laid_out)
        for rows, length in BATCHES:
            ids = torch.randint(1, 21128, (rows, length))
            sides = [
                Side("as they lie", partial(encode, lying, ids)),
                Side("laid out", partial(encode, laid_out, ids)),
            ]
            confirm = partial(check, laid_out, lying, ids, dtype)
            name = f"{str(dtype).removeprefix('torch.')}, {rows} x {length}"
            yield Case(name, "token", rows * length, True, sides, confirm)


def main(arguments: Sequence[str]) -> int:
    """The command. 命令行入口。"""
    options = runner.parser("kernels as TensorFlow stores them beside laid-out ones", "kernels")
    options.add_argument("--layers", type=int, default=4, help="default: 4")
    return runner.main("kernels", options, cases, arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
