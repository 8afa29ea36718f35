"""Running text for a recurrent language model: its parts, and the windows that training walks through."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from hanformer.data.files import iterate_members
from hanformer.errors import UserError

_PARTS = ("train", "valid", "test")
_WHOLE = ""
_HELD_OUT = 20


@dataclass(frozen=True)
class TextParts:
    """Lines to train on, to choose by, and to test on. 训练、验证与测试文本行。"""

    train: tuple[str, ...]
    valid: tuple[str, ...]
    test: tuple[str, ...]


def read_parts(path: str | Path) -> TextParts:
    """The parts of a folder or a zip whose files are named train, valid and test; of one file, whatever its name, the
    last twentieth is valid, and test is empty.

    读取训练、验证、测试文本；单个文件（不论名称）取末尾二十分之一作验证。

    Empty lines are left out. Raises UserError naming the path where there is no text to train on or to choose by.
    """
    found = _by_part(Path(path))
    if "train" not in found and _WHOLE in found:
        learned, held_out = _cut(found[_WHOLE])
        found = {"train": learned, "valid": held_out}
    parts = TextParts(*(tuple(found.get(part, ())) for part in _PARTS))
    if not parts.train or not parts.valid:
        raise UserError(
            f"{path}: expected text to train on and to choose by (files named train and valid, or one file)"
        )
    return parts


def read_judged(path: str | Path, trained_on: bool) -> dict[str, list[str]]:
    """Lines to judge a model by, of the parts valid and test that there are; else all of them, as "text".

    读取用于评测的文本行：验证与测试部分；没有分部分时为全文，若模型正是在它上面训练的，则只取末尾留出的部分。

    Where the model was trained on that one text, it is what `read_parts` held out of it, as "valid".
    """
    found = _by_part(Path(path))
    if "train" not in found and _WHOLE in found:
        return {"valid": _cut(found[_WHOLE])[1]} if trained_on else {"text": found[_WHOLE]}
    return {part: found[part] for part in _PARTS[1:] if found.get(part)}


def _cut(lines: list[str]) -> tuple[list[str], list[str]]:
    """What one text gives to learn from, and its last twentieth."""
    count = -(-len(lines) // _HELD_OUT)
    return lines[:-count], lines[-count:]


def _by_part(path: Path) -> dict[str, list[str]]:
    """The lines of each part; of a text without parts, and of files of other names, as `_WHOLE`."""
    found: dict[str, list[str]] = {}
    files = _files(path)
    for name, chunks in files:
        try:
            lines = b"".join(chunks).decode("utf-8-sig").split("\n")
        except UnicodeDecodeError:
            raise UserError(f"{name}: is not UTF-8 text; convert it") from None
        alone = len(files) == 1 and path.is_file()
        part = next((part for part in _PARTS if part in Path(name).name and not alone), _WHOLE)
        found.setdefault(part, []).extend(line for line in lines if line.strip())
    return found


def _files(path: Path) -> list[tuple[str, list[bytes]]]:
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    members = (member for file in files for member in iterate_members(file, suffixes=(".txt",)))
    return [(name, list(chunks)) for name, chunks in members]


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of B streams of text: ids and what follows each, [L, B]; `first` where the streams begin.

    一个时间窗：输入与目标 [L, B]；`first` 表示各流的开头。
    """

    inputs: Tensor
    targets: Tensor
    first: bool


def streams(ids: Sequence[int], rows: int) -> Tensor:
    """A text cut into `rows` streams of equal length side by side, [L, rows]; what is left over is left out.

    把一串编号切成并排的若干等长流。

    Raises UserError for a text too short for two steps.
    """
    steps = len(ids) // rows
    if steps < 2:
        raise UserError(f"expected a text of at least {2 * rows} words for {rows} streams, got {len(ids)}")
    return torch.tensor(ids[: steps * rows], dtype=torch.long).view(rows, steps).T.contiguous()


def window_lengths(steps: int, base: int, random: Random | None) -> list[int]:
    """Lengths of windows that cover `steps`: all `base` without chance, else as AWD-LSTM draws them.

    时间窗长度；随机时按 AWD-LSTM 的方式抽取。

    Drawn: base with probability 0.95, else half of it; then rounded from a normal distribution of deviation 5 around
    that, and at least 5. The last window is what is left. Source: Merity et al. 2018, arXiv 1708.02182.
    """
    lengths = []
    while steps > 0:
        length = base if random is None else _drawn(base, random)
        lengths.append(min(length, steps))
        steps -= length
    return lengths


def _drawn(base: int, random: Random) -> int:
    middle = base if random.random() < 0.95 else base / 2
    return max(5, int(random.gauss(middle, 5)))


class Windows:
    """The windows of one epoch, one after the other along the streams. 一轮的时间窗。"""

    def __init__(self, text: Tensor, lengths: Sequence[int]) -> None:
        self.text = text
        self.starts = [0]
        for length in lengths:
            self.starts.append(self.starts[-1] + length)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> Window:
        place = range(len(self))[index]
        start, stop = self.starts[place], self.starts[place + 1]
        return Window(self.text[start:stop], self.text[start + 1 : stop + 1], place == 0)

    def __iter__(self) -> Iterator[Window]:
        return (self[place] for place in range(len(self)))


class WindowSource:
    """Windows by epoch, of lengths that depend on (seed, epoch) alone; a fixed length without a seed.

    按轮给出时间窗，长度只取决于种子与轮次。
    """

    def __init__(self, text: Tensor, base: int, seed: int | None) -> None:
        if base < 1:
            raise UserError(f"window: expected at least 1 step, got {base}")
        self.text, self.base, self.seed = text, base, seed

    def batches(self, epoch: int) -> Windows:
        """The windows of an epoch, the same ones whenever it is called. 某一轮的时间窗。"""
        random = None if self.seed is None else Random(f"{self.seed}/{epoch}")
        return Windows(self.text, window_lengths(len(self.text) - 1, self.base, random))
