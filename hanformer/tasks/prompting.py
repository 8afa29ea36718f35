"""Prompts as a model reads them: framed by what it is for, cut to what it can hold.

提示的编码：按模型用途加框，并检查长度。
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hanformer.errors import UserError
from hanformer.models.belonging import check_vocabulary
from hanformer.models.encoder_decoder import EncoderDecoder
from hanformer.models.loading import Model
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.text.protocols import Tokenizer
from hanformer.text.vocabulary import Vocabulary

#: Tokens that end a document where the vocabulary has them, before its closing token (CPM).
_ENDS: Final = ("<eod>",)


def check_generates(model: object) -> None:
    """Raises UserError for a model that cannot write text. 拒绝不能生成文本的模型。"""
    if not isinstance(model, Model):
        raise UserError(f"expected a model that `load` gives, got {type(model).__name__}")
    if isinstance(model, EncoderDecoder):
        return
    if model.config.application == "encoder":
        raise UserError(
            "this model is an encoder and does not generate: load one that was trained to, with "
            'application="lm" (left to right) or "unilm" (source, then target); on the command line --application'
        )
    if "lm" not in model.heads:
        raise UserError('this model has no vocabulary head: load it with heads=("lm",)')


def end_of(vocabulary: Vocabulary, named: str | None = None) -> int:
    """The id of the end token: the one named, else the end of a document, else the closing token.

    结束符编号：指定者优先，其次文档结束符，再次句尾符。

    Raises UserError where the vocabulary has none.
    """
    if named is not None:
        return token_id(vocabulary, named, "end")
    closing = vocabulary.specials.sep
    for token in (*_ENDS, *([] if closing is None else [closing])):
        if token in vocabulary:
            return vocabulary[token]
    raise UserError("this vocabulary has no end token of its own: name one (end=, on the command line --end)")


def token_id(vocabulary: Vocabulary, token: str, option: str) -> int:
    """The id of a token as the vocabulary writes it; raises UserError naming the option. 词元编号。"""
    if token not in vocabulary:
        raise UserError(f"{option}: {token!r} is no token of the vocabulary; write it as the vocabulary does")
    return vocabulary[token]


@dataclass(frozen=True)
class Prompter:
    """Texts to the ids that a model continues.

    把文本编码为模型可续写的提示。

    A language model reads the text with what opens a text in its vocabulary ([CLS] of BERT's, <s> of Llama's, nothing
    of GPT-2's); UniLM reads [CLS] text [SEP] as segment 0, an encoder-decoder its framed source. With `frame` "bare"
    nothing is put around the text. It may be empty where the options name a condition: what is around it is read then.
    Raises UserError where model and tokenizer do not belong together.
    """

    model: Model
    tokenizer: Tokenizer
    options: GenerationOptions

    def __post_init__(self) -> None:
        check_generates(self.model)
        check_vocabulary(self.model.config, self.tokenizer)

    @property
    def continues(self) -> bool:
        """Whether the new text goes on where the prompt ends."""
        return not isinstance(self.model, EncoderDecoder) and self.model.config.application == "lm"

    def __call__(self, text: str) -> list[int]:
        """The ids of a prompt. Raises UserError for an empty one, and for one that is too long."""
        if not isinstance(text, str):
            raise UserError(f"expected a text as prompt, got {type(text).__name__}")
        if not text.strip() and self.options.condition is None:
            raise UserError("the prompt is empty: write some text")
        ids = self.held(text)
        if not ids:
            raise UserError(f"the prompt {text[:40]!r} has no tokens: write some other text")
        return ids

    def held(self, text: str) -> list[int]:
        """The ids in their frame, cut where `prompt_length` says so. Raises UserError where the model has no room."""
        ids = self._cut(self.framed(text))
        self._check_room(len(ids))
        return ids

    def framed(self, text: str) -> list[int]:
        """The ids with what stands around them."""
        ids = self.tokenizer.encode(text, special_tokens=self.options.frame == "auto").ids
        closing = self.tokenizer.vocabulary.specials.sep
        ends = closing is not None and ids and ids[-1] == self.tokenizer.vocabulary.ids.get(closing)
        return ids[:-1] if self.continues and self.options.frame == "auto" and ends else ids

    def bare(self, text: str) -> list[int]:
        """The ids of the text alone."""
        return self.tokenizer.encode(text, special_tokens=False).ids

    def _cut(self, ids: list[int]) -> list[int]:
        """The last tokens of what is continued, the first ones of a source (its closing token stays)."""
        longest = self.options.prompt_length
        if longest is None or len(ids) <= longest:
            return ids
        return ids[-longest:] if self.continues else [*ids[: longest - 1], ids[-1]]

    def _check_room(self, length: int) -> None:
        places = positions(self.model)
        if places is None:
            return
        new = self.options.maximum_length
        apart = isinstance(self.model, EncoderDecoder)
        needed = max(length, new) if apart else length + new - 1
        if needed > places:
            raise UserError(
                f"a prompt of {length} tokens and {new} new ones need {needed} positions, the model has {places}: "
                "shorten the prompt (prompt_length cuts it), or lower maximum_length"
            )


def positions(model: Model) -> int | None:
    """How many positions the model has; None where any number will do. 模型的位置数，无上限则为 None。"""
    if model.config.position != "learned":
        return None
    count = model.config.max_positions
    return count if model.config.hierarchical_positions is None else count * count


def distinct(sequences: Sequence[Sequence[int]]) -> list[list[int]]:
    """The sequences that are not empty, each once. 去重并去空。"""
    return [list(each) for each in dict.fromkeys(map(tuple, sequences)) if each]
