"""All choices of a chat run."""

from __future__ import annotations

from dataclasses import dataclass, field

from hanformer.chat.layouts import check_layout
from hanformer.errors import UserError
from hanformer.tasks.stop_head import StopOptions
from hanformer.tasks.text_recipe import TextRecipe, VocabularyOptions
from hanformer.train.options import TrainOptions
from hanformer.train.sizes import WIDER, Sizes
from hanformer.train.tricks import tricks_named

LEARNED = ("replies", "all", "last")


@dataclass(frozen=True)
class ChatRecipe(TextRecipe):
    """Choices of chat, beside those of every task on text.

    对话任务的选项。

    `layout`: alternating (segments) or speakers (tokens), see `chat.layouts`. `learn`: replies (every turn but the
    first), all (the first too) or last (the last turn alone). `maximum_length` counts the tokens of a dialogue:
    turns from the one that goes beyond it on are left out, and with them dialogues of fewer than two turns. `limit`
    takes that many dialogues of the training set, drawn by the seed (0: all). `freeze` keeps that many of the lowest
    layers, and the embeddings, as they are (0: all of it learns). `stop` is a head that must stop. `label_smoothing`
    is a share of probability.
    """

    layout: str = "alternating"
    learn: str = "replies"
    limit: int = 0
    freeze: int = 0
    label_smoothing: float = 0.0
    stop: StopOptions = field(default_factory=StopOptions)
    vocabulary: VocabularyOptions = field(default_factory=lambda: VocabularyOptions("characters", 8000))
    train: TrainOptions = field(
        default_factory=lambda: TrainOptions(
            epochs=10, learning_rate=1e-3, warm_up=300, betas=(0.9, 0.98), average="ema", average_decay=0.998
        )
    )

    @property
    def application(self) -> str:
        """Who sees whom in the model. 模型的应用方式。"""
        return "lm"

    @property
    def usual_sizes(self) -> Sizes:
        """As of every task on text, but of four wider layers. 默认尺寸：四层，更宽。"""
        return WIDER

    def __post_init__(self) -> None:
        super().__post_init__()
        check_layout(self.layout)
        if self.learn not in LEARNED:
            raise UserError(f"learn: expected one of {', '.join(LEARNED)}, got {self.learn!r}")
        if self.learn == "all" and self.layout == "speakers":
            raise UserError(
                "learn=all needs a layout that closes every turn: choose layout=alternating, or learn=replies"
            )
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing: expected a share from 0 up to 1, got {self.label_smoothing}")
        if self.limit < 0 or self.freeze < 0:
            raise UserError(f"expected limit and freeze of at least 0, got {self.limit} and {self.freeze}")
        if self.freeze and not self.start_from:
            raise UserError(
                "freeze keeps layers of a pretrained model: name one (start_from), or leave it out"
            )
        self.stop.check_smoothing(self.label_smoothing)
        tricks_named(self.tricks)
