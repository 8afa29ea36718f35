"""Examples as a classifier reads them: windows of ids, their targets, and packed batches of them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from hanformer.data.batches import TokenBudgetBatches
from hanformer.nn.functional.packing import Layout
from hanformer.text.protocols import Encoding, Tokenizer
from hanformer.text.windows import pair_windows, windows

_SPECIALS, _PAIR_SPECIALS = 2, 3


@dataclass(frozen=True, eq=False)
class Window:
    """One stretch of an example that the model reads at once: ids and segments. 一个窗口。"""

    ids: array[int]
    segments: array[int]

    @classmethod
    def of(cls, encoding: Encoding) -> Window:
        """The ids and segments of an encoding."""
        return cls(array("i", encoding.ids), array("i", encoding.segments))


@dataclass(frozen=True, eq=False)
class LabelledBatch:
    """A packed batch of windows with the labels of their examples.

    打包的窗口及其样本标签。

    `token_ids` [N]; `labels` int64 [B], or float [B, K] of many labels.
    """

    token_ids: Tensor
    layout: Layout
    labels: Tensor

    def to(self, device: torch.device) -> LabelledBatch:
        """The same batch on another device."""
        return LabelledBatch(self.token_ids.to(device), self.layout.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples cut into windows, with their `labels` [n] or [n, K]. 切成窗口的样本。"""

    windows: Sequence[Sequence[Window]]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.windows)

    def batches(self, token_budget: int, seed: int) -> TokenBudgetBatches[LabelledBatch]:
        """Shuffled batches for training; each epoch draws one window of every example."""
        lengths = [max(len(window.ids) for window in own) for own in self.windows]
        return TokenBudgetBatches(lengths, token_budget, self._drawn, seed=seed)

    def _drawn(self, indices: Sequence[int], random: Random) -> LabelledBatch:
        return pack([random.choice(self.windows[index]) for index in indices], self.labels[list(indices)])

    def scores(self, score: Callable[[LabelledBatch], Tensor], token_budget: int) -> Tensor:
        """The mean score of each example's windows, float32 on the CPU: [n, K]."""
        every = [(example, window) for example, own in enumerate(self.windows) for window in own]
        places = torch.tensor([example for example, _ in every])
        plan = TokenBudgetBatches(
            [len(window.ids) for _, window in every], token_budget, lambda indices, _: indices, shuffle=False
        )
        found: Tensor | None = None
        for indices in plan.batches(0):
            rows = places[list(indices)]
            scored = score(pack([every[index][1] for index in indices], self.labels[rows])).float().cpu()
            found = scored.new_zeros(len(self), *scored.shape[1:]) if found is None else found
            found.index_add_(0, rows, scored)
        assert found is not None  # a source without batches is refused
        return found / torch.bincount(places, minlength=len(self))[:, None]


def pack(rows: Sequence[Window], labels: Tensor) -> LabelledBatch:
    """Windows laid end to end. 打包窗口。"""
    ids = torch.tensor([token for row in rows for token in row.ids])
    segments = torch.tensor([segment for row in rows for segment in row.segments])
    return LabelledBatch(ids, Layout.of([len(row.ids) for row in rows], segments), labels)


def text_windows(tokenizer: Tokenizer, text: str, maximum_length: int, overlap: int) -> list[Window]:
    """A text as windows that share `overlap` tokens. 把文本切成窗口。"""
    stride = max(1, maximum_length - _SPECIALS - overlap)
    return [Window.of(found) for found in windows(tokenizer, text, maximum_length, stride)]


def windows_of_pair(
    tokenizer: Tokenizer, first: str, second: str, maximum_length: int, overlap: int
) -> list[Window]:
    """A pair as windows over its second text; where the first one takes more than half, both are cut.

    把文本对切成窗口：第一段保持完整，第二段滑动；第一段过长时截断。
    """
    whole = tokenizer.encode_pair(first, second)
    if len(whole) <= maximum_length:
        return [Window.of(whole)]
    leading = len(tokenizer.encode(first, special_tokens=False))
    room = maximum_length - leading - _PAIR_SPECIALS
    if room < maximum_length // 2:
        return [Window.of(tokenizer.encode_pair(first, second, maximum_length))]
    found = pair_windows(tokenizer, first, second, maximum_length, max(1, room - overlap))
    return [Window.of(window) for window in found]


def class_labels(targets: Tensor, many: bool) -> Tensor:
    """Bool [n, K] as losses want it: float [n, K] of many labels, else int64 [n]. 转为损失所需的标签形式。"""
    return targets.float() if many else targets.long().argmax(-1)


def unlabelled_examples(rows: Iterable[Sequence[Window]]) -> Examples:
    """Windows without labels, which are all 0 and not to be used. 无标签样本。"""
    kept = list(rows)
    return Examples(kept, torch.zeros(len(kept), dtype=torch.int64))
