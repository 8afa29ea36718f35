"""A small masked language model of characters: the task on which the lab compares encoders."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from hanformer.arithmetic.generated import generate
from hanformer.data.files import lines
from hanformer.errors import UserError
from hanformer.models import Transformer
from hanformer.nn.functional.packing import Layout

UNKNOWN, MASK, FIRST = 1, 2, 3
#: Share of the characters that are hidden and guessed.
HIDDEN = 0.15
#: Share of the windows that are held out.
HELD_OUT = 0.05


@dataclass(frozen=True, eq=False)
class MaskedText:
    """Windows of text as character ids, int64 [windows, length], to learn from and held out; `vocabulary` ids.

    切成等长窗口的字符文本：训练部分与留出部分。
    """

    train: Tensor
    valid: Tensor
    vocabulary: int


@dataclass(frozen=True)
class Learned:
    """Held-out loss (nats a hidden character) and accuracy, and seconds a step. 留出集上的结果。"""

    loss: float
    accuracy: float
    seconds_a_step: float
    curve: tuple[tuple[int, float], ...]


def read_text(path: str, characters: int) -> str:
    """The first characters of a text file, or of generated word problems where the path is empty. 读取文本。"""
    pieces: list[str] = []
    size = 0
    for line in lines(path) if path else _problems(characters):
        pieces.append(line)
        size += len(line) + 1
        if size >= characters:
            break
    return "\n".join(pieces)[:characters]


def _problems(characters: int) -> Iterator[str]:
    """Problems of the embedded generator with their equations; each is longer than 20 characters."""
    for problem in generate(characters // 20 + 1, 0, "train"):
        yield f"{problem.text}{problem.equation}"


def cut(text: str, length: int, vocabulary: int, seed: int) -> MaskedText:
    """Windows of the text, shuffled, over its commonest characters. 切成窗口并编号。

    Raises UserError for a text with fewer than 20 windows.
    """
    count = len(text) // length
    if count < 20:
        raise UserError(
            f"lab attention: expected a text of at least {20 * length:,} characters, got {len(text):,}"
        )
    common = [character for character, _ in Counter(text).most_common(vocabulary - FIRST)]
    number = {character: place for place, character in enumerate(common, start=FIRST)}
    ids = torch.tensor([number.get(character, UNKNOWN) for character in text[: count * length]])
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    windows, held = ids.view(count, length)[order], max(1, int(HELD_OUT * count))
    return MaskedText(windows[held:], windows[:held], FIRST + len(common))


def masked_loss(model: Transformer, windows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cross-entropy over hidden characters, and whether each was guessed right: a scalar and bool [hidden].

    遮蔽字符上的交叉熵与是否猜对。
    """
    chosen = (torch.rand(windows.shape, generator=generator) < HIDDEN).flatten()
    chosen[0] = True  # never none at all
    wanted = windows.flatten()[chosen]
    layout = Layout.of((windows.shape[1],) * len(windows))
    shown = windows.flatten().masked_fill(chosen, MASK)
    hidden = model.body(model.embed(shown, layout), layout)
    logits = model.lm_logits(hidden[chosen])
    return functional.cross_entropy(logits.float(), wanted), logits.argmax(-1) == wanted


def learn(model: Transformer, text: MaskedText, *, steps: int, rows: int, rate: float, seed: int) -> Learned:
    """Trains for some steps with a warm-up and a linear descent; every model meets the same batches and masks.

    训练若干步；每个模型见到相同的批次与遮蔽。
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    warmup = max(1, steps // 10)
    curve: list[tuple[int, float]] = []
    spent = 0.0
    model.train()
    for step in range(steps):
        start = time.perf_counter()
        windows = text.train[torch.randint(len(text.train), (rows,), generator=generator)]
        optimizer.param_groups[0]["lr"] = rate * min((step + 1) / warmup, 1 - step / steps)
        loss, _ = masked_loss(model, windows, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        spent += time.perf_counter() - start
        curve.append((step + 1, float(loss.detach())))
    loss_, accuracy = judge(model, text, rows, seed)
    return Learned(loss_, accuracy, spent / steps, tuple(curve))


@torch.no_grad()
def judge(model: Transformer, text: MaskedText, rows: int, seed: int) -> tuple[float, float]:
    """Loss and accuracy over the held-out windows, with the same masks for every model. 留出集评测。"""
    generator = torch.Generator().manual_seed(seed + 1)
    model.eval()
    total, right, count = 0.0, 0, 0
    for windows in text.valid.split(rows):
        loss, hits = masked_loss(model, windows, generator)
        total += float(loss) * len(hits)
        right, count = right + int(hits.sum()), count + len(hits)
    return total / count, right / count
