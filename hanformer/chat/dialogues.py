"""Dialogues as ids, kept compactly, and packed into batches that predict their replies."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from random import Random

import torch

from hanformer.chat.layouts import DialogueLayout, Laid, turns_that_fit
from hanformer.data.dialogues import Dialogue
from hanformer.data.sequences import SequenceBatch
from hanformer.nn.functional.packing import Layout
from hanformer.text.protocols import Tokenizer

#: What is learned -> the first turn that is, of a dialogue of so many turns.
_FIRST_LEARNED: dict[str, Callable[[int], int]] = {
    "all": lambda turns: 0,
    "replies": lambda turns: 1,
    "last": lambda turns: turns - 1,
}


def utterance_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of an utterance. A special token that someone wrote into the text is left out: it would be a border.

    一句话的编号；文本中出现的特殊词元会被去掉，以免破坏边界。
    """
    vocabulary = tokenizer.vocabulary
    unknown = vocabulary.specials.unk
    signs = {vocabulary.ids[token] for token in vocabulary.atomic if token != unknown}
    return [token for token in tokenizer.encode(text, special_tokens=False).ids if token not in signs]


class EncodedDialogues:
    """Dialogues as ids in flat arrays, and the examples that are made of them.

    以紧凑数组保存的对话。

    Of a dialogue, the turns that fit into `longest` tokens are kept; one that keeps fewer than two (an utterance
    and its reply), or has a turn without tokens among them, is left out, and `left_out` counts it. With a layout that
    closes only the last turn, every reply that is learned makes an example of its own.
    """

    def __init__(self, layout: DialogueLayout, learn: str, longest: int) -> None:
        self.layout, self.learn, self.longest = layout, learn, longest
        self.left_out = 0
        self._ids, self._ends = array("i"), array("q", [0])
        self._first_turn, self._turns = array("q"), array("i")

    @classmethod
    def of(
        cls,
        dialogues: Iterable[Dialogue],
        tokenizer: Tokenizer,
        layout: DialogueLayout,
        *,
        learn: str = "replies",
        longest: int,
    ) -> EncodedDialogues:
        """Encodes texts. 编码对话。"""
        encoded = cls(layout, learn, longest)
        for turns in dialogues:
            encoded._add([utterance_ids(tokenizer, turn) for turn in turns])
        return encoded

    def _add(self, turns: Sequence[Sequence[int]]) -> None:
        kept = turns[: turns_that_fit([len(turn) for turn in turns], self.layout, self.longest)]
        if len(kept) < 2 or not all(kept):
            self.left_out += 1
            return
        first = len(self._ends) - 1
        for turn in kept:
            self._ids.extend(turn)
            self._ends.append(len(self._ids))
        apart = self.learn == "replies" and not self.layout.ends_every_turn
        for count in range(2, len(kept) + 1) if apart else (len(kept),):
            self._first_turn.append(first)
            self._turns.append(count)

    def __len__(self) -> int:
        return len(self._turns)

    def turns(self, index: int) -> list[list[int]]:
        """The turns of an example. 某个样本的各轮。"""
        first = self._first_turn[index]
        ends = self._ends[first : first + self._turns[index] + 1]
        return [self._ids[start:end].tolist() for start, end in pairwise(ends)]

    def lengths(self) -> list[int]:
        """Tokens that the model reads of each example: the last one is predicted and never read. 每个样本的词元数。"""
        return [
            self._ends[first + turns] - self._ends[first] + turns + self.layout.opening - 1
            for first, turns in zip(self._first_turn, self._turns, strict=True)
        ]

    def collate(self, indices: Sequence[int], random: Random) -> SequenceBatch:
        """The batch of these examples; nothing is drawn. 组批。"""
        learn = "last" if not self.layout.ends_every_turn else self.learn
        return join_dialogues([self.layout.lay(self.turns(index)) for index in indices], learn)


def join_dialogues(dialogues: Sequence[Laid], learn: str) -> SequenceBatch:
    """Packs dialogues without their last token; every learned token is predicted from the one before it.

    打包对话；需要学习的词元由其前一词元预测。
    """
    ids: list[int] = []
    segments: list[int] = []
    predictors: list[int] = []
    labels: list[int] = []
    for laid in dialogues:
        first = _FIRST_LEARNED[learn](laid.owners[-1] + 1)
        places = [place for place, owner in enumerate(laid.owners) if owner >= first]
        predictors.extend(len(ids) + place - 1 for place in places)
        labels.extend(laid.ids[place] for place in places)
        ids.extend(laid.ids[:-1])
        segments.extend(laid.segments[:-1])
    layout = Layout.of([len(laid.ids) - 1 for laid in dialogues], torch.tensor(segments))
    return SequenceBatch(torch.tensor(ids), layout, torch.tensor(predictors), torch.tensor(labels))
