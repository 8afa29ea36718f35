"""Which tokens a masked language model hides, drawn anew for every batch."""

from __future__ import annotations

import numpy as np

from hanformer.tasks.pretrain.recipe import MaskOptions
from hanformer.text.vocabulary import Vocabulary


class Masker:
    """Hides whole words of packed rows: a share of the words, each of whose tokens is masked, replaced or kept.

    整词掩码：按词选中，词内各词元分别以 80/10/10 处理（默认）。

    `kept_ids` are never chosen nor put in another's place: special tokens. Source: Devlin et al., arXiv 1810.04805;
    whole words: Cui et al., arXiv 1906.08101.
    """

    def __init__(
        self, options: MaskOptions, vocabulary: int, mask_id: int, kept_ids: tuple[int, ...]
    ) -> None:
        self.options, self.mask_id = options, mask_id
        self._kept = np.isin(np.arange(vocabulary), np.asarray(kept_ids))
        self._others = np.flatnonzero(~self._kept)

    @classmethod
    def of(cls, options: MaskOptions, vocabulary: Vocabulary) -> Masker:
        """The masker of a vocabulary; raises UserError where it has no mask token. 按词表建立。"""
        return cls(options, len(vocabulary), vocabulary.mask_id, special_ids(vocabulary))

    def hide(
        self, ids: np.ndarray, begins: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids [N] as the model reads them, and the places [M] whose token it should say; one at least.

        输入编号与需要预测的位置。
        """
        places = self._choose(ids, begins, generator)
        shown = ids.copy()
        fate = generator.random(len(places))
        options = self.options
        shown[places[fate < options.masked]] = self.mask_id
        replaced = places[(fate >= options.masked) & (fate < options.masked + options.random)]
        shown[replaced] = generator.choice(self._others, len(replaced))
        return shown, places

    def _choose(self, ids: np.ndarray, begins: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        word = np.cumsum(begins)
        drawn = generator.random(int(word[-1]) + 1)
        open_to_choice = ~self._kept[ids]
        chosen = (drawn < self.options.rate)[word] & open_to_choice
        if not chosen.any() and open_to_choice.any():
            chosen = (word == generator.choice(word[open_to_choice])) & open_to_choice
        return np.flatnonzero(chosen)


def special_ids(vocabulary: Vocabulary) -> tuple[int, ...]:
    """The ids of special and added tokens, which stand for no text. 特殊词元的编号。"""
    return tuple(vocabulary.ids[token] for token in vocabulary.atomic)
