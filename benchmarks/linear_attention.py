"""Linear attention: milliseconds of one layer's attention, beside SDPA and performer-pytorch.

    python -m benchmarks.linear_attention --threads 1

One row, 12 heads of 64 channels, random numbers. "elu" is the simplest map, "performer" has 256 random features. Each
runs causally at several lengths, and the slope of time against length is printed on a log-log scale: 1 is linear. At
one length causal elu runs beside causal SDPA, forward and with its backward; performer beside the same layer of
performer-pytorch with the same random vectors (where it is installed), causal and bidirectional.
Before anything is timed, outputs of the first tokens are compared with the definition, all pairs in float64.
Memory is what autograd keeps for the backward pass: bytes of all storages that the forward pass saves.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from benchmarks import runner
from benchmarks.measure import Case, Difference, Side
from hanformer.config import ModelConfig
from hanformer.mechanisms import Linear, Mechanism, Performer
from hanformer.nn.attention.kinds import attention_of
from hanformer.nn.attention.linear import LinearAttention
from hanformer.nn.attention.passing import Pass
from hanformer.nn.functional.packing import Layout
from hanformer.nn.functional.rules import Causal, Full, Rule

HEADS, SIZE, FEATURES = 12, 64, 256
RECORDS: dict[str, Mechanism] = {"elu": Linear(), "performer": Performer(features=FEATURES, redraw=0)}
#: So many tokens are compared with the definition.
CHECKED = 300
Run = Callable[[Sequence[Tensor]], Tensor]


def make_inputs(length: int, seed: int, gradient: bool = False) -> list[Tensor]:
    """Queries, keys and values [n, H, D]. 随机的查询、键、值。"""
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(length, HEADS, SIZE, generator=generator) for _ in range(3))
    return [tensor.requires_grad_(gradient) for tensor in drawn]


def layer(record: Mechanism, seed: int) -> LinearAttention:
    """The attention of one layer; its projections are not used. 一层注意力。"""
    torch.manual_seed(seed)
    config = ModelConfig(
        vocab_size=2,
        hidden_size=HEADS * SIZE,
        layers=1,
        attention_heads=HEADS,
        intermediate_size=1,
        attention=record,
    )
    made = attention_of(config).eval()
    assert isinstance(made, LinearAttention)
    return made


def ours(made: LinearAttention, rule: Rule, inputs: Sequence[Tensor]) -> Tensor:
    """Sums instead of pairs. 先求和的线性注意力。"""
    query, key, value = inputs
    return made.mix(query, key, value, Pass(rule.bind(Layout.of((len(query),)))))


def dense(inputs: Sequence[Tensor]) -> Tensor:
    """Causal softmax attention. 因果 softmax 注意力。"""
    query, key, value = (tensor.transpose(0, 1)[None] for tensor in inputs)
    return functional.scaled_dot_product_attention(query, key, value, is_causal=True)[0].transpose(0, 1)


def peer(made: LinearAttention, causal: bool) -> Run | None:
    """The same layer of performer-pytorch with our random vectors; None where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from performer_pytorch.performer_pytorch import FastAttention
    except ImportError:
        return None
    theirs = FastAttention(SIZE, nb_features=FEATURES, causal=causal)
    theirs.projection_matrix = made.get_buffer("projection").clone()

    def run(inputs: Sequence[Tensor]) -> Tensor:
        query, key, value = (tensor.transpose(0, 1)[None] for tensor in inputs)
        mixed: Tensor = theirs(query, key, value)
        return mixed[0].transpose(0, 1)

    return run


def forward(run: Run, inputs: Sequence[Tensor]) -> Tensor:
    """Without gradients."""
    with torch.inference_mode():
        return run(inputs)


