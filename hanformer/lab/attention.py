"""The same small encoder with each mechanism of attention: quality, time and memory against length.

同一小型编码器配不同注意力机制：质量、时间与显存。
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.lab.masked_text import HIDDEN, Learned, cut, learn, masked_loss, read_text
from hanformer.lab.report import Picture, Report, Table, figure, tidy
from hanformer.mechanisms import Mechanism
from hanformer.models import Transformer, build

#: Mechanisms whose defaults are meant for larger models or longer texts than the lab's.
SMALL: dict[str, Mapping[str, int]] = {
    "local": {"radius": 8},
    "atrous": {"rate": 4},
    "sparse": {"rate": 4},
    "performer": {"features": 64},
    "gated_unit": {"key_size": 32},
}
_COLOURS = ("#31688e", "#b5442e", "#3a8f5c", "#8e5ea2", "#c49a1a", "#555555", "#5bb5b0", "#d97c9b", "#7a6a4f")


@dataclass(frozen=True)
class Options:
    """What is trained and measured.

    训练与测量的选项。

    `data`: a text file; generated word problems where empty. `mechanisms`: names, all where empty. `lengths`: those
    at which a training step on one row is timed, and what it keeps for the way back is counted.
    """

    data: str = ""
    mechanisms: tuple[str, ...] = ()
    steps: int = 400
    length: int = 32
    rows: int = 32
    characters: int = 400_000
    vocabulary: int = 3000
    hidden_size: int = 64
    layers: int = 2
    heads: int = 4
    rate: float = 1e-2
    lengths: tuple[int, ...] = (128, 256, 512, 1024)
    repeats: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = (self.steps, self.length, self.rows, self.layers, self.heads, self.repeats, *self.lengths)
        if min(sizes) < 1 or self.vocabulary < 10 or not self.lengths:
            raise UserError(
                "lab attention: sizes must be at least 1, the vocabulary at least 10, and lengths be given"
            )
        if self.rate <= 0:
            raise UserError(f"lab attention: the learning rate must be above 0, got {self.rate}")
        for name in self.mechanisms:
            Mechanism.named(name)  # refuses a strange one before anything is trained


@dataclass(frozen=True)
class Found:
    """What was found of one mechanism; `seconds` and `kept` bytes at each length. 一种机制的结果。"""

    parameters: int
    learned: Learned
    seconds: tuple[float, ...]
    kept: tuple[int, ...]


def run(out: Path, options: Options) -> Report:
    """Trains and measures every mechanism, and reports. 训练、测量并报告。"""
    text = cut(read_text(options.data, options.characters), options.length, options.vocabulary, options.seed)
    found = {}
    for name in options.mechanisms or tuple(Mechanism.kinds()):
        torch.manual_seed(options.seed)
        model = build(encoder(options, name, text.vocabulary, options.length))
        learned = learn(
            model, text, steps=options.steps, rows=options.rows, rate=options.rate, seed=options.seed
        )
        costs = [cost(build(encoder(options, name, text.vocabulary, n)), n, options) for n in options.lengths]
        seconds, kept = zip(*costs, strict=True)
        size = sum(parameter.numel() for parameter in model.parameters())
        found[name] = Found(size, learned, seconds, kept)
    return _report(options, found)


def encoder(options: Options, name: str, vocabulary: int, length: int) -> ModelConfig:
    """The config of the lab's encoder with a mechanism; positions are learned, which each can carry.

    实验用编码器的配置。
    """
    return ModelConfig(
        vocab_size=vocabulary,
        hidden_size=options.hidden_size,
        layers=options.layers,
        attention_heads=options.heads,
        intermediate_size=4 * options.hidden_size,
        max_positions=length,
        segment_vocab_size=0,
        norm_place="pre",
        initial_deviation=0.1,
        attention=Mechanism.from_dict({"name": name, **SMALL.get(name, {})}),
        lm_head="tied",
        dropout=0.0,
        attention_dropout=0.0,
        pad_id=None,
    )


def cost(model: Transformer, length: int, options: Options) -> tuple[float, int]:
    """Seconds of a training step on one row (the fastest), and bytes that it keeps for the way back.

    单行训练一步的时间与为反向传播保留的字节数。
    """
    model.train()
    windows = torch.randint(3, model.config.vocab_size, (1, length), generator=_drawn(options))
    kept = bytes_kept(model, lambda: masked_loss(model, windows, _drawn(options))[0])
    times: list[float] = []
    for _ in range(options.repeats + 1):
        start = time.perf_counter()
        masked_loss(model, windows, _drawn(options))[0].backward()
        times.append(time.perf_counter() - start)
    return min(times[1:]), kept


def _drawn(options: Options) -> torch.Generator:
    return torch.Generator().manual_seed(options.seed)


def bytes_kept(model: Transformer, forward: Callable[[], Tensor]) -> int:
    """Bytes of all storages that a forward pass keeps for the way back, the parameters left out; the same anywhere.

    前向过程中为反向传播保留的存储字节数（不含参数）。
    """
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    sizes: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no address is given away twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(sizes.values())


def _report(options: Options, found: Mapping[str, Found]) -> Report:
    head = ("mechanism", "parameters", "loss", "right", "ms a step")
    rows = tuple(
        (
            name,
            f"{one.parameters:,}",
            f"{one.learned.loss:.3f}",
            f"{one.learned.accuracy:.1%}",
            f"{1000 * one.learned.seconds_a_step:.0f}",
        )
        for name, one in found.items()
    )
    source = options.data or "generated word problems"
    return Report(
        "Mechanisms of attention on one task · 同一任务上的注意力机制",
        (
            f"Characters of {source}, {HIDDEN:.0%} of them hidden; {options.layers} layers of "
            f"{options.hidden_size} channels, {options.steps} steps of {options.rows} rows of {options.length}. "
            "Loss in nats a hidden character, on held-out text.",
            "每种机制见到相同的批次；损失以留出文本上每个被遮字符的奈特计。",
        ),
        (
            Table("Quality · 质量", head, rows),
            _against(
                "Milliseconds of a step on one row · 单行训练一步的毫秒数",
                options,
                found,
                _milliseconds,
            ),
            _against("Mebibytes kept for the way back · 为反向传播保留的 MiB", options, found, _mebibytes),
        ),
        (Picture("attention", "Training loss; time and memory against length.", _draw(options, found)),),
    )


def _milliseconds(one: Found) -> tuple[float, ...]:
    return tuple(1000 * value for value in one.seconds)


def _mebibytes(one: Found) -> tuple[float, ...]:
    return tuple(value / 2**20 for value in one.kept)


def _against(
    title: str, options: Options, found: Mapping[str, Found], values: Callable[[Found], tuple[float, ...]]
) -> Table:
    rows = tuple((name, *(f"{value:.1f}" for value in values(one))) for name, one in found.items())
    return Table(title, ("mechanism", *map(str, options.lengths)), rows)


def _draw(options: Options, found: Mapping[str, Found]) -> object:
    picture = figure(12, 4)
    curves, times, sizes = picture.subplots(1, 3)
    for place, (name, one) in enumerate(found.items()):
        style = {
            "color": _COLOURS[place % len(_COLOURS)],
            "linewidth": 1.2,
            "linestyle": ("-", "--")[place // len(_COLOURS) % 2],
        }
        steps, losses = zip(*_smoothed(one.learned.curve), strict=True)
        curves.plot(steps, losses, label=name, **style)
        times.plot(options.lengths, _milliseconds(one), marker="o", markersize=3, **style)
        sizes.plot(options.lengths, _mebibytes(one), marker="o", markersize=3, **style)
    curves.set(xlabel="step", ylabel="nats", title="Training loss")
    curves.legend(fontsize=7)
    times.set(xlabel="length", ylabel="ms", title="A training step", xscale="log", yscale="log")
    sizes.set(xlabel="length", ylabel="MiB", title="Kept for the way back", xscale="log", yscale="log")
    tidy((curves, times, sizes))
    return picture


def _smoothed(curve: tuple[tuple[int, float], ...], share: float = 0.9) -> list[tuple[int, float]]:
    """A running mean, started without bias."""
    found, total, weight = [], 0.0, 0.0
    for step, loss in curve:
        total, weight = share * total + loss, share * weight + 1
        found.append((step, total / weight))
    return found
