"""All choices of a classification run."""

from __future__ import annotations

from dataclasses import dataclass, field

from hanformer.errors import UserError
from hanformer.similarity.pooling import check_pooling
from hanformer.tasks.classify.decisions import THRESHOLDS
from hanformer.tasks.classify.losses import LOSSES, LossKind, check_trick
from hanformer.tasks.text_recipe import TextRecipe, VocabularyOptions
from hanformer.train.options import TrainOptions
from hanformer.train.sizes import Sizes
from hanformer.train.tricks import tricks_named

WEIGHTS = ("none", "balanced")
PENALTIES = ("vat", "r_drop", "noise")
ALL_OTHERS = "*"
_FEWEST_OF_A_TEXT = 8


@dataclass(frozen=True)
class ClassifierRecipe(TextRecipe):
    """What tasks with a classifier have in common, beside what all tasks on text have.

    带分类器的任务共有的选项。

    `loss` is a word of `losses.LOSSES`; `pooling` makes one vector of a text: cls (the first token), mean, last or
    pooled (the pretrained pooler). `class_weights` none or balanced; `label_smoothing` a share, for cross_entropy and
    taylor. `freeze`: the embeddings and so many lowest layers of a pretrained model stay as they are. Texts longer than
    `maximum_length` are read by windows that share `overlap` tokens: training draws one of them each epoch, and what is
    predicted is the mean of their scores. `limit` takes that many labelled rows, drawn by the seed (0: all). `label`
    names the column of labels (a name, or a number from 1).
    """

    loss: str = "cross_entropy"
    pooling: str = "mean"
    class_weights: str = "none"
    label_smoothing: float = 0.0
    freeze: int = 0
    overlap: int = 32
    limit: int = 0
    label: str = ""
    vocabulary: VocabularyOptions = field(default_factory=lambda: VocabularyOptions("characters", 8000))
    sizes: Sizes = field(default_factory=Sizes)

    @property
    def kind(self) -> LossKind:
        """The loss that the word stands for."""
        return LOSSES[self.loss]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pooling(self.pooling)
        for name, value, words in self._words():
            if value not in words:
                raise UserError(f"{name}: expected one of {', '.join(words)}, got {value!r}")
        for word in self.tricks:
            tricks_named([word])
            check_trick(word.partition(":")[0], self._senseless_tricks())
        self._check_numbers()
        self._check_together()

    def _words(self) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
        return (("loss", self.loss, tuple(LOSSES)), ("class_weights", self.class_weights, WEIGHTS))

    def _senseless_tricks(self) -> tuple[str, ...]:
        return ("tea_forn",)

    def _check_numbers(self) -> None:
        if self.maximum_length < _FEWEST_OF_A_TEXT or self.token_budget < self.maximum_length:
            raise UserError(
                f"expected maximum_length of {_FEWEST_OF_A_TEXT} or more and token_budget not below it, got "
                f"{self.maximum_length} and {self.token_budget}"
            )
        if min(self.freeze, self.limit, self.overlap) < 0 or not 0 <= self.label_smoothing < 1:
            raise UserError(
                "expected freeze, limit and overlap of 0 or more and label_smoothing from 0 up to 1, got "
                f"{self.freeze}, {self.limit}, {self.overlap} and {self.label_smoothing}"
            )

    def _check_together(self) -> None:
        if self.freeze and not self.start_from:
            raise UserError(
                "freeze keeps layers of a pretrained model: name one (start_from), or leave it out"
            )
        kind = LOSSES.get(self.loss)
        if kind is None:
            return
        if self.label_smoothing and not kind.smooths:
            raise UserError(f"label_smoothing: goes with loss=cross_entropy or taylor, not with {self.loss}")
        if self.class_weights != "none" and kind.balance is None:
            raise UserError(f"class_weights: the loss {self.loss} balances classes by itself; leave them out")


def _options() -> TrainOptions:
    return TrainOptions(epochs=10, learning_rate=5e-4, warm_up=100, best_by="micro_f1", higher_is_better=True)


@dataclass(frozen=True)
class ClassifyRecipe(ClassifierRecipe):
    """Choices of classification, of one label (cross_entropy, focal, taylor) or many (zlpr, sigmoid, sigmoid_focal).

    文本分类任务的选项：单标签或多标签，由损失决定。

    `text` names the column of texts. Of many labels, `separator` stands between them in a cell, and label="*" takes
    every other column as a class, with 0 or 1 in it. `classes` is a file of class names, a line each, by whose numbers
    (from 0) the data may call them; without it, they are those of the training set. `thresholds` above which a score
    is a label, of many: zero, tuned (one for all classes, the highest micro-F1 of the validation set), tuned_each, or
    auto: zero for zlpr, tuned for the others. `unlabelled` names a file of texts whose predictions `penalty` (vat,
    r_drop or noise) steadies, with `unlabelled_strength`.
    """

    text: str = ""
    separator: str = "|"
    classes: str = ""
    thresholds: str = "auto"
    unlabelled: str = ""
    unlabelled_strength: float = 1.0
    penalty: str = "vat"
    train: TrainOptions = field(default_factory=_options)

    @property
    def named_files(self) -> tuple[str, ...]:
        """Those of classes and of texts without labels too. 另含类别文件与无标签文本。"""
        return (*super().named_files, self.classes, self.unlabelled)

    def _words(self) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
        own = (("thresholds", self.thresholds, THRESHOLDS), ("penalty", self.penalty, PENALTIES))
        return (*super()._words(), *own)

    def _check_together(self) -> None:
        super()._check_together()
        if not self.separator:
            raise UserError("separator: expected what stands between labels, such as |; got nothing")
        if not self.unlabelled_strength > 0:
            raise UserError(f"unlabelled_strength: expected a number above 0, got {self.unlabelled_strength}")
        if self.kind.many:
            return
        if self.label == ALL_OTHERS:
            raise UserError('label="*" is for many labels: choose loss=zlpr or loss=sigmoid with it')
        if self.thresholds != "auto":
            raise UserError(f"thresholds: are for many labels, not for loss={self.loss}; leave them out")