def both_ways(run: Run, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Forward and backward."""
    return torch.autograd.grad(run(inputs).sum(), tuple(inputs))


def check(made: LinearAttention, rule: Rule, inputs: Sequence[Tensor]) -> str:
    """The first tokens, as a row of their own, against the definition in float64."""
    least = [tensor[:CHECKED].detach() for tensor in inputs]
    found = forward(partial(ours, made, rule), least).double()
    visibility = rule.bind(Layout.of((len(least[0]),)))
    with torch.inference_mode():
        exact = made._mix_pairs(*(tensor.double() for tensor in least), visibility)[0]
    away = float((found - exact).abs().max())
    if not away < 1e-3:
        raise Difference(f"outputs are up to {away:.1e} away from the definition")
    return f"outputs within {away:.1e} of the definition"


def cases(chosen: argparse.Namespace) -> Iterator[Case]:
    """All cases. 全部案例。"""
    for name, record in RECORDS.items():
        made = layer(record, chosen.seed)
        for length in chosen.lengths:
            inputs = make_inputs(length, chosen.seed)
            sides = [Side("ours", partial(forward, partial(ours, made, Causal()), inputs))]
            checked = partial(check, made, Causal(), inputs)
            yield Case(f"{name}, {length}", "layer", 1, False, sides, checked)
    yield from against_dense(chosen)
    yield from against_peer(chosen)


def against_dense(chosen: argparse.Namespace) -> Iterator[Case]:
    """Causal linear attention beside causal SDPA. 与因果 SDPA 比较。"""
    made, inputs = layer(RECORDS["elu"], chosen.seed), make_inputs(chosen.against, chosen.seed, gradient=True)
    run, checked = partial(ours, made, Causal()), partial(check, made, Causal(), inputs)
    for word, way in (("forward", forward), ("both ways", both_ways)):
        sides = [Side("ours", partial(way, run, inputs)), Side("causal SDPA", partial(way, dense, inputs))]
        name = f"elu against SDPA, {chosen.against}, {word}"
        yield Case(name, "layer", 1, False, sides, checked)


def against_peer(chosen: argparse.Namespace) -> Iterator[Case]:
    """Performer beside performer-pytorch. 与 performer-pytorch 比较。"""
    made, inputs = layer(RECORDS["performer"], chosen.seed), make_inputs(chosen.against, chosen.seed)
    if peer(made, True) is None:
        print("left out: performer-pytorch is not installed (pip install -e '.[bench]')", file=sys.stderr)
    for word, rule in (("causal", Causal()), ("bidirectional", Full())):
        sides = [Side("ours", partial(forward, partial(ours, made, rule), inputs))]
        if (theirs := peer(made, rule.is_causal)) is not None:
            sides.append(Side("performer-pytorch", partial(forward, theirs, inputs)))
        name = f"performer against its peer, {chosen.against}, {word}"
        yield Case(name, "layer", 1, False, sides, partial(check, made, rule, inputs))


def slopes(sessions: Sequence[dict[str, object]], lengths: Sequence[int]) -> Iterator[str]:
    """One line a mechanism, from the least CPU seconds of the JSON file. 双对数斜率。"""
    for session in sessions:
        results = session["results"]
        assert isinstance(results, list)
        spent = {entry["case"]: min(each["cpu"] for each in entry["rounds"]) for entry in results}
        for name in RECORDS:
            known = [length for length in lengths if f"{name}, {length}" in spent]
            if len(known) > 1:
                points = [math.log(length) for length in known]
                seconds = [math.log(spent[f"{name}, {length}"]) for length in known]
                found = statistics.linear_regression(points, seconds).slope
                yield f"{name}, {session['allocator']} allocator: slope {found:.2f}"


def kept_bytes(run: Run, length: int) -> int:
    """Bytes of all storages that a forward pass saves for its backward. 前向为反向保存的字节数。"""
    kept: dict[int, int] = {}
    held = []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        held.append(tensor)
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        held.append(run(make_inputs(length, 0, gradient=True)))
    return sum(kept.values())


def memory_table(lengths: Sequence[int]) -> Iterator[str]:
    """MiB of each mechanism at each length. 训练内存与长度。"""
    yield f"| MiB kept for the backward pass | {' | '.join(map(str, lengths))} |"
    yield "|---" * (len(lengths) + 1) + "|"
    for name, record in RECORDS.items():
        run = partial(ours, layer(record, 0), Causal())
        yield f"| {name} | {' | '.join(f'{kept_bytes(run, n) / 2**20:.0f}' for n in lengths)} |"


def main(arguments: Sequence[str]) -> int:
    """The command. 命令行入口。"""
    options = runner.parser("milliseconds of linear attention", "linear_attention")
    options.add_argument("--lengths", type=int, nargs="+", default=[4096, 16384, 65536])
    options.add_argument("--against", type=int, default=4096, help="the length beside SDPA and the peer")
    code = runner.main("linear_attention", options, cases, arguments)
    if code:
        return code
    chosen = options.parse_args(arguments)
    sessions = json.loads(chosen.out.read_text(encoding="utf-8"))["sessions"]
    print("\n" + "\n".join(slopes(sessions, chosen.lengths)))
    print("\n" + "\n".join(memory_table([1024, 2048, 4096])))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
