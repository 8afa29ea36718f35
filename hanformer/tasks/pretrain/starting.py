"""The tokenizer and the model that a run begins with: new ones, pretrained ones, or pretrained ones with new words."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable

from hanformer.errors import UserError
from hanformer.models import Transformer
from hanformer.tasks.freezing import freeze_lowest
from hanformer.tasks.pretrain.recipe import PretrainRecipe
from hanformer.tasks.prompting import positions
from hanformer.tasks.text_recipe import (
    SPECIALS,
    VocabularyOptions,
    make_tokenizer,
    make_transformer,
    open_start,
)
from hanformer.text.cutting import CONTINUATION
from hanformer.text.load import load_tokenizer
from hanformer.text.protocols import Tokenizer
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.wobert import count_words, word_vocabulary
from hanformer.text.word_segmentation import segmenter
from hanformer.text.wordpiece import WordPieceTokenizer

_FIRST_WIDE = 0x2E80
_ASCII = string.digits + string.ascii_letters + string.punctuation


def starting_tokenizer(recipe: PretrainRecipe, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer of `start_from`, with the new words that the recipe wants, or one learned from the texts.

    预训练模型的分词器（可加入新词），或由文本学习的分词器。

    Texts are read once and not kept, but for `vocabulary.kind` pieces. Raises UserError where words are to be added and
    no segmenter is installed, or the tokenizer is no WordPiece.
    """
    if recipe.new_words:
        return _with_words(recipe, texts)
    if recipe.start_from or recipe.vocabulary.kind == "pieces":
        return make_tokenizer(recipe, texts)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    return character_tokenizer(counts, recipe.vocabulary)


def character_tokenizer(counts: Counter[str], options: VocabularyOptions) -> WordPieceTokenizer:
    """A WordPiece tokenizer of single characters: the commonest, and always those of ASCII.

    单字词表：取最常见的字；ASCII 字符总在其中。

    Letters and digits of scripts that write words together have a ``##`` form too. Equal counts stand by code point;
    the size bounds the whole list.
    """
    tokens = [*SPECIALS, *_ASCII, *(CONTINUATION + sign for sign in _ASCII if sign.isalnum())]
    known = {*_ASCII, *string.whitespace}
    often = [sign for sign, n in counts.items() if n >= options.minimum_count and sign not in known]
    for sign in sorted(often, key=lambda sign: (-counts[sign], sign)):
        tokens.append(sign)
        if sign.isalnum() and ord(sign) < _FIRST_WIDE:
            tokens.append(CONTINUATION + sign)
    return WordPieceTokenizer(Vocabulary(tokens[: options.size]), lowercase=False)


def _with_words(recipe: PretrainRecipe, texts: Iterable[str]) -> WordPieceTokenizer:
    """WoBERT's: the commonest words of the texts become tokens."""
    base = _wordpiece(recipe.start_from)
    cutter = segmenter()
    lowercase = base.rules.lowercase
    change = word_vocabulary(
        base.vocabulary, count_words(texts, cutter), recipe.new_words, lowercase=lowercase
    )
    return WordPieceTokenizer(change.vocabulary, lowercase, convention=base.convention, segmenter=cutter)


def _wordpiece(path: str) -> WordPieceTokenizer:
    found = load_tokenizer(path)
    if not isinstance(found, WordPieceTokenizer):
        raise UserError(f"{path}: new_words extends a WordPiece vocabulary, this is a {type(found).__name__}")
    return found


def starting_model(recipe: PretrainRecipe, tokenizer: Tokenizer) -> Transformer:
    """A new model for the recipe's objective, or the pretrained one that it names; frozen layers learn nothing.

    新建或打开模型，并冻结指定的层。

    The row of a new word is the mean of the rows of its pieces. Raises UserError where model and tokenizer disagree,
    and where rows would be longer than the model.
    Source: kexue.fm/archives/7758.
    """
    if recipe.new_words:
        model = _with_rows(recipe, tokenizer)
    else:
        changes = {} if recipe.start_from else {"embedding_size": recipe.embedding_size}
        model = make_transformer(recipe, tokenizer, recipe.application, ("lm",), changes)
    places = positions(model)
    if places is not None and recipe.maximum_length > places:
        raise UserError(
            f"{recipe.start_from}: has {places} positions, maximum_length is {recipe.maximum_length}; lower it"
        )
    freeze_lowest(model, recipe.freeze)
    return model


def _with_rows(recipe: PretrainRecipe, tokenizer: Tokenizer) -> Transformer:
    base = _wordpiece(recipe.start_from)
    kept, pieces = word_rows(base, tokenizer.vocabulary)
    return open_start(recipe, recipe.application, ("lm",), keep_tokens=kept, compound_tokens=pieces)


def word_rows(base: WordPieceTokenizer, larger: Vocabulary) -> tuple[list[int], list[list[int]]]:
    """Where the rows of a vocabulary with new words come from: old ids that are kept, and for every new word the
    places of its pieces among them.

    扩充词表各行的来源：保留的旧编号，以及新词各子词的位置。
    """
    kept = [token for token in larger.tokens if token in base.vocabulary]
    reader = WordPieceTokenizer(Vocabulary(kept, larger.specials), base.rules.lowercase)
    words = larger.tokens[len(kept) :]
    return [base.vocabulary[token] for token in kept], [reader.pieces(word).ids for word in words]
