"""Every mechanism of attention in training: seconds of a step on one row, and memory it keeps, against length.

    python -m benchmarks.mechanisms --threads 1 --allocator tuned --rounds 3 [--figure mechanisms.svg]

The encoder of experiments/attention.toml (3 layers of 128 channels, 4 heads, no dropout), one row of random ids,
forward and backward of the hidden states. Before anything is timed, each model is compared with itself where all
pairs of tokens are written out. What is kept is what autograd saves between the two passes, without parameters: the
same on any machine.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks import runner
from benchmarks.measure import Case, Difference, Side
from hanformer.config import ModelConfig
from hanformer.lab.attention import bytes_kept
from hanformer.mechanisms import (
    Atrous,
    GatedUnit,
    Linear,
    Local,
    Mechanism,
    Performer,
    Softmax,
    Sparse,
    Synthesizer,
    Taylor,
)
from hanformer.models import Transformer, build
from hanformer.nn.functional.packing import Layout

RECORDS: dict[str, Mechanism] = {
    "softmax": Softmax(),
    "local, radius 32": Local(32),
    "atrous, rate 4": Atrous(4),
    "sparse, rate 8": Sparse(8),
    "linear (elu)": Linear(),
    "Performer, 64 features": Performer(features=64),
    "Taylor": Taylor(),
    "Synthesizer": Synthesizer(),
    "gated unit": GatedUnit(),
}
LAYERS, SIZE, HEADS, VOCABULARY = 3, 128, 4, 1000
#: Rows that are compared with all pairs written out: longer than what is never cut, and ragged.
CHECKED = (96, 1, 37)


def encoder(record: Mechanism, length: int, seed: int) -> Transformer:
    """The encoder with a mechanism; positions are rotary where it has something to turn. 带指定机制的编码器。"""
    torch.manual_seed(seed)
    config = ModelConfig(
        vocab_size=VOCABULARY,
        hidden_size=SIZE,
        layers=LAYERS,
        attention_heads=HEADS,
        intermediate_size=4 * SIZE,
        max_positions=length,
        norm_place="pre",
        position="learned" if isinstance(record, Synthesizer) else "rotary",
        attention=record,
        dropout=0.0,
        attention_dropout=0.0,
    )
    return build(config).train()


def hidden(model: Transformer, lengths: Sequence[int], pairs: bool = False) -> Tensor:
    """Hidden states of rows of random ids; `pairs`: by all pairs of tokens. 随机输入的隐状态。"""
    layout = Layout.of(lengths)
    ids = torch.randint(VOCABULARY, (layout.total,), generator=torch.Generator().manual_seed(0))
    found: Tensor = model.stack(model.embed(ids, layout), model.stack.begin(layout, keep=pairs))
    return found


def step(model: Transformer, length: int) -> None:
    """Forward and backward on one row. 单行的前向与反向。"""
    hidden(model, [length]).sum().backward()


def check(seed: int) -> str:
    """Hidden states, and the slopes of the embeddings, with and without all pairs. 与逐对计算的结果比较。"""
    away = 0.0
    for record in RECORDS.values():
        model = encoder(record, max(CHECKED), seed).double().eval()
        both = []
        for pairs in (False, True):
            model.zero_grad()
            out = hidden(model, CHECKED, pairs)
            (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)).sum().backward()
            both.append(torch.cat([out.detach().flatten(), model.embeddings.token.weight.grad.flatten()]))
        away = max(away, float((both[0] - both[1]).abs().max()))
    if not away < 1e-8:
        raise Difference(f"models are up to {away:.1e} away from themselves with all pairs written out")
    return f"states and slopes within {away:.1e} of all pairs written out, in float64"


def cases(chosen: argparse.Namespace) -> Iterator[Case]:
    """One case for each length. 每种长度一个案例。"""
    for length in chosen.lengths:
        models = {name: encoder(record, length, chosen.seed) for name, record in RECORDS.items()}
        sides = [Side(name, partial(step, model, length)) for name, model in models.items()]
        yield Case(f"{length} tokens", "step", 1, False, sides, partial(check, chosen.seed))


Figures = Mapping[str, Sequence[float]]


def seconds(session: Mapping[str, object]) -> Figures:
    """The median CPU seconds of each mechanism at each length. 各机制在各长度上的 CPU 秒数。"""
    results = session["results"]
    assert isinstance(results, list)
    found: dict[str, list[float]] = {name: [] for name in RECORDS}
    for entry in results:
        found[entry["side"]].append(statistics.median(each["cpu"] for each in entry["rounds"]))
    return found


def mebibytes(lengths: Sequence[int], seed: int) -> Figures:
    """What each mechanism keeps for the way back at each length. 各机制为反向传播保留的 MiB。"""

    def kept(record: Mechanism, length: int) -> float:
        model = encoder(record, length, seed)
        return bytes_kept(model, lambda: hidden(model, [length])) / 2**20

    return {name: [kept(record, length) for length in lengths] for name, record in RECORDS.items()}


def slope(lengths: Sequence[int], values: Sequence[float]) -> float:
    """Of log values against log lengths, from the last two. 最后两点的双对数斜率。"""
    return math.log(values[-1] / values[-2]) / math.log(lengths[-1] / lengths[-2])


def table(title: str, lengths: Sequence[int], found: Figures, form: str) -> Iterator[str]:
    """A row for each mechanism. 每种机制一行。"""
    several = len(lengths) > 1
    yield f"| {title} | {' | '.join(map(str, lengths))} |{' slope of the last two |' if several else ''}"
    yield "|---" * (len(lengths) + 1 + several) + "|"
    for name, values in found.items():
        end = f" {slope(lengths, values):.2f} |" if several else ""
        yield f"| {name} | {' | '.join(format(value, form) for value in values)} |{end}"


def draw(path: Path, lengths: Sequence[int], times: Figures, sizes: Figures) -> None:
    """Both against length, as SVG. 画出时间与内存随长度的变化。"""
    from hanformer.lab.report import figure, svg, tidy
    from hanformer.weights.atomic import write_text

    picture = figure(9, 4)
    axes = picture.subplots(1, 2)
    for shown, found, unit in zip(axes, (times, sizes), ("CPU seconds", "MiB"), strict=True):
        for place, (name, values) in enumerate(found.items()):
            style = {"marker": "o", "markersize": 3, "linewidth": 1.2, "color": f"C{place}"}
            shown.plot(lengths, values, label=name, **style)
        shown.set(xlabel="length", ylabel=unit, xscale="log", yscale="log")
        shown.set_xticks(lengths, [str(length) for length in lengths])
        shown.minorticks_off()
    axes[0].set(title="A training step on one row")
    axes[1].set(title="Kept for the way back")
    axes[0].legend(fontsize=7)
    tidy(axes)
    write_text(path, svg(picture))


def main(arguments: Sequence[str]) -> int:
    """The command. 命令行入口。"""
    options = runner.parser("seconds and memory of each mechanism in training", "mechanisms")
    options.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    options.add_argument("--figure", type=Path, help="draw both tables into this SVG file")
    code = runner.main("mechanisms", options, cases, arguments)
    if code:
        return code
    chosen = options.parse_args(arguments)
    *_, session = json.loads(chosen.out.read_text(encoding="utf-8"))["sessions"]
    times, sizes = seconds(session), mebibytes(chosen.lengths, chosen.seed)
    print("\n" + "\n".join(table("CPU seconds", chosen.lengths, times, ".3f")))
    print("\n" + "\n".join(table("MiB kept", chosen.lengths, sizes, ".0f")))
    if chosen.figure is not None:
        draw(chosen.figure, chosen.lengths, times, sizes)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
