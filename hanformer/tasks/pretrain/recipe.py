"""All choices of a pretraining run."""

from __future__ import annotations

from dataclasses import dataclass, field

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.tasks.stop_head import StopOptions
from hanformer.tasks.text_recipe import TextRecipe, VocabularyOptions
from hanformer.train.options import TrainOptions
from hanformer.train.sizes import WIDER, Sizes, check_kept
from hanformer.train.tricks import tricks_named

#: Objective -> the application that the model is built for.
APPLICATIONS = {"mlm": "encoder", "lm": "lm", "unilm": "unilm"}
DOCUMENTS = ("blank", "line", "file")
#: Characters alone, or a word segmenter by its name.
WORDS = ("auto", "rjieba", "jieba", "none")


@dataclass(frozen=True)
class TextOptions:
    """Where the text of a file is, and what parts its documents.

    文本所在的列，以及文档的划分方式。

    `columns` name the columns of a table (tsv, csv, JSON records) to read one after another, each a text of its own;
    without them a file is lines of text. `documents` of lines: blank (a blank line parts them), line (every line is
    one) or file (a file is one); of a table, rows with one value in the column `group` follow each other in one
    document (empty: every row is a document). Rows of the model join neighbouring sentences of a document and never
    hold two documents.
    """

    columns: tuple[str, ...] = ()
    group: str = ""
    documents: str = "blank"

    def __post_init__(self) -> None:
        if self.documents not in DOCUMENTS:
            raise UserError(f"text.documents: expected one of {', '.join(DOCUMENTS)}, got {self.documents!r}")
        if self.group and not self.columns:
            raise UserError(
                "text.group parts the rows of a table; name the columns to read too (text.columns)"
            )


@dataclass(frozen=True)
class MaskOptions:
    """Which tokens a masked language model hides: a share `rate` of the words, by the segmenter `words`.

    掩码方式：按词（或字）以 rate 的概率选中；words 为分词器。

    `words`: auto (rjieba or jieba where one is installed, else none), rjieba, jieba, or none (every token is a word).
    Of the tokens chosen, a share `masked` become [MASK], a share `random` another token, the rest stay.
    """

    rate: float = 0.15
    masked: float = 0.8
    random: float = 0.1
    words: str = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise UserError(f"mask.rate: expected a share between 0 and 1, got {self.rate}")
        if min(self.masked, self.random) < 0 or self.masked + self.random > 1:
            raise UserError(
                f"mask.masked and mask.random: expected shares whose sum is at most 1, got {self.masked} and "
                f"{self.random}"
            )
        if self.words not in WORDS:
            raise UserError(f"mask.words: expected one of {', '.join(WORDS)}, got {self.words!r}")


@dataclass(frozen=True)
class PretrainRecipe(TextRecipe):
    """Choices of pretraining, beside those of every task on text.

    预训练的选项。

    `objective`: mlm (masked language model), lm (causal), or unilm (a mixture of masked, causal, and sequence to
    sequence rows, of weights `mixture`). `maximum_length` bounds a row in tokens, borders included. `valid` rows are
    held out where no validation file is given, and at most so many are read of one. `embedding_size` is the width of a
    factorised embedding (none: the hidden size). `freeze` keeps the embeddings and so many lowest layers as they are;
    `new_words` adds so many words of the text to the vocabulary of `start_from`, as WoBERT does. `stop` is a head
    that must stop, for the objective lm: it counts from the beginning of a row, and of what is continued.
    """

    objective: str = "mlm"
    mixture: tuple[float, float, float] = (1.0, 1.0, 1.0)
    embedding_size: int | None = None
    freeze: int = 0
    new_words: int = 0
    text: TextOptions = field(default_factory=TextOptions)
    mask: MaskOptions = field(default_factory=MaskOptions)
    stop: StopOptions = field(default_factory=StopOptions)
    vocabulary: VocabularyOptions = field(default_factory=lambda: VocabularyOptions("characters", 8000))
    train: TrainOptions = field(
        default_factory=lambda: TrainOptions(
            epochs=10, learning_rate=1e-3, warm_up=500, betas=(0.9, 0.98), validate_every=1000
        )
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective not in APPLICATIONS:
            raise UserError(f"objective: expected one of {', '.join(APPLICATIONS)}, got {self.objective!r}")
        if min(self.mixture) < 0 or not sum(self.mixture):
            raise UserError(f"mixture: expected three weights of 0 or more, not all 0, got {self.mixture}")
        if self.maximum_length < 4:
            raise UserError(f"maximum_length: expected at least 4 tokens, got {self.maximum_length}")
        if min(self.freeze, self.new_words) < 0:
            raise UserError(
                f"freeze and new_words: expected 0 or more, got {self.freeze} and {self.new_words}"
            )
        tricks_named(self.tricks)
        if (self.new_words or self.freeze) and not self.start_from:
            raise UserError("new_words and freeze are for a pretrained model; name one (--start-from)")

    @property
    def usual_sizes(self) -> Sizes:
        """As of every task on text, but of four wider layers with GELU. 默认尺寸：四层，GELU。"""
        return Sizes(intermediate_size=1024, activation="gelu").over(WIDER)

    def check_start(self, config: ModelConfig) -> None:
        """As every recipe's, and for the width of the embedding."""
        super().check_start(config)
        if self.embedding_size not in (None, config.embedding_width):
            check_kept(self.start_from, {"embedding_size": self.embedding_size}, config)

    def check_together(self) -> None:
        """Raises UserError for a head that must stop, and for tea_forn, where not all is written from left to right.

        检查终止层与 TeaForN 是否与训练目标相容。

        Asked when training begins, for choices are set one after the other.
        """
        if self.stop.chosen and self.objective != "lm":
            raise UserError(f"stop.kind: a head that must stop needs objective=lm, got {self.objective}")
        masks = self.objective == "mlm" or (self.objective == "unilm" and self.mixture[0] > 0)
        if masks and any(word.partition(":")[0] == "tea_forn" for word in self.tricks):
            raise UserError(
                "trick tea_forn: hidden tokens have no place before them that predicts them; use it with objective=lm, "
                "or with objective=unilm and no masked rows (--set mixture=0,1,1)"
            )

    @property
    def application(self) -> str:
        """Who sees whom in the model. 模型的应用方式。"""
        return APPLICATIONS[self.objective]
