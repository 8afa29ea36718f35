"""Two toolkits, one vocabulary: what the `tokenizers` library and bert4keras do differently.

同一词表下两套工具的差别：以 `Convention` 记录表示。
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from hanformer.errors import UserError
from hanformer.text import basic, bert4keras_rules, joining, protocols
from hanformer.text.basic import BasicRules, Placed, Word


@dataclass(frozen=True, slots=True)
class Convention:
    """The steps in which toolkits differ. 各工具不同的步骤。

    `prepare` changes a text character by character, so that no later step looks beyond a word; `normalise`
    gives its characters with their places; `split` cuts these into words. `pair_lengths` says how many tokens
    of a pair are kept in a room; `join` makes text of tokens. `longest_word` is the default bound of a word,
    `reads_specials` whether ``[SEP]`` in a text is the special token, `keeps_unknown_text` whether the tokens
    of an encoding show an unknown word instead of ``[UNK]`` (ids are the same).
    """

    name: str
    prepare: Callable[[str, BasicRules], str]
    normalise: Callable[[str, BasicRules], list[Placed]]
    split: Callable[[Iterable[Placed], BasicRules], Iterable[Word]]
    pair_lengths: Callable[[int, int, int], tuple[int, int]]
    join: Callable[[Iterable[str]], str]
    longest_word: int
    reads_specials: bool
    keeps_unknown_text: bool

    def words(self, text: str, rules: BasicRules) -> Iterable[Word]:
        """The words of a prepared text. 切出的词。"""
        return self.split(self.normalise(text, rules), rules)


def _unchanged(text: str, rules: BasicRules) -> str:
    return text


TRANSFORMERS: Final = Convention(
    name="transformers",
    prepare=_unchanged,
    normalise=basic.normalise,
    split=basic.split,
    pair_lengths=protocols.pair_lengths,
    join=joining.join,
    longest_word=100,
    reads_specials=True,
    keeps_unknown_text=False,
)
"""As the fast tokenizers of transformers do; only joining is our own. 与 transformers 的快速分词器一致。"""

BERT4KERAS: Final = Convention(
    name="bert4keras",
    prepare=bert4keras_rules.prepare,
    normalise=bert4keras_rules.normalise,
    split=bert4keras_rules.split,
    pair_lengths=bert4keras_rules.pair_lengths,
    join=bert4keras_rules.join,
    longest_word=bert4keras_rules.LONGEST_WORD,
    reads_specials=False,
    keeps_unknown_text=True,
)
"""As bert4keras 0.11.5 does. 与 bert4keras 一致。"""

_ALL: Final = {convention.name: convention for convention in (TRANSFORMERS, BERT4KERAS)}


def named(name: str) -> Convention:
    """The convention of a name. Raises: UserError for another name than transformers or bert4keras. 按名取规则。"""
    if name not in _ALL:
        raise UserError(f"convention: expected one of {', '.join(_ALL)}, got {name!r}")
    return _ALL[name]
