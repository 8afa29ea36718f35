"""Attention in training: CPU seconds of one layer forward and backward, beside torch's own kernels.

    python -m benchmarks.training_attention --threads 1

4,096 tokens in rows of one length, random numbers, full attention: ours is `attend`, the other is
scaled_dot_product_attention on the same tensors, in bfloat16 without dropout and in both formats with a dropout of 0.1.
Before anything is timed, results and gradients without dropout are compared with float64.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import runner
from benchmarks.measure import Case, Difference, Side
from hanformer.nn.functional.attend import attend
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.rules import Full

TOKENS = 4096
#: Heads and their size.
SHAPES = ((4, 32), (12, 64))
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def make_inputs(heads: int, size: int, dtype: torch.dtype, seed: int) -> list[Tensor]:
    """Queries, keys, values and the slope of the result: [N, H, D]. 随机的查询、键、值与梯度。"""
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(TOKENS, heads, size, generator=generator).to(dtype) for _ in range(4))
    return [tensor.requires_grad_(place < 3) for place, tensor in enumerate(drawn)]


def ours(inputs: Sequence[Tensor], length: int, dropout: float) -> tuple[Tensor, ...]:
    """The result of `attend`, and its gradients. 本库的结果与梯度。"""
    query, key, value, slope = inputs
    visibility = Full().bind(Layout.of((length,) * (TOKENS // length)))
    mixed = attend(query, key, value, visibility, scale=query.shape[-1] ** -0.5, dropout=dropout)
    return mixed, *torch.autograd.grad(mixed, (query, key, value), slope)


def theirs(inputs: Sequence[Tensor], length: int, dropout: float) -> tuple[Tensor, ...]:
    """The same by torch's kernel. torch 自带实现的结果与梯度。"""
    query, key, value, slope = inputs
    rows = (x.unflatten(0, (-1, length)).transpose(1, 2) for x in (query, key, value))
    mixed = functional.scaled_dot_product_attention(*rows, dropout_p=dropout).transpose(1, 2).flatten(0, 1)
    return mixed, *torch.autograd.grad(mixed, (query, key, value), slope)


def check(inputs: Sequence[Tensor], length: int) -> str:
    """How far results and gradients are from float64, without dropout. 与双精度结果比较。"""
    exact = [x.detach().double().requires_grad_(x.requires_grad) for x in inputs]
    pairs = zip(ours(inputs, length, 0.0), theirs(exact, length, 0.0), strict=True)
    away = max(float((found.double() - wanted).norm() / wanted.norm()) for found, wanted in pairs)
    if not away < 0.02:
        raise Difference(f"results or gradients are {away:.1e} of their norm away from float64")
    return f"within {away:.1e} of float64"


def cases(chosen: argparse.Namespace) -> Iterator[Case]:
    """All cases. 全部案例。"""
    for heads, size in SHAPES:
        for length in chosen.lengths:
            for name, dropout in (("bf16", 0.0), ("bf16", 0.1), ("fp32", 0.1)):
                inputs = make_inputs(heads, size, FORMATS[name], chosen.seed)
                sides = [
                    Side("ours", partial(ours, inputs, length, dropout)),
                    Side("torch", partial(theirs, inputs, length, dropout)),
                ]
                word = f"{heads} heads of {size}, rows of {length}, {name}, dropout {dropout}"
                yield Case(word, "layer", 1, False, sides, partial(check, inputs, length))


def main(arguments: Sequence[str]) -> int:
    """The command. 命令行入口。"""
    options = runner.parser("time of attention in training", "training_attention")
    options.add_argument("--lengths", type=int, nargs="+", default=[32, 128, 512], help="tokens of a row")
    return runner.main("training_attention", options, cases, arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
