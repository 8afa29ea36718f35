"""Rows made into batches, by the objective: masked, causal, or the mixture of UniLM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch

from hanformer.data.sequences import SequenceBatch
from hanformer.nn.functional.packing import Layout
from hanformer.tasks.pretrain.masking import Masker
from hanformer.tasks.pretrain.recipe import PretrainRecipe
from hanformer.tasks.pretrain.store import TokenStore
from hanformer.text.vocabulary import Vocabulary

#: Ids and word beginnings of one row, without borders.
StoredRow = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Part:
    """One row as the model reads it: ids and segments [n], predicting places in it and their labels [m].

    一行样本：编号、段、预测位置与标签。
    """

    ids: np.ndarray
    segments: np.ndarray
    places: np.ndarray
    labels: np.ndarray


Maker = Callable[[Sequence[StoredRow], np.random.Generator], list[Part]]
"""Makes training rows of stored ones; draws depend on the generator alone. 由存储的行生成训练样本。"""


@dataclass(frozen=True)
class Borders:
    """The ids around a row. 首尾特殊词元的编号。"""

    first: int
    last: int

    def around(self, row: StoredRow) -> StoredRow:
        """[CLS] row [SEP]. 加上首尾。"""
        ids = np.concatenate([[self.first], row[0], [self.last]])
        return ids, np.concatenate([[True], row[1], [True]])


def masked(borders: Borders, masker: Masker) -> Maker:
    """[CLS] row [SEP] with hidden words, each predicted where it stands; all of segment 0. 掩码语言模型。"""

    def make(rows: Sequence[StoredRow], generator: np.random.Generator) -> list[Part]:
        if not rows:
            return []
        framed = [borders.around(row) for row in rows]
        ids, begins = (np.concatenate(column) for column in zip(*framed, strict=True))
        shown, places = masker.hide(ids, begins, generator)
        ends = np.cumsum([len(own) for own, _ in framed])
        found = np.split(places, np.searchsorted(places, ends[:-1]))
        return [
            Part(mine, np.zeros_like(mine), own - (end - len(mine)), ids[own])
            for mine, own, end in zip(np.split(shown, ends[:-1]), found, ends, strict=True)
        ]

    return make


def causal(borders: Borders) -> Maker:
    """[CLS] row, every next token predicted, [SEP] at last; segment 1 after the first token. 因果语言模型。"""

    return lambda rows, _: [_causal(borders, row) for row in rows]


def _causal(borders: Borders, row: StoredRow) -> Part:
    ids, _ = borders.around(row)
    segments = np.ones_like(ids)
    segments[0] = 0
    return Part(ids[:-1], segments[:-1], np.arange(len(ids) - 1), ids[1:])


def split(borders: Borders) -> Maker:
    """[CLS] left [SEP] right, cut before a word: right (segment 1) and [SEP] are predicted from left.

    在词首随机切分：由左半部分预测右半部分。

    A row of one word is causal. Source: UniLM, arXiv 1905.03197.
    """
    return lambda rows, generator: [_split(borders, row, generator) for row in rows]


def _split(borders: Borders, row: StoredRow, generator: np.random.Generator) -> Part:
    inner = np.flatnonzero(row[1][1:]) + 1
    if not len(inner):
        return _causal(borders, row)
    cut = int(generator.choice(inner))
    right = np.append(row[0][cut:], borders.last)
    ids = np.concatenate([[borders.first], row[0][:cut], [borders.last], right])
    source = cut + 2
    segments = (np.arange(len(ids)) >= source).astype(np.int64)
    return Part(ids[:-1], segments[:-1], np.arange(source - 1, len(ids) - 1), right)


@dataclass(frozen=True, eq=False)
class Mixture:
    """Kinds of training rows by name, with their shares; `segments` says whether the model is told of them.

    各类训练样本及其比例。
    """

    makers: dict[str, Maker]
    shares: tuple[float, ...]
    segments: bool

    def only(self, kind: str) -> Mixture:
        """One of the kinds alone. 只取其中一类。"""
        return Mixture({kind: self.makers[kind]}, (1.0,), self.segments)

    def collate(
        self, store: TokenStore, rows: np.ndarray
    ) -> Callable[[Sequence[int], Random], SequenceBatch]:
        """Makes the batch of examples, which are numbers into `rows` of the store. 由存储的行生成批次。"""

        def make(indices: Sequence[int], random: Random) -> SequenceBatch:
            generator = np.random.default_rng(random.getrandbits(128))
            chosen = generator.choice(len(self.makers), len(indices), p=self.shares)
            found = [store[int(rows[index])] for index in indices]
            parts: list[Part] = []
            for kind, maker in enumerate(self.makers.values()):
                own = [row for row, number in zip(found, chosen, strict=True) if number == kind]
                parts.extend(maker(own, generator))
            return pack(parts, segments=self.segments)

        return make


def mixture_of(recipe: PretrainRecipe, vocabulary: Vocabulary) -> Mixture:
    """What the recipe's objective trains on: mlm, lm, or the three kinds of UniLM.

    配方目标对应的样本混合。

    Raises UserError where the vocabulary lacks a special token that is needed.
    """
    borders = Borders(vocabulary.cls_id, vocabulary.sep_id)
    weights = {"mlm": (1.0, 0.0, 0.0), "lm": (0.0, 1.0, 0.0)}.get(recipe.objective, recipe.mixture)
    kinds: dict[str, Callable[[], Maker]] = {
        "mlm": lambda: masked(borders, Masker.of(recipe.mask, vocabulary)),
        "lm": lambda: causal(borders),
        "seq2seq": lambda: split(borders),
    }
    chosen = {kind: weight for kind, weight in zip(kinds, weights, strict=True) if weight}
    shares = tuple(weight / sum(chosen.values()) for weight in chosen.values())
    return Mixture({kind: kinds[kind]() for kind in chosen}, shares, recipe.objective == "unilm")


def pack(parts: Sequence[Part], *, segments: bool) -> SequenceBatch:
    """Parts end to end; without `segments` all are of segment 0. 打包各行。"""
    lengths = [len(part.ids) for part in parts]
    starts = np.cumsum([0, *lengths[:-1]])
    places = [part.places + start for part, start in zip(parts, starts, strict=True)]
    return SequenceBatch(
        torch.from_numpy(np.concatenate([part.ids for part in parts])),
        Layout.of(
            lengths, torch.from_numpy(np.concatenate([part.segments for part in parts])) if segments else None
        ),
        torch.from_numpy(np.concatenate(places)),
        torch.from_numpy(np.concatenate([part.labels for part in parts])),
    )
