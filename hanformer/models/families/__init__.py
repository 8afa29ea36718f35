"""The families: one file each. `family_of` finds one by any of its words."""

from __future__ import annotations

from difflib import get_close_matches

from hanformer.errors import UserError
from hanformer.models.families import albert, bert, electra, gpt, gpt2, llama, nezha, roberta, roformer, t5
from hanformer.models.families.family import Family, Names, Raw

#: Asked in this order which of them recognises a checkpoint.
FAMILIES: tuple[Family, ...] = (
    albert.FAMILY,
    albert.UNSHARED,
    electra.FAMILY,
    electra.GENERATOR,
    gpt2.GPT2_ML,
    gpt2.FAMILY,
    gpt2.CPM,
    gpt.FAMILY,
    t5.MT5,
    t5.T5_FIRST,
    t5.T5_SECOND,
    llama.FAMILY,
    roberta.FAMILY,
    nezha.FAMILY,
    roformer.FAMILY,
    roformer.SECOND,
    bert.FAMILY,
    bert.SIMBERT,
)
_BY_WORD = {word: family for family in FAMILIES for word in (family.name, *family.words)}


def family_of(word: str) -> Family:
    """The family of a name: ours, bert4keras' model word, or transformers' model type.

    按名称取家族。

    Raises UserError for an unknown one.
    """
    if word in _BY_WORD:
        return _BY_WORD[word]
    near = get_close_matches(str(word), _BY_WORD, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(f"family: unknown name {word!r}; there are {', '.join(_BY_WORD)}{hint}")


#: Model types of transformers that stand for more than one family here.
_SEVERAL = ("t5", "electra", "roberta")


def recognise(names: Names, raw: Raw) -> Family | None:
    """The family of a checkpoint, by its config's model type, else by its names; None where neither tells, and for a
    model type of others, which may compute otherwise with the same names.

    由配置与名称识别家族。
    """
    word = raw.get("model_type")
    if foreign_type(raw) is not None:
        return None
    if isinstance(word, str) and word in _BY_WORD and word not in _SEVERAL:
        return _BY_WORD[word]
    return resembles(names, raw)


def resembles(names: Names, raw: Raw) -> Family | None:
    """The first family that recognises its names, whatever the model type. 仅按名称识别。"""
    return next((family for family in FAMILIES if family.recognises(names, raw)), None)


def foreign_type(raw: Raw) -> str | None:
    """The model type of a config where no family has that word, else None. 未知的 model_type。"""
    word = raw.get("model_type")
    return word if isinstance(word, str) and word and word not in _BY_WORD else None


__all__ = ["FAMILIES", "Family", "family_of", "foreign_type", "recognise", "resembles"]
