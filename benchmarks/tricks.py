"""Tricks of training: what each costs as a multiple of the plain step, beside its number of passes.

    python -m benchmarks.tricks

A step is forward, backward, clipping and fused AdamW. Tricks for classes train a classifier of pooled vectors, tea_forn
a UniLM that writes; both on packed texts of skewed lengths, with dropout 0.1. The first side of every case is the plain
step, so the column "time / ours" is the multiple. Before timing, the trick's gradients must be finite and differ from
the plain ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import runner
from benchmarks.measure import Case, Difference, Side
from benchmarks.peer import skewed_lengths
from hanformer import models
from hanformer.config import ModelConfig
from hanformer.data.sequences import Pair, SequenceBatch, join_pairs
from hanformer.errors import UserError
from hanformer.models.transformer import Transformer
from hanformer.nn.functional.packing import Layout
from hanformer.train.objective import Loss, Objective
from hanformer.train.precision import Precision
from hanformer.train.sequence import predict_targets
from hanformer.train.step import backward, scale_and_clip
from hanformer.train.tricks import TRICKS, tricks_named

SIZES = {
    "main job": ModelConfig(3000, 256, 4, 4, 1024),
    "base width": ModelConfig(21128, 768, 4, 12, 3072),
}
CLASSES, FIRST_ID = 10, 5


@dataclass(frozen=True, eq=False)
class Texts:
    """Packed texts with a class each. 打包文本与类别。"""

    ids: Tensor
    layout: Layout
    labels: Tensor


class Classifier(nn.Module):
    """Classes of the pooled vector of a text. 句向量分类器。"""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self.transformer = transformer
        self.output = nn.Linear(transformer.config.hidden_size, CLASSES)

    def forward(self, batch: Texts) -> Tensor:
        """[B, CLASSES] of packed texts."""
        # A layout keeps what it derives; a new one stands for the new batch that training meets each step.
        layout = Layout(batch.layout.lengths, batch.layout.positions, batch.layout.segments)
        hidden = self.transformer.body(self.transformer.embed(batch.ids, layout), layout)
        assert self.transformer.pooler is not None
        logits: Tensor = self.output(self.transformer.pooler(hidden[torch.tensor(layout.offsets[:-1])]))
        return logits


def classify(model: nn.Module, batch: Texts) -> Loss:
    """Cross-entropy of classes. 分类交叉熵。"""
    logits = model(batch)
    total = functional.cross_entropy(logits, batch.labels, reduction="sum")
    return Loss(total, len(batch.labels), {"logits": logits, "labels": batch.labels})


def make_texts(rows: int, vocab_size: int, seed: int) -> Texts:
    """Random texts. 随机文本。"""
    generator = torch.Generator().manual_seed(seed)
    lengths = skewed_lengths(rows, seed)
    ids = torch.randint(FIRST_ID, vocab_size, (sum(lengths),), generator=generator)
    return Texts(ids, Layout.of(lengths), torch.randint(CLASSES, (rows,), generator=generator))


def make_pairs(rows: int, vocab_size: int, seed: int) -> SequenceBatch:
    """The same lengths, half of each text to be written. 随机（源，目标）对。"""
    generator = torch.Generator().manual_seed(seed)
    texts = [
        torch.randint(FIRST_ID, vocab_size, (length + 1,), generator=generator).tolist()
        for length in skewed_lengths(rows, seed)
    ]
    halves = [(tuple(text[: len(text) // 2]), tuple(text[len(text) // 2 :])) for text in texts]
    return join_pairs([Pair(source, target) for source, target in halves])


@dataclass(frozen=True, eq=False)
class Learner:
    """A model with its optimizer, and one batch to learn. 模型、优化器与批次。"""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batch: Any
    precision: Precision

    def step(self, objective: Objective[Any]) -> None:
        """Forward, backward, clip, update, as the trainer does."""
        sums = backward(self.model, objective, [self.batch], self.precision)
        scale_and_clip(list(self.model.parameters()), sums.scale, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def learner(model: nn.Module, batch: Any, word: str) -> Learner:
    """With fused AdamW. 融合 AdamW。"""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    return Learner(model.train(), optimizer, batch, Precision(word, torch.device("cpu")))


def check(name: str, own: Learner, plain: Objective[Any]) -> str:
    """Finite gradients, other than the plain ones. 梯度有限且与普通训练不同。"""
    found = []
    for objective in (plain, tricks_named([name])(plain)):
        torch.manual_seed(0)
        sums = backward(own.model, objective, [own.batch], own.precision)
        found.append(float(scale_and_clip(list(own.model.parameters()), sums.scale, None)))
        own.optimizer.zero_grad(set_to_none=True)
    if not torch.tensor(found).isfinite().all() or found[0] == found[1]:
        raise Difference(f"{name}: gradient norms {found}, expected finite ones that differ")
    trick = TRICKS[name]
    return (
        f"{trick.forward} forward, {trick.backward} backward; gradient norm {found[0]:.3g} to {found[1]:.3g}"
    )


def cases(chosen: argparse.Namespace) -> Iterator[Case]:
    """One case a trick, the plain step beside it. 每个技巧一个案例。"""
    names = chosen.tricks.split(",")
    unknown = [name for name in names if name not in TRICKS]
    if unknown or chosen.size not in SIZES:
        raise UserError(
            f"expected tricks among {', '.join(TRICKS)} and a size among {', '.join(SIZES)}; "
            f"got {', '.join(unknown) or chosen.size}"
        )
    config = SIZES[chosen.size]
    for name in names:
        own, plain = _material(name, config, chosen)
        wrapped = tricks_named([name])(plain)
        sides = [Side("plain", partial(own.step, plain)), Side(name, partial(own.step, wrapped))]
        yield Case(f"{chosen.size}, {name}", "step", 1, False, sides, partial(check, name, own, plain))


def _material(name: str, config: ModelConfig, chosen: argparse.Namespace) -> tuple[Learner, Objective[Any]]:
    torch.manual_seed(chosen.seed)
    sizes = (chosen.rows, config.vocab_size, chosen.seed)
    if name == "tea_forn":
        writer = models.build(config.changed({"application": "unilm"}))
        return learner(writer, make_pairs(*sizes), chosen.precision), predict_targets()
    reader = Classifier(models.build(config, heads=("pool",)))
    return learner(reader, make_texts(*sizes), chosen.precision), classify


def main(arguments: Sequence[str]) -> int:
    """The command. 命令行入口。"""
    options = runner.parser("each trick of training as a multiple of the plain step", "tricks")
    options.add_argument("--tricks", default=",".join(TRICKS), help="comma-separated: %(default)s")
    options.add_argument("--size", default="main job", help=f"one of {', '.join(SIZES)}")
    options.add_argument("--rows", type=int, default=16, help="texts of a batch")
    options.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    return runner.main("tricks", options, cases, arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
