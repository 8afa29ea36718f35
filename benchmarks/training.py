"""Training: tokens per second of a full step, beside the same BERT in `transformers`.

    python -m benchmarks.training

A step is forward, backward, clipping and fused AdamW: "base width" on a masked language model (15 % of the tokens),
"main job" on UniLM at the size of the recipe for word problems (the last 7 tokens of a row are its target, predicted
one after another; all see the rows' sources). Both sides take the same rows in the same batches. Ours gets them
packed and computes the vocabulary at the tokens that are learned; theirs gets what its collator makes, rows padded
to the longest of the batch, with SDPA attention, and UniLM's mask ready made, which is not timed. "grouped" draws the
rows of a batch by length, as its Trainer does with train_sampling_strategy="group_by_length"; "arrival" is its
default order. The third side gives transformers, by hand, our own saving at the head. Tokens are real ones: padding
is not counted. Dropout is 0, so that losses can be compared. The main job's rotary positions and pre-norm are left
aside, since transformers' BERT has neither.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import runner
from benchmarks.measure import Case, Difference, Side
from benchmarks.peer import build_peer, skewed_lengths
from hanformer import models
from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models.transformer import Transformer
from hanformer.nn.functional.packing import Layout

#: BERT-base width with 4 layers, and the size of the main job.
SIZES = {
    "base width": ModelConfig(21128, 768, 4, 12, 3072, dropout=0.0, attention_dropout=0.0),
    "main job": ModelConfig(3000, 192, 3, 6, 768, dropout=0.0, attention_dropout=0.0, application="unilm"),
}
#: The orders in which rows come, each with (rows of a batch, batches of a round).
SHAPES = {
    "base width": {"skewed, grouped": (8, 1), "uniform 128": (2, 1)},
    "main job": {"skewed, grouped": (16, 2), "skewed, arrival": (16, 2), "uniform 128": (8, 1)},
}
MASK_ID, FIRST_ID, MASKED_SHARE = 4, 5, 0.15
#: Tokens that an equation of Math23K has, its end included, on average.
TARGET = 7
CHECK_STEPS, TOLERANCE = 10, 1e-4


@dataclass(frozen=True)
class Rows:
    """One batch in both forms: packed for us, padded for the peer.

    同一批次的两种形式：打包与填充。

    Packed: ids [N], layout, places [M] that predict, labels [M]. Padded: input_ids, types and labels [B, L], the
    labels -100 where nothing is to be predicted, and attention_mask, [B, L] or for UniLM [B, 1, L, L].
    """

    ids: Tensor
    layout: Layout
    places: Tensor
    labels: Tensor
    padded_ids: Tensor
    types: Tensor
    attention_mask: Tensor
    padded_labels: Tensor


def make_rows(lengths: Sequence[int], config: ModelConfig, seed: int) -> Rows:
    """Rows of these lengths for what the model is trained to do. 按训练目标生成数据。"""
    make = target_rows if config.application == "unilm" else masked_rows
    return make(lengths, config.vocab_size, seed)


def masked_rows(lengths: Sequence[int], vocab_size: int, seed: int) -> Rows:
    """Random tokens of these lengths, 15 % of them masked. 随机词元与掩码。"""
    generator = torch.Generator().manual_seed(seed)
    total = sum(lengths)
    answers = torch.randint(FIRST_ID, vocab_size, (total,), generator=generator)
    masked = torch.rand(total, generator=generator) < MASKED_SHARE
    masked[0] = True
    ids = answers.masked_fill(masked, MASK_ID)
    targets = answers.masked_fill(~masked, -100)
    seen = _padded(torch.ones_like(ids), lengths)
    return _rows(ids, Layout.of(lengths), targets, seen)


def target_rows(lengths: Sequence[int], vocab_size: int, seed: int) -> Rows:
    """Random sources and targets, joined as UniLM reads them. 随机的源序列与目标序列。"""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(FIRST_ID, vocab_size, (sum(lengths),), generator=generator)
    ends = torch.randint(FIRST_ID, vocab_size, (len(lengths),), generator=generator)
    segments, targets = torch.zeros_like(ids), torch.full_like(ids, -100)
    for length, stop, end in zip(lengths, accumulate(lengths), ends, strict=True):
        start = stop - min(TARGET, length - 1)
        segments[start:stop] = 1
        targets[start - 1 : stop] = torch.cat([ids[start:stop], end[None]])
    layout = Layout.of(lengths, segments)
    padded, valid = _padded(segments, lengths), _padded(torch.ones_like(ids), lengths) == 1
    order = padded.cumsum(1)
    seen = (order[:, None, :] <= order[:, :, None]) & valid[:, None, :]
    return _rows(ids, layout, targets, seen[:, None])


def _padded(values: Tensor, lengths: Sequence[int], padding: int = 0) -> Tensor:
    return nn.utils.rnn.pad_sequence(values.split(list(lengths)), batch_first=True, padding_value=padding)


def _rows(ids: Tensor, layout: Layout, targets: Tensor, seen: Tensor) -> Rows:
    predicts, lengths = targets != -100, layout.lengths
    return Rows(
        ids,
        layout,
        predicts.nonzero().squeeze(1),
        targets[predicts],
        _padded(ids, lengths),
        _padded(layout.segments, lengths),
        seen,
        _padded(targets, lengths, -100),
    )


def our_loss(model: Transformer, rows: Rows) -> Tensor:
    """Packed body, vocabulary at the tokens that predict alone. 我方损失。"""
    # A layout keeps what it derives; a new one stands for the new batch that training meets each step.
    layout = Layout(rows.layout.lengths, rows.layout.positions, rows.layout.segments)
    hidden = model.body(model.embed(rows.ids, layout), layout)
    return functional.cross_entropy(model.lm_logits(hidden[rows.places]), rows.labels)


def peer_loss(peer: nn.Module, rows: Rows) -> Tensor:
    """What the Trainer of transformers calls. transformers 的损失。"""
    loss: Tensor = peer(
        input_ids=rows.padded_ids,
        attention_mask=rows.attention_mask,
        token_type_ids=rows.types,
        labels=rows.padded_labels,
    ).loss
    return loss


def peer_loss_where_learned(peer: nn.Module, rows: Rows) -> Tensor:
    """The same with the head at the tokens that predict alone, which a user would have to write.

    仅在需预测处计算输出层的 transformers 损失。
    """
    hidden = peer.bert(  # type: ignore[operator]
        input_ids=rows.padded_ids, attention_mask=rows.attention_mask, token_type_ids=rows.types
    )[0]
    wanted = rows.padded_labels != -100
    logits: Tensor = peer.cls(hidden[wanted])  # type: ignore[operator]
    return functional.cross_entropy(logits, rows.padded_labels[wanted])


LossOf = Callable[[Any, Rows], Tensor]
"""The mean loss of a model (ours or the peer's) on a batch. 某模型在一个批次上的平均损失。"""


@dataclass(frozen=True)
class Learner:
    """A model, its optimizer and how it computes the loss. 模型、优化器与损失。"""

    model: nn.Module
    optimizer: torch.optim.Optimizer

    def step(self, loss_of: LossOf, rows: Rows, autocast: bool) -> Tensor:
        """Forward, backward, clip, update; the loss before the update."""
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss: Tensor = loss_of(self.model, rows)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def round(self, loss_of: LossOf, batches: Sequence[Rows], autocast: bool) -> None:
        """One step on each batch."""
        for rows in batches:
            self.step(loss_of, rows, autocast)


def learner(model: nn.Module) -> Learner:
    """With fused AdamW, the same settings for both sides. 融合 AdamW。"""
    return Learner(model.train(), torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True))


