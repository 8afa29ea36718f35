"""Sparse attention: milliseconds of one layer's attention, beside dense SDPA and compiled FlexAttention.

    python -m benchmarks.sparse_attention --threads 1

One row, 12 heads of 64 channels, random numbers. "local" sees 128 tokens to either side (257 keys), "atrous" every
16th, "sparse" both (radius 16). Each runs at several lengths, and the slope of time against length is printed on a
log-log scale: 1 is linear. At one length dense SDPA over all keys, without any mask, runs beside local attention,
forward and with its backward; compiled FlexAttention (forward: it has no backward on a CPU) with --flex.
Plans are made once for a batch and serve all layers, so that they are not timed; nor is compiling.
Before anything is timed, outputs of 64 queries are compared with the definition, written out in float64; gradients
with those of a dense mask, at 1024 tokens.
Memory is the growth of the process's peak while one forward and backward runs, in a fork of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import runner
from benchmarks.measure import Case, Difference, Side
from hanformer import runtime
from hanformer.errors import UserError
from hanformer.nn.functional.attend import attend
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.rules import Full, Rule, Tokens
from hanformer.nn.functional.sparse_rules import Atrous, Local, Sparse
from hanformer.nn.functional.visibility import Visibility

HEADS, SIZE, RADIUS, RATE = 12, 64, 128, 16
SCALE = SIZE**-0.5
RULES: dict[str, Rule] = {"local": Local(RADIUS), "atrous": Atrous(RATE), "sparse": Sparse(RATE)}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 2e-2}
SAMPLE, GRADIENTS_AT = 64, 1024


def make_inputs(length: int, dtype: torch.dtype, seed: int, gradient: bool = False) -> list[Tensor]:
    """Queries, keys and values [n, H, D]. 随机的查询、键、值。"""
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(length, HEADS, SIZE, generator=generator) for _ in range(3))
    return [tensor.to(dtype).requires_grad_(gradient) for tensor in drawn]


def ours(inputs: Sequence[Tensor], visibility: Visibility) -> Tensor:
    """The sparse plans."""
    query, key, value = inputs
    return attend(query, key, value, visibility, scale=SCALE)


def dense(inputs: Sequence[Tensor], mask: Tensor | None = None) -> Tensor:
    """All keys of every query. 稠密注意力。"""
    query, key, value = (tensor.transpose(0, 1)[None] for tensor in inputs)
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=SCALE)
    return mixed[0].transpose(0, 1)


def forward(run: Callable[..., Tensor], *arguments: object) -> Tensor:
    """Without gradients."""
    with torch.inference_mode():
        return run(*arguments)


def both_ways(run: Callable[..., Tensor], inputs: Sequence[Tensor], *arguments: object) -> tuple[Tensor, ...]:
    """Forward and backward."""
    mixed = run(inputs, *arguments)
    return torch.autograd.grad(mixed.sum(), tuple(inputs))


def compiled_flex(length: int, dtype: torch.dtype) -> Callable[[Sequence[Tensor]], Tensor]:
    """FlexAttention of the local window, compiled for this length. 编译好的 FlexAttention。"""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def near(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query - key).abs() <= RADIUS

    blocks = create_block_mask(near, None, None, length, length, device="cpu")
    compiled = torch.compile(flex_attention)

    def run(inputs: Sequence[Tensor]) -> Tensor:
        query, key, value = (tensor.transpose(0, 1)[None] for tensor in inputs)
        mixed: Tensor = compiled(query, key, value, block_mask=blocks, scale=SCALE)
        return mixed[0].transpose(0, 1)

    return run


def check_forward(rule: Rule, inputs: Sequence[Tensor], found: Sequence[Tensor]) -> str:
    """Outputs of some queries against the definition, in float64. 与定义比较。"""
    query, key, value = (tensor.double() for tensor in inputs)
    chosen = torch.linspace(0, len(query) - 1, SAMPLE).long()
    places = torch.arange(len(key))
    nothing = torch.zeros_like(places)
    known = Tokens(places, nothing, nothing)
    visible = rule.allows(known.select(chosen).as_queries(), known.as_keys())
    logits = torch.einsum("qhd,khd->hqk", query[chosen], key) * SCALE
    weights = logits.masked_fill(~visible, -math.inf).softmax(-1)
    exact = torch.einsum("hqk,khd->qhd", weights, value)
    away = max(float((mixed[chosen].double() - exact).abs().max()) for mixed in found)
    if not away < TOLERANCE[inputs[0].dtype]:
        raise Difference(f"outputs are up to {away:.1e} away from the definition")
    return f"outputs within {away:.1e} of the definition"


def check_gradients(rule: Rule, seed: int) -> str:
    """Gradients against a dense mask. 梯度与稠密掩码比较。"""
    inputs = make_inputs(GRADIENTS_AT, torch.float64, seed, gradient=True)
    visibility = rule.bind(Layout.of((GRADIENTS_AT,)))
    pairs = zip(
        both_ways(ours, inputs, visibility), both_ways(dense, inputs, visibility.dense()), strict=True
    )
    away = max(float((left - right).abs().max()) for left, right in pairs)
    if not away < 1e-10:
        raise Difference(f"gradients are up to {away:.1e} away from those of a dense mask")
    return f"gradients within {away:.1e} of a dense mask's in float64"


def at_lengths(chosen: argparse.Namespace) -> Iterator[Case]:
    """Each rule at each length, forward, fp32: what the slopes come from. 各长度的前向时间。"""
    for name, rule in RULES.items():
        for length in chosen.lengths:
            inputs = make_inputs(length, torch.float32, chosen.seed)
            visibility = rule.bind(Layout.of((length,)))
            run = partial(forward, ours, inputs, visibility)
            check = partial(check_last, rule, inputs, [run])
            yield Case(f"{name}, {length}", "layer", 1, False, [Side("ours", run)], check)


def check_last(rule: Rule, inputs: Sequence[Tensor], runs: Sequence[Callable[[], Tensor]]) -> str:
    """Runs every side that computes the rule, then compares. 运行后比较。"""
    return check_forward(rule, inputs, [run() for run in runs])


def against_dense(chosen: argparse.Namespace) -> Iterator[Case]:
    """Local attention beside dense SDPA at one length. 局部注意力与稠密注意力。"""
    rule, length = RULES["local"], chosen.against
    visibility = rule.bind(Layout.of((length,)))
    for word, dtype in DTYPES.items():
        inputs = make_inputs(length, dtype, chosen.seed)
        runs = [partial(forward, ours, inputs, visibility)]
        sides = [Side("ours", runs[0]), Side("dense SDPA", partial(forward, dense, inputs))]
        if chosen.flex:
            runs.append(partial(forward, compiled_flex(length, dtype), inputs))
            sides.append(Side("compiled FlexAttention", runs[1]))
        check = partial(check_last, rule, inputs, runs)
        yield Case(f"local against dense, {length}, forward {word}", "layer", 1, False, sides, check)
        grown = make_inputs(length, dtype, chosen.seed, gradient=True)
        sides = [
            Side("ours", partial(both_ways, ours, grown, visibility)),
            Side("dense SDPA", partial(both_ways, dense, grown)),
        ]
        check = partial(check_gradients, rule, chosen.seed)
        yield Case(f"local against dense, {length}, both ways {word}", "layer", 1, False, sides, check)


def cases(chosen: argparse.Namespace) -> Iterator[Case]:
    """All cases. 全部案例。"""
    yield from at_lengths(chosen)
    yield from against_dense(chosen)


def slope(lengths: Sequence[int], seconds: Sequence[float]) -> float:
    """The least-squares slope of log seconds against log length. 双对数斜率。"""
    points = [math.log(length) for length in lengths]
    return statistics.linear_regression(points, [math.log(value) for value in seconds]).slope


def slopes(sessions: Sequence[dict[str, object]], lengths: Sequence[int]) -> Iterator[str]:
    """One line a rule and allocator, from the CPU seconds of the JSON file. 各规则的斜率。"""
    for session in sessions:
        results = session["results"]
        assert isinstance(results, list)
        spent = {
            entry["case"]: min(round_["cpu"] for round_ in entry["rounds"])
            for entry in results
            if entry["side"] == "ours"
        }
        for name in RULES:
            seconds = [spent[f"{name}, {length}"] for length in lengths if f"{name}, {length}" in spent]
            if len(seconds) == len(lengths) > 1:
                ends = slope(lengths, seconds), slope(lengths[-2:], seconds[-2:])
                where = f"{name}, {session['allocator']} allocator"
                yield f"{where}: slope {ends[0]:.2f}, {ends[1]:.2f} between the last two lengths"


def peak(rule: Rule, length: int, threads: int | None) -> int:
    """Bytes that the peak of a fork grows by in one forward and backward. 训练时的峰值内存增长。"""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_grow, args=(rule, length, threads, sender), daemon=True)
    child.start()
    child.join()
    if child.exitcode or not receiver.poll():
        raise UserError(f"memory: the process at {length} tokens stopped")
    grown: int = receiver.recv()
    return grown


def _grow(rule: Rule, length: int, threads: int | None, sender: object) -> None:
    runtime.set_threads(threads)
    both_ways(ours, make_inputs(64, torch.float32, 0, gradient=True), rule.bind(Layout.of((64,))))
    inputs = make_inputs(length, torch.float32, 0, gradient=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    both_ways(ours, inputs, rule.bind(Layout.of((length,))))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sender.send(1024 * (after - before))  # type: ignore[attr-defined]


def memory_table(lengths: Sequence[int], threads: int | None) -> Iterator[str]:
    """MiB of each rule at each length. 各规则在各长度的训练内存。"""
    yield f"| MiB, forward and backward | {' | '.join(map(str, lengths))} |"
    yield "|---" * (len(lengths) + 1) + "|"
    for name, rule in {**RULES, "dense SDPA": Full()}.items():
        grown = [peak(rule, length, threads) / 2**20 for length in lengths]
        yield f"| {name} | {' | '.join(f'{value:.0f}' for value in grown)} |"


def main(arguments: Sequence[str]) -> int:
    """The command. 命令行入口。"""
    options = runner.parser("milliseconds of attention with sparse patterns", "sparse_attention")
    options.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096, 8192])
    options.add_argument("--against", type=int, default=4096, help="the length beside dense attention")
    options.add_argument(
        "--flex", action="store_true", help="compiled FlexAttention too; needs a C++ compiler"
    )
    options.add_argument("--no-memory", action="store_true", help="leave out the table of memory")
    code = runner.main("sparse_attention", options, cases, arguments)
    if code:
        return code
    chosen = options.parse_args(arguments)
    sessions = json.loads(chosen.out.read_text(encoding="utf-8"))["sessions"]
    print("\n" + "\n".join(slopes(sessions, chosen.lengths)))
    if not chosen.no_memory:
        print("\n" + "\n".join(memory_table(chosen.lengths, chosen.threads)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
