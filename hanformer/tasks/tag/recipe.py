"""All choices of a tagging run."""

from __future__ import annotations

from dataclasses import dataclass, field

from hanformer.errors import UserError
from hanformer.tasks.tag.cutting import UNITS
from hanformer.tasks.tag.heads import CHAINS, HEADS, POINTERS
from hanformer.tasks.tag.labels import LETTERS
from hanformer.tasks.tag.reading import FORMS, JOINS, SCHEMES, Reading
from hanformer.tasks.text_recipe import TextRecipe, VocabularyOptions
from hanformer.train.options import TrainOptions
from hanformer.train.sizes import Sizes
from hanformer.train.tricks import tricks_named

CLASS_WEIGHTS = ("none", "balanced")
_ONE_ANSWER = ("mixup", "tea_forn")
_DISTRIBUTIONS = ("r_drop", "vat", "noise_penalty")


@dataclass(frozen=True)
class TagRecipe(TextRecipe):
    """Choices of tagging, beside those of every task on text.

    序列标注任务的选项。

    `scheme`: segmentation (words) or entities; `head`: softmax, crf, memm, global_pointer or efficient_global_pointer,
    the last two of which find nested entities too. `labels` (bio or bmes) are those of chains over entities; words
    are always bmes. `unit`: characters, one token each, or pieces of the tokenizer. Texts longer than `maximum_length`
    are read in windows that share `overlap` tokens. `transition_rate`: how many times as fast as the rest the
    transitions of crf and memm learn (10 from scratch, 100 to 1000 over a pretrained model); `head_size` of pointers.
    `class_weights` none or balanced (labels of softmax and memm, kinds of pointers); `freeze` that many of the lowest
    layers, and the embeddings. `form` and `join` as `reading.Reading` has them; `limit` takes that many texts of the
    training set, drawn by the seed (0: all).
    """

    scheme: str = "segmentation"
    head: str = "crf"
    labels: str = "bio"
    unit: str = "characters"
    overlap: int = 64
    transition_rate: float = 10.0
    head_size: int = 64
    class_weights: str = "none"
    freeze: int = 0
    form: str = "auto"
    join: str = "nothing"
    limit: int = 0
    token_budget: int = 2048
    vocabulary: VocabularyOptions = field(default_factory=lambda: VocabularyOptions("characters", 8000))
    sizes: Sizes = field(default_factory=Sizes)
    train: TrainOptions = field(
        default_factory=lambda: TrainOptions(
            epochs=10,
            learning_rate=2e-3,
            warm_up=100,
            average="ema",
            average_decay=0.99,
            best_by="f1",
            higher_is_better=True,
        )
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_words()
        self._check_numbers()
        tricks_named(self.tricks)
        self._check_tricks()
        if self.class_weights != "none" and self.head == "crf":
            raise UserError(
                "class_weights: a CRF weighs whole paths and knows none; use softmax or memm with them"
            )

    def _check_words(self) -> None:
        known = {
            "scheme": SCHEMES,
            "head": HEADS,
            "labels": tuple(LETTERS),
            "unit": UNITS,
            "class_weights": CLASS_WEIGHTS,
            "form": FORMS,
            "join": tuple(JOINS),
        }
        for name, words in known.items():
            if getattr(self, name) not in words:
                raise UserError(f"{name}: expected one of {', '.join(words)}, got {getattr(self, name)!r}")

    def _check_numbers(self) -> None:
        if self.maximum_length > self.token_budget:
            raise UserError(
                f"maximum_length is {self.maximum_length}, and a batch holds {self.token_budget} tokens; "
                "lower it, or raise token_budget"
            )
        if not 0 <= self.overlap < self.maximum_length - 2:
            raise UserError(
                f"overlap: expected 0 to {self.maximum_length - 3} tokens, fewer than a window of "
                f"{self.maximum_length} holds, got {self.overlap}"
            )
        if self.limit < 0 or self.freeze < 0 or self.head_size < 2 or not self.transition_rate > 0:
            raise UserError(
                "expected limit and freeze of at least 0, head_size of at least 2 and a transition_rate above 0, "
                f"got {self.limit}, {self.freeze}, {self.head_size} and {self.transition_rate}"
            )

    def _check_tricks(self) -> None:
        for word in self.tricks:
            name = word.partition(":")[0]
            if name in _ONE_ANSWER:
                raise UserError(
                    f"trick {name}: tagging has an answer for every token, and {name} wants one a text"
                )
            if name in _DISTRIBUTIONS and self.head in POINTERS:
                raise UserError(
                    f"trick {name} compares distributions of labels, which {', '.join(CHAINS)} have; "
                    f"{self.head} has none"
                )

    @property
    def reading(self) -> Reading:
        """How the files of this run are read."""
        return Reading(self.scheme, self.form, self.join)
