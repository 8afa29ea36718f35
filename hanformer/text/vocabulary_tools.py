"""Smaller and larger vocabularies for a model that is already trained, with the rows that its embedding keeps.

为已训练的模型缩减或扩充词表，并给出嵌入矩阵的对应行。

    new embedding = concat(old[keep_tokens], [mean(old[keep_tokens][group]) for group in compound_tokens])

The averaging itself is the loader's of the model. Names as in bert4keras: `keep_tokens` are ids of the old
vocabulary, `compound_tokens` are ids of the kept one, which come first in the new vocabulary, in order.

Source: `load_vocab` and `basic_make_uncased_model_cased.py` of bert4keras 0.11.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from hanformer.errors import UserError
from hanformer.text.bert4keras_rules import is_chinese, is_punctuation
from hanformer.text.cutting import CONTINUATION
from hanformer.text.vocabulary import Vocabulary

FIRST: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""What a simplified vocabulary begins with. 精简词表开头的词元。"""

_GEORGIAN: Final = frozenset(map(chr, range(0x1C90, 0x1CC0)))


@dataclass(frozen=True, slots=True)
class VocabularyChange:
    """A new vocabulary, and where each of its rows comes from. 新词表及各行的来源。

    Token i < len(keep_tokens) has the row of old id `keep_tokens[i]`; those after have, in order, the mean of
    the new rows that `compound_tokens` names.
    """

    vocabulary: Vocabulary
    keep_tokens: tuple[int, ...]
    compound_tokens: tuple[tuple[int, ...], ...] = ()


def is_redundant(token: str) -> bool:
    """Whether a token of several characters holds, beside ``##``, an ideograph or a sign: ``##中``, ``...``.

    是否冗余：去掉 ``##`` 后含汉字或标点的多字符词元；中文逐字切分后用不到。
    """
    if len(token) < 2:
        return False
    stem = token.removeprefix(CONTINUATION)
    return any(is_chinese(character) or is_punctuation(character) for character in stem)


def simplified(vocabulary: Vocabulary, first: Sequence[str] = FIRST) -> VocabularyChange:
    """The vocabulary without redundant tokens; `first` come first, whatever they are.

    精简词表：去掉冗余词元，`first` 中的词元排在最前。

    Added tokens of the vocabulary are kept as well.
    Raises: UserError where a token of `first` is missing, or the unknown token would be left out.
    """
    fixed = dict.fromkeys(first)
    added = frozenset(vocabulary.added)
    rest = (
        token
        for token in vocabulary.tokens
        if token not in fixed and (token in added or not is_redundant(token))
    )
    keep = [vocabulary[token] for token in [*fixed, *rest]]
    tokens = [vocabulary.tokens[number] for number in keep]
    return VocabularyChange(Vocabulary(tokens, vocabulary.specials, vocabulary.added), tuple(keep))


def extended(
    vocabulary: Vocabulary, tokens: Iterable[str], pieces_of: Callable[[str], Sequence[int]]
) -> VocabularyChange:
    """The vocabulary with new tokens, each the mean of the old ids that `pieces_of` gives for it.

    扩充词表：每个新词元由 `pieces_of` 给出的旧编号取平均。

    Tokens that are there already, and repetitions, are passed over.
    Raises: UserError where a token has no pieces, or one out of range.
    """
    new = [token for token in dict.fromkeys(tokens) if token not in vocabulary]
    groups = tuple(tuple(pieces_of(token)) for token in new)
    for token, group in zip(new, groups, strict=True):
        if not group or not all(0 <= number < len(vocabulary) for number in group):
            raise UserError(
                f"new token {token!r} has the pieces {list(group)[:10]}, expected at least one id, and each "
                f"below {len(vocabulary)}; leave the token out, or give its pieces otherwise"
            )
    larger = Vocabulary([*vocabulary.tokens, *new], vocabulary.specials, vocabulary.added)
    return VocabularyChange(larger, tuple(range(len(vocabulary))), groups)


def cased(vocabulary: Vocabulary) -> VocabularyChange:
    """An uncased vocabulary made cased: ``Welcome`` and ``WELCOME`` with the row of ``welcome``.

    使不区分大小写的词表能区分大小写：补上首字母大写与全大写的词元，嵌入取自小写词元。

    Every token of letters gives both forms, every ``##`` piece of letters the capitals alone; Georgian, whose
    capitals Unicode has since version 11 and no sentence begins with, gives none. Use it with a tokenizer that
    does not lower.
    """
    sources: dict[str, int] = {}
    for token, number in vocabulary.ids.items():
        for form in _capitals(token):
            if form not in vocabulary:
                sources.setdefault(form, number)
    return extended(vocabulary, sources, lambda form: (sources[form],))


def _capitals(token: str) -> Iterator[str]:
    stem = token.removeprefix(CONTINUATION)
    upper = token.upper()
    if not stem.isalpha() or not _GEORGIAN.isdisjoint(upper):
        return
    if stem == token:
        yield token[:1].upper() + token[1:]
    yield upper
