"""All choices of a run on pairs of texts."""

from __future__ import annotations

from dataclasses import dataclass, field

from hanformer.errors import UserError
from hanformer.tasks.classify.recipe import WEIGHTS, ClassifierRecipe
from hanformer.tasks.pair.losses import VECTOR_LOSSES
from hanformer.train.options import TrainOptions

CLASS_LOSSES = ("cross_entropy", "focal", "taylor")
#: What compares predicted distributions has nothing to compare where vectors are trained.
_OF_CLASSES = ("r_drop", "vat", "noise_penalty", "mixup")


def _options() -> TrainOptions:
    return TrainOptions(epochs=10, learning_rate=5e-4, warm_up=100, best_by="score", higher_is_better=True)


@dataclass(frozen=True)
class PairRecipe(ClassifierRecipe):
    """Choices of pairs: classes of pairs that are read together (cross_entropy, focal, taylor), or vectors of texts
    that are read apart and compared by their cosine (cosent, simbert, simcse).

    文本对任务的选项：拼接后分类（交互式），或分别编码后比较余弦（双塔式），由损失决定。

    `first`, `second` and `label` name the columns. cosent wants a label that grades, be it 0 and 1; simbert takes the
    pairs without one, or with one of at least `alike`, as alike, and all others of a batch as not; simcse needs no
    labels to train. `scale` multiplies cosines (0: what the loss was published with: 20, 30, 20).
    """

    first: str = ""
    second: str = ""
    alike: float = 1.0
    scale: float = 0.0
    train: TrainOptions = field(default_factory=_options)

    @property
    def compares(self) -> bool:
        """Whether the loss trains vectors."""
        return self.loss in VECTOR_LOSSES

    def _words(self) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
        losses = (*CLASS_LOSSES, *VECTOR_LOSSES)
        return (("loss", self.loss, losses), ("class_weights", self.class_weights, WEIGHTS))

    def _senseless_tricks(self) -> tuple[str, ...]:
        return (*super()._senseless_tricks(), *(_OF_CLASSES if self.compares else ()))

    def _check_together(self) -> None:
        super()._check_together()
        if self.scale < 0:
            raise UserError(f"scale: expected a number above 0, or 0 for the loss's own, got {self.scale}")
        if not self.compares:
            return
        if self.class_weights != "none" or self.label_smoothing:
            raise UserError(
                f"class_weights and label_smoothing are for classes, not for loss={self.loss}; leave them out"
            )
        if self.token_budget < 2 * self.maximum_length:
            raise UserError(
                f"token_budget: expected room for two texts of maximum_length={self.maximum_length}, "
                f"got {self.token_budget}"
            )
