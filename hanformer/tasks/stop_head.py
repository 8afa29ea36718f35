"""The choice of a head that must stop, for every task whose models write: put on, trained and described.

自终止输出层的选项：所有生成类任务共用。
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from hanformer.data.sequences import SequenceBatch
from hanformer.errors import UserError
from hanformer.models import EncoderDecoder, Transformer, write_config
from hanformer.models.self_terminating import TerminatingTransformer, terminating_log_p
from hanformer.models.terminating_files import KINDS, WritingModel, stack_of, write_termination
from hanformer.nn.layers.self_terminating import NonMonotonic, SelfTerminating
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.text.vocabulary import Vocabulary
from hanformer.train.sequence import target_logits

STOPS = ("none", *KINDS)


@dataclass(frozen=True)
class StopOptions:
    """A head that must stop in the place of an ordinary end token; `kind` none is without.

    自终止输出层；kind 为 none 时不使用。

    `epsilon` sets how fast the least probability of the end token rises (`nn.layers.self_terminating`). Raises
    UserError for an unknown kind or an impossible epsilon.
    """

    kind: str = "none"
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        if self.kind not in STOPS:
            raise UserError(f"stop.kind: expected one of {', '.join(STOPS)}, got {self.kind!r}")
        self.termination()

    @property
    def chosen(self) -> bool:
        """Whether there is such a head."""
        return self.kind != "none"

    def termination(self) -> SelfTerminating | NonMonotonic | None:
        """The termination, or None."""
        return KINDS[self.kind](self.epsilon) if self.chosen else None

    def put_on(
        self, model: Transformer | EncoderDecoder, end_id: int, *, counts_prompt: bool = False
    ) -> WritingModel:
        """The model with a new head that ends texts with a token, or as it is. 为模型加上终止层（若选用）。"""
        termination = self.termination()
        if termination is None:
            return model
        return TerminatingTransformer(model, end_id, termination, counts_prompt=counts_prompt)

    def check_smoothing(self, label_smoothing: float) -> None:
        """Raises UserError for label smoothing beside such a head: all other places would learn to end too.

        与标签平滑互斥。
        """
        if self.chosen and label_smoothing:
            raise UserError(
                "label_smoothing and a head that must stop: choose one of them, such as --set label_smoothing=0"
            )


def logits_at(model: Any, batch: SequenceBatch) -> Tensor:
    """[M, V] at the predicting places of a packed batch: `logits_of` of `predict_targets`, whatever head there is.

    预测位置的 logits（或对数概率）。
    """
    if isinstance(model, TerminatingTransformer):
        return terminating_log_p(model, batch)
    return target_logits(model, batch)


def describer(model: WritingModel) -> Callable[[Path], None]:
    """What writes the config of a model into a folder, and of what kind its head is. 写入模型配置与终止层说明。"""

    def describe(folder: Path) -> None:
        write_config(stack_of(model), folder)
        if isinstance(model, TerminatingTransformer):
            write_termination(model, folder)

    return describe


def ended_by_head(
    options: GenerationOptions, model: WritingModel, vocabulary: Vocabulary
) -> GenerationOptions:
    """The options with the end token that a model's head decides; as they are where it has none.

    若模型带终止层，结束符由终止层决定。

    Raises UserError where the options name another end token, and where the vocabulary lacks the head's.
    """
    if not isinstance(model, TerminatingTransformer):
        return options
    end_id = model.stop.end_id
    if end_id >= len(vocabulary):
        raise UserError(
            f"the head that must stop ends texts with token {end_id}, the tokenizer has {len(vocabulary)}: "
            "they do not belong together"
        )
    end = vocabulary.tokens[end_id]
    if options.end not in (None, end):
        raise UserError(
            f"end: this model has a head that ends texts with {end}, not {options.end}; leave it out"
        )
    return replace(options, end=end)