def check(ours: Learner, theirs: Learner, config: ModelConfig, seed: int, autocast: bool) -> str:
    """Ten steps of both sides on small batches: equal losses before each. 十步训练的损失须相同。"""
    worst = 0.0
    for number in range(CHECK_STEPS):
        rows = make_rows(skewed_lengths(2, seed + number), config, seed + number)
        with torch.no_grad():
            also = peer_loss_where_learned(theirs.model, rows)
        first, second = ours.step(our_loss, rows, autocast), theirs.step(peer_loss, rows, autocast)
        losses = torch.stack([first, second, second if autocast else also])
        worst = max(worst, float(losses.max() - losses.min()))
        if not autocast and not worst <= TOLERANCE:
            raise Difference(f"loss of step {number}: {losses.tolist()} differ by more than {TOLERANCE}")
    return f"losses of {CHECK_STEPS} steps differ by {worst:.1e} at most, the last is {float(first):.4f}"


def make_batches(name: str, order: str, config: ModelConfig, seed: int) -> list[Rows]:
    """The batches of one round. 一轮的批次。"""
    rows, count = SHAPES[name][order]
    lengths = [128] * rows if order == "uniform 128" else skewed_lengths(rows * count, seed)
    if order == "skewed, grouped":
        lengths = sorted(lengths, reverse=True)
    cut = [lengths[start : start + rows] for start in range(0, len(lengths), rows)]
    return [make_rows(part, config, seed + number) for number, part in enumerate(cut)]


def cases(chosen: argparse.Namespace) -> Iterator[Case]:
    """All sizes and orders. 全部案例。"""
    autocast = chosen.precision == "bf16"
    for name in chosen.sizes.split(","):
        if name not in SIZES:
            raise UserError(f"sizes: expected some of {', '.join(SIZES)}, got {name!r}")
        config = SIZES[name].changed({"layers": chosen.layers} if chosen.layers else {})
        torch.manual_seed(chosen.seed)
        model = models.build(config)
        ours, theirs = learner(model), learner(build_peer(model))
        # The models go on learning while they are timed, so the check comes once, before the first case.
        confirm = cache(partial(check, ours, theirs, config, chosen.seed, autocast))
        for order in SHAPES[name]:
            batches = make_batches(name, order, config, chosen.seed)
            sides = [
                Side("hanformer", partial(ours.round, our_loss, batches, autocast)),
                Side("transformers", partial(theirs.round, peer_loss, batches, autocast)),
                Side(
                    "transformers, head where learned",
                    partial(theirs.round, peer_loss_where_learned, batches, autocast),
                ),
            ]
            tokens = sum(len(rows.ids) for rows in batches)
            yield Case(f"{name}, {order}", "token", tokens, True, sides, confirm)


def main(arguments: Sequence[str]) -> int:
    """The command. 命令行入口。"""
    options = runner.parser("training tokens per second beside transformers", "training")
    options.add_argument("--sizes", default=",".join(SIZES), help="comma-separated: %(default)s")
    options.add_argument("--layers", type=int, default=None, help="default: 4; 12 for the whole BERT-base")
    options.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    return runner.main("training", options, cases, arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
