"""What all tasks on text share: the recipe, and how its tokenizer and its Transformer are made or opened."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, TypeVar

import torch

from hanformer.errors import UserError
from hanformer.models import Transformer, build, load
from hanformer.models.belonging import check_vocabulary
from hanformer.models.checkpoint import open_checkpoint
from hanformer.models.loading import skeleton
from hanformer.models.token_rows import Compound
from hanformer.records import assign, full_name
from hanformer.text.cutting import CONTINUATION
from hanformer.text.load import load_tokenizer
from hanformer.text.pieces import frequent_characters, train_pieces
from hanformer.text.protocols import Tokenizer
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer
from hanformer.train.optimizer import rule_named
from hanformer.train.options import TrainOptions, named_ends
from hanformer.train.sizes import ShapedRecipe
from hanformer.train.theseus import Theseus

_FIRST_WIDE = 0x2E80
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
KINDS = ("characters", "pieces")
#: Channels of a model from which on a rate above the second number is too high to go on with its weights.
_LARGE, _HIGH_RATE = 512, 2e-4
#: A model that has learned conditions goes on without them, unless the task gives it some.
_UNCONDITIONED: Final[Mapping[str, Any]] = MappingProxyType({"conditions": (), "condition_size": None})

RecipeT = TypeVar("RecipeT", bound="TextRecipe")


@dataclass(frozen=True)
class VocabularyOptions:
    """The vocabulary that is learned from the training texts where no pretrained model brings one.

    从训练文本学习的词表。

    `kind`: characters (WordPiece without joined pieces), or pieces (byte pair encoding over characters); `size` bounds
    it, special tokens included, and not the forms of letters and digits inside words, which characters have beside;
    `minimum_count` is how often a character must be seen.
    """

    kind: str = "characters"
    size: int = 8000
    minimum_count: int = 2

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"vocabulary.kind: expected {' or '.join(KINDS)}, got {self.kind!r}")
        if self.size < len(SPECIALS) + 1:
            raise UserError(f"vocabulary.size: expected at least {len(SPECIALS) + 1}, got {self.size}")


#: Fields of these may be named without the group.
_GROUPS = ("sizes", "train", "vocabulary")


@dataclass(frozen=True)
class TextRecipe(ShapedRecipe):
    """All choices of one training run on text; a task's recipe adds its own.

    文本任务一次训练的全部选择；各任务在此基础上增加自己的选项。

    `start_from` names a pretrained model to fine-tune, with its tokenizer beside it (empty: from scratch, by
    `sizes` and `vocabulary`); `sizes.attention` replaces its mechanism, `sizes.dropout` its dropout.
    `maximum_length` counts tokens, special ones included; `token_budget` is the most tokens of a batch; `optimizer`
    a rule of `train.optimizer`; `tricks` wrap the objective, the first word outermost (`train.tricks`);
    `theseus.layers` new layers take the place of those of `start_from`, a run of the same task, by a training of
    their own before this one (`train.theseus`); `valid` is how many rows are held out to choose by where the data
    has no validation set and `valid_file`, which takes its place, names none.
    """

    vocabulary: VocabularyOptions = field(default_factory=VocabularyOptions)
    train: TrainOptions = field(default_factory=lambda: TrainOptions(epochs=10))
    optimizer: str = "adamw"
    tricks: tuple[str, ...] = ()
    theseus: Theseus = field(default_factory=Theseus)
    token_budget: int = 4096
    maximum_length: int = 256
    valid: int = 1000
    valid_file: str = ""

    def __post_init__(self) -> None:
        for name in ("token_budget", "maximum_length", "valid"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: expected at least 1, got {getattr(self, name)}")
        rule_named(self.optimizer)
        if self.theseus.layers and not self.start_from:
            raise UserError(
                "theseus replaces the layers of a trained model: name a run of this task (start_from)"
            )

    def check_head(self, known: bool) -> None:
        """Raises UserError where layers of a model are to be replaced whose head is not known.

        层替换要求起点带有同样的输出层。
        """
        if self.theseus.layers and not known:
            raise UserError(
                f"{self.start_from}: theseus replaces the layers of a run of this task, with its head; expected such a "
                "run, with the same labels"
            )

    @property
    def application(self) -> str:
        """Who sees whom in the model. 模型的应用方式。"""
        return "encoder"

    def check_shape(self) -> None:
        """Raises UserError where no new model has the shape that is asked for: told before data are read.

        检查新模型能否按所选尺寸与机制构建。
        """
        if not self.start_from:
            skeleton(self.shape.config(len(SPECIALS), self.application, max(self.maximum_length, 512)), ())

    @property
    def named_files(self) -> tuple[str, ...]:
        """Files beside the data that a run depends on; empty names are none. 配方中提到的其他文件。"""
        return (self.valid_file,)

    def changed(self: RecipeT, assignments: Mapping[str, str]) -> RecipeT:
        """A copy with fields set by dotted name; `attention` and what only `sizes`, `train` or `vocabulary` have may
        be named without it. Raises UserError for an unknown name or a value of another type.

        按“名称=值”修改配方。
        """
        named = named_ends(assignments)
        return assign(self, {full_name(self, name, _GROUPS): value for name, value in named.items()})


def make_tokenizer(recipe: TextRecipe, texts: Iterable[str], added: Sequence[str] = ()) -> Tokenizer:
    """The tokenizer of the pretrained model, or one learned from the texts; `added` are signs of the task's own.

    预训练模型的分词器，或由训练文本学习的分词器。
    """
    if recipe.start_from:
        return load_tokenizer(recipe.start_from)
    options = recipe.vocabulary
    specials = [*SPECIALS, *added]
    if options.kind == "pieces":
        return train_pieces(texts, options.size, minimum_count=options.minimum_count, specials=specials)
    single = sorted(frequent_characters(texts, options.size - len(specials), options.minimum_count))
    # Words of other scripts are cut into letters; an ideograph always begins a word.
    inner = [f"{CONTINUATION}{token}" for token in single if token.isalnum() and ord(token) < _FIRST_WIDE]
    return WordPieceTokenizer(Vocabulary([*specials, *single, *inner], added=added), lowercase=False)


def make_transformer(
    recipe: TextRecipe,
    tokenizer: Tokenizer,
    application: str,
    heads: Sequence[str],
    changes: Mapping[str, Any] | None = None,
) -> Transformer:
    """The pretrained model of the recipe, opened for the application, or a new one of its sizes.

    打开预训练模型，或按配方尺寸新建。

    Heads that the pretrained checkpoint lacks start anew; conditions that it has learned are left out unless `changes`
    name some. Raises UserError where tokenizer and weights disagree.
    """
    if not recipe.start_from:
        size = len(tokenizer.vocabulary)
        vocabulary = tokenizer.vocabulary
        pad = vocabulary.ids.get(vocabulary.specials.pad or "", None)
        own = {"pad_id": pad, **(changes or {})}
        return build(recipe.shape.config(size, application, max(recipe.maximum_length, 512), own), heads)
    model = open_start(recipe, application, heads, changes)
    check_vocabulary(model.config, tokenizer)
    _warn_of_rate(recipe, model.config.hidden_size)
    return model


def open_start(
    recipe: TextRecipe,
    application: str,
    heads: Sequence[str],
    changes: Mapping[str, Any] | None = None,
    *,
    keep_tokens: Sequence[int] | None = None,
    compound_tokens: Sequence[Compound] = (),
) -> Transformer:
    """The pretrained model that a recipe names, with the mechanism of attention that it names, else with its own.

    打开配方所指的预训练模型；指定了注意力机制则换用，否则保持原样。

    `changes` and tokens as for `load`; errors as of `make_transformer`, and for sizes that are not those of the model.
    """
    recipe.check_start(open_checkpoint(recipe.start_from).config({}))
    model = load(
        recipe.start_from,
        application=application,
        heads=tuple(heads),
        changes={**_UNCONDITIONED, **recipe.sizes.dropouts, **(changes or {})},
        attention=recipe.sizes.attention,
        keep_tokens=keep_tokens,
        compound_tokens=compound_tokens,
        strict=False,
        dtype=torch.float32,  # the weights that learn, whatever the file holds
    )
    if not isinstance(model, Transformer):
        raise UserError(f"{recipe.start_from}: expected a model of one stack, got an encoder and a decoder")
    return model


def _warn_of_rate(recipe: TextRecipe, width: int) -> None:
    """The defaults suit small models: a large one forgets at such rates what it knew."""
    rate = recipe.train.learning_rate
    if recipe.optimizer == "adamw" and width >= _LARGE and rate > _HIGH_RATE:
        warnings.warn(
            f"{recipe.start_from}: learning_rate={rate} is high for a pretrained model of {width} channels; 1e-5 to "
            "5e-5 is usual, as by --set learning_rate=2e-5",
            stacklevel=3,
        )


def with_tricks(recipe: RecipeT, words: Sequence[str]) -> RecipeT:
    """The recipe with these tricks instead of its own, if there are any. 换用指定的训练技巧。"""
    return replace(recipe, tricks=tuple(words)) if words else recipe
