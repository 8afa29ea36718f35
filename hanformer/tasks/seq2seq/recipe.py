"""All choices of a sequence-to-sequence run."""

from __future__ import annotations

from dataclasses import dataclass, field

from hanformer.errors import UserError
from hanformer.tasks.seq2seq.pairs import PairColumns
from hanformer.tasks.stop_head import StopOptions
from hanformer.tasks.text_recipe import TextRecipe, VocabularyOptions
from hanformer.train.options import TrainOptions
from hanformer.train.sizes import WIDER, Sizes
from hanformer.train.tricks import tricks_named
from hanformer.train.tricks.replacement import POOLS, Replacement

ARCHITECTURES = ("unilm", "encoder_decoder")


@dataclass(frozen=True)
class ReplacementOptions:
    """Random replacement of target inputs against exposure bias; `rows` 0 is none.

    目标端输入的随机替换（缓解曝光偏差）；rows 为 0 时不替换。

    The fields are those of `train.tricks.Replacement`.
    """

    rows: float = 0.0
    tokens: float = 0.3
    pool: str = "target"

    def of_vocabulary(self, size: int) -> Replacement:
        """The replacement in a vocabulary of that size; raises UserError for a pool that does not exist."""
        if self.pool not in POOLS:
            raise UserError(f"replacement.pool: expected one of {', '.join(POOLS)}, got {self.pool!r}")
        return Replacement(self.rows, self.tokens, self.pool, size)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Seq2SeqRecipe(TextRecipe):
    """Choices of sequence to sequence, beside those of every task on text.

    序列到序列任务的选项。

    `architecture`: unilm (one stack reads source and target) or encoder_decoder (two; `decoder_layers` of the second);
    `maximum_length` bounds the source in tokens and `target_length` the target, borders included: longer pairs are left
    out of training. `source` and `target` name the columns (names, or numbers from 1), and `condition` that of a label
    under which the target is written: a learned vector of `condition_size` channels that moves all norms; with `source`
    none, texts are written from it alone. `limit` takes that many pairs of the training set, drawn by the seed (0:
    all). `freeze` keeps the embeddings and so many lowest layers of a pretrained model as they are. `label_smoothing`
    is a share of probability. `stop` is a head that must stop, which takes no smoothing.
    """

    architecture: str = "unilm"
    decoder_layers: int = 3
    target_length: int = 128
    source: str = ""
    target: str = ""
    condition: str = ""
    condition_size: int = 128
    limit: int = 0
    freeze: int = 0
    label_smoothing: float = 0.1
    replacement: ReplacementOptions = field(default_factory=ReplacementOptions)
    stop: StopOptions = field(default_factory=StopOptions)
    vocabulary: VocabularyOptions = field(default_factory=lambda: VocabularyOptions("characters", 8000))
    train: TrainOptions = field(
        default_factory=lambda: TrainOptions(
            epochs=10, learning_rate=1e-3, warm_up=500, betas=(0.9, 0.98), average="ema", average_decay=0.999
        )
    )

    @property
    def usual_sizes(self) -> Sizes:
        """As of every task on text, but of four wider layers. 默认尺寸：四层，更宽。"""
        return WIDER

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.architecture not in ARCHITECTURES:
            raise UserError(
                f"architecture: expected one of {', '.join(ARCHITECTURES)}, got {self.architecture!r}"
            )
        if not 0 <= self.label_smoothing < 1:
            raise UserError(f"label_smoothing: expected a share from 0 up to 1, got {self.label_smoothing}")
        if self.freeze < 0 or (self.freeze and not self.start_from):
            raise UserError(
                f"freeze: expected so many layers of a pretrained model (--start-from), got {self.freeze}"
            )
        if self.condition_size < 1:
            raise UserError(f"condition_size: expected at least 1, got {self.condition_size}")
        if self.limit < 0 or self.target_length < 2 or self.decoder_layers < 1:
            raise UserError(
                "expected limit of at least 0, target_length of at least 2 and decoder_layers of at least 1, "
                f"got {self.limit}, {self.target_length} and {self.decoder_layers}"
            )
        self.replacement.of_vocabulary(1)
        tricks_named(self.tricks)
        crosses = self.architecture == "encoder_decoder"
        if crosses and self.replacement.rows:
            raise UserError(
                "replacement works for architecture=unilm; leave it out, or change the architecture"
            )
        if crosses and self.start_from:
            raise UserError("start_from fine-tunes a model of one stack: use architecture=unilm with it")

    @property
    def application(self) -> str:
        """Who sees whom in the model, or in the first of two stacks. 模型的应用方式。"""
        return "unilm" if self.architecture == "unilm" else "encoder"

    @property
    def columns(self) -> PairColumns:
        """Which columns the pairs stand in. Raises UserError as `PairColumns` does. 文本对所在各列。"""
        return PairColumns(self.source, self.target, self.condition)

    def check_together(self) -> None:
        """Raises UserError for choices that contradict each other: of columns, conditions and the head that must stop.

        检查相互矛盾的选项。

        Asked when training begins, for choices are set one after the other, beside defaults that contradict them.
        """
        self.stop.check_smoothing(self.label_smoothing)
        if self.columns.condition and (self.stop.chosen or self.architecture != "unilm"):
            raise UserError("condition works for architecture=unilm, without a head that must stop")
        unrolls = any(word.partition(":")[0] == "tea_forn" for word in self.tricks)
        if self.stop.chosen and unrolls and self.architecture == "encoder_decoder":
            raise UserError("tea_forn and a head that must stop go together for architecture=unilm alone")
