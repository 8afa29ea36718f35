"""Training a recurrent language model on running text, into a run folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.models.recurrent_lm import RecurrentConfig, RecurrentLm
from hanformer.models.recurrent_store import write_recurrent_config
from hanformer.nn.layers.recurrent.cell import State
from hanformer.parsing.running_text import TextParts, Window, WindowSource, read_parts, streams
from hanformer.parsing.words import Words
from hanformer.train.history import History
from hanformer.train.losses.chunked_cross_entropy import chunked_cross_entropy
from hanformer.train.objective import Loss
from hanformer.train.options import TrainOptions
from hanformer.train.progress import Reporter
from hanformer.train.running import Prepared, train_run
from hanformer.train.theseus import Theseus
from hanformer.train.workers import worker_count

TASK = "recurrent"
#: Streams and steps that text is judged in; they change perplexity by a few words at the borders of streams alone.
_JUDGED_ROWS, _JUDGED_STEPS = 10, 200


@dataclass(frozen=True)
class RecurrentRecipe:
    """All choices of one training of a recurrent language model; the sizes and dropouts are the paper's.

    循环语言模型一次训练的全部选择；尺寸与失活率取自论文。

    `model.vocabulary_size` is the most words that the vocabulary takes; `segment` cuts lines into words (spaces, jieba,
    characters); `rows` streams of text run side by side through windows of about `window` steps, drawn anew every epoch
    unless `vary_window` is False. `activation` times the mean square of the dropped outputs, and `temporal` times that
    of the differences of neighbouring outputs, are added to the loss.
    """

    model: RecurrentConfig = field(default_factory=RecurrentConfig)
    train: TrainOptions = field(
        default_factory=lambda: TrainOptions(
            epochs=40, learning_rate=1e-3, schedule="cosine", warm_up=200, weight_decay=1.2e-6, clip_norm=0.25
        )
    )
    optimizer: str = "adamw"
    segment: str = "spaces"
    minimum_count: int = 1
    rows: int = 20
    window: int = 70
    vary_window: bool = True
    activation: float = 2.0
    temporal: float = 1.0

    @property
    def theseus(self) -> Theseus:
        """No layers are replaced. 不替换任何层。"""
        return Theseus()

    @property
    def named_files(self) -> tuple[str, ...]:
        """None beside the data. 除数据外不依赖其他文件。"""
        return ()

    def __post_init__(self) -> None:
        for name in ("minimum_count", "rows", "window"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("activation", "temporal"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name}: expected a strength of 0 or more, got {getattr(self, name)}")


class Carried(nn.Module):
    """The states that a window hands to the next: buffers, so that a resumed run goes on with them bit for bit.

    时间窗之间传递的状态；存为缓冲区，中断后可逐位恢复。
    """

    def __init__(self, states: Sequence[State]) -> None:
        super().__init__()
        self._parts = [len(state) for state in states]
        for number, part in enumerate(part for state in states for part in state):
            self.register_buffer(str(number), torch.zeros_like(part))

    def states(self) -> tuple[State, ...]:
        """The states as they are kept. 取出状态。"""
        flat = list(self.buffers())
        ends = [sum(self._parts[: layer + 1]) for layer in range(len(self._parts))]
        return tuple(
            tuple(part.clone() for part in flat[end - count : end])
            for end, count in zip(ends, self._parts, strict=True)
        )

    @torch.no_grad()
    def keep(self, states: Sequence[State]) -> None:
        """Keeps the values of states, without their graph. 保存状态（截断梯度）。"""
        for buffer, part in zip(self.buffers(), (part for state in states for part in state), strict=True):
            buffer.copy_(part)


class RecurrentTraining(nn.Module):
    """A language model with the states that its training carries from window to window. 训练中的模型与其状态。"""

    def __init__(self, model: RecurrentLm, rows: int) -> None:
        super().__init__()
        self.transformer = model  # the name under which a run keeps the model, whatever its kind
        self.carried = Carried(model.stack.first_states(rows))


@dataclass(frozen=True)
class WindowObjective:
    """Summed cross-entropy of the next words, with activation regularisation; carries states from window to window.

    下一词交叉熵（求和）与激活正则；状态在窗口间传递，每轮开头清零。

        total = Σ -log p + N (α mean(dropped h²) + β mean((h_t - h_{t-1})²)) of the last layer, N the words

    Source: Merity et al. 2018, arXiv 1708.02182.
    """

    activation: float
    temporal: float

    def __call__(self, model: nn.Module, window: Window) -> Loss:
        assert isinstance(model, RecurrentTraining)
        lm = model.transformer
        inputs, targets = window.inputs.to(lm.device), window.targets.to(lm.device)
        output = lm.read(inputs, None if window.first else model.carried.states())
        model.carried.keep(output.states)
        loss = chunked_cross_entropy(output.outputs, lm.output.weight, targets, bias=lm.output.bias)
        wide, raw = output.outputs.float(), output.raw[-1].float()
        extra = self.activation * wide.square().mean()
        if len(raw) > 1:
            extra = extra + self.temporal * raw.diff(dim=0).square().mean()
        return Loss(loss.total + targets.numel() * extra, targets.numel())


@torch.no_grad()
def perplexity(model: RecurrentLm, text: Tensor) -> float:
    """exp of the mean cross-entropy of every word of streams [L, B] after the first, read in one go.

    困惑度。

    The model is used in the mode that it is in: put it in evaluation mode first.
    """
    states: tuple[State, ...] | None = None
    total, count = 0.0, 0
    for window in WindowSource(text.to(model.device), _JUDGED_STEPS, None).batches(0):
        output = model.read(window.inputs, states)
        states = output.states
        loss = chunked_cross_entropy(
            output.outputs, model.output.weight, window.targets, bias=model.output.bias
        )
        total, count = total + float(loss.total), count + window.targets.numel()
    return math.exp(min(total / count, 700.0))


def train_recurrent(
    recipe: RecurrentRecipe,
    data: str | Path,
    run_folder: str | Path,
    *,
    device: torch.device | None = None,
    reporter: Reporter | None = None,
    resume: bool = False,
) -> History:
    """Trains on running text (a folder, zip or file of lines) into a run folder of the task "recurrent".

    在连续文本上训练循环语言模型。

    The best checkpoint is a model folder for `load_recurrent`, with words.txt beside it; validation measures loss and
    perplexity. Raises UserError for unusable data, for several processes, and what `train_run` refuses.
    """
    if worker_count() > 1:
        raise UserError(
            "train recurrent: every window goes on from the one before, so several processes cannot share them; "
            "start it without torchrun or accelerate launch"
        )
    parts = read_parts(data)

    def prepare(folder: Path | None) -> Prepared[Window]:
        words = _learn(recipe, parts) if folder is None else Words.load(folder)
        return _prepared(recipe, parts, words)

    return train_run(
        run_folder, TASK, str(data), recipe, prepare, device=device, reporter=reporter, resume=resume
    )


def _learn(recipe: RecurrentRecipe, parts: TextParts) -> Words:
    size = recipe.model.vocabulary_size
    return Words.learn(parts.train, recipe.segment, size=size, minimum_count=recipe.minimum_count)


def _prepared(recipe: RecurrentRecipe, parts: TextParts, words: Words) -> Prepared[Window]:
    config = replace(recipe.model, vocabulary_size=len(words))
    text = streams(words.stream(parts.train), recipe.rows)
    judged = words.stream(parts.valid)
    judging = judged_streams(judged)
    seed = recipe.train.seed if recipe.vary_window else None
    return Prepared(
        model=RecurrentTraining(RecurrentLm(config), recipe.rows),
        objective=WindowObjective(recipe.activation, recipe.temporal),
        source=WindowSource(text, recipe.window, seed),
        size_of=lambda window: window.targets.numel(),
        companions=words.save,
        describe=lambda folder: write_recurrent_config(config, folder),
        validate=lambda model: _judge(model, judging),
        counts={
            "training_words": text.numel(),
            "validation_words": judging.numel(),
            "vocabulary": len(words),
        },
    )


def judged_streams(ids: Sequence[int]) -> Tensor:
    """The streams that a text is judged in: ten, or less where it is short. 用于评测的并排流。"""
    return streams(ids, max(1, min(_JUDGED_ROWS, len(ids) // 2)))


def _judge(model: nn.Module, text: Tensor) -> Mapping[str, float]:
    assert isinstance(model, RecurrentTraining)
    found = perplexity(model.transformer, text)
    return {"loss": math.log(found), "perplexity": found}
