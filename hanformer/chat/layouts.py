"""How turns stand in one sequence: with alternating segments (NEZHA), or behind tokens that name the speaker.

多轮对话如何排成一个序列：交替的段编号（NEZHA），或说话人标记（CDial-GPT）。
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from hanformer.errors import UserError
from hanformer.text.vocabulary import Vocabulary

Turn = Sequence[int]
"""The ids of one utterance, nothing around them. 一句话的编号，不含边界符。"""

BORDER: Final = -1
"""The owner of tokens that belong to no turn. 不属于任何一轮的词元。"""
SPEAKERS: Final = ("[speaker1]", "[speaker2]")


@dataclass(frozen=True)
class Laid:
    """A dialogue as a model reads it: `owners[i]` is the turn that token i is part of, its end included.

    排好的对话：编号、段，以及每个词元属于第几轮。
    """

    ids: tuple[int, ...]
    segments: tuple[int, ...]
    owners: tuple[int, ...]


@dataclass(frozen=True)
class Prompt:
    """What stands before a reply, and the segment of the reply's own tokens. 回复之前的内容与回复的段编号。"""

    ids: tuple[int, ...]
    segments: tuple[int, ...]
    reply_segment: int


class DialogueLayout(Protocol):
    """Turns to ids and segments; turn k is said by the speaker k mod 2. 对话布局协议。"""

    @property
    def opening(self) -> int:
        """How many tokens stand in a prompt beside the turns and one border each."""
        ...

    @property
    def ends_every_turn(self) -> bool:
        """Whether every turn is closed as a reply is, so that all replies can be learned in one pass."""
        ...

    def lay(self, turns: Sequence[Turn]) -> Laid:
        """A whole dialogue, its last turn closed."""
        ...

    def prompt(self, turns: Sequence[Turn], first: int = 0) -> Prompt:
        """Turns that a reply follows; they are the turns `first`, `first` + 1, ... of their conversation."""
        ...


@dataclass(frozen=True)
class Alternating:
    """[CLS] u1 [SEP] u2 [SEP] u3 [SEP] ..., the segment being the number of the turn mod 2.

    交替段布局：段编号为轮次的奇偶。

        ids   [CLS] u1 [SEP] u2 [SEP] u3 [SEP]
        segs    0    0   0    1   1    0   0

    The parity of a turn is that in its whole conversation, so that a reply has the segment which the turn before it
    has not, however much of the history was left out. Source: kexue.fm/archives/7718.
    """

    cls_id: int
    sep_id: int

    @property
    def opening(self) -> int:
        """[CLS]."""
        return 1

    @property
    def ends_every_turn(self) -> bool:
        """Yes: by [SEP]."""
        return True

    def lay(self, turns: Sequence[Turn]) -> Laid:
        """A whole dialogue."""
        ids, segments, owners = [self.cls_id], [0], [BORDER]
        for number, turn in enumerate(turns):
            ids += [*turn, self.sep_id]
            segments += [number % 2] * (len(turn) + 1)
            owners += [number] * (len(turn) + 1)
        return Laid(tuple(ids), tuple(segments), tuple(owners))

    def prompt(self, turns: Sequence[Turn], first: int = 0) -> Prompt:
        """All turns closed; the reply begins behind the last [SEP]."""
        ids, segments = [self.cls_id], [0]
        for number, turn in enumerate(turns, start=first):
            ids += [*turn, self.sep_id]
            segments += [number % 2] * (len(turn) + 1)
        return Prompt(tuple(ids), tuple(segments), (first + len(turns)) % 2)


@dataclass(frozen=True)
class Speakers:
    """[CLS] [speaker1] u1 [speaker2] u2 ... [speakerX] reply [SEP]: only the reply is closed.

    说话人布局：每句前有说话人标记，仅回复以 [SEP] 结束。

    Segments are the ids of the tokens themselves: [CLS] has its own, a turn and its end that of its speaker. They are
    looked up in the table of words (`shared_segment_embeddings`). Source: Wang et al. 2020, arXiv 2008.03946 (LCCC).
    """

    cls_id: int
    sep_id: int
    speakers: tuple[int, int]

    @property
    def opening(self) -> int:
        """[CLS], and the speaker of the reply."""
        return 2

    @property
    def ends_every_turn(self) -> bool:
        """No: a history shows nothing of how turns end."""
        return False

    def lay(self, turns: Sequence[Turn]) -> Laid:
        """A whole dialogue, whose last turn is the reply."""
        ids, segments, owners = [self.cls_id], [self.cls_id], [BORDER]
        for number, turn in enumerate(turns):
            speaker = self.speakers[number % 2]
            ids += [speaker, *turn]
            segments += [speaker] * (len(turn) + 1)
            owners += [BORDER, *[number] * len(turn)]
        return Laid(
            (*ids, self.sep_id), (*segments, segments[-1]), (*owners, len(turns) - 1 if turns else BORDER)
        )

    def prompt(self, turns: Sequence[Turn], first: int = 0) -> Prompt:
        """The history, and the token of the one who replies."""
        ids, segments = [self.cls_id], [self.cls_id]
        for number, turn in enumerate([*turns, ()], start=first):
            speaker = self.speakers[number % 2]
            ids += [speaker, *turn]
            segments += [speaker] * (len(turn) + 1)
        return Prompt(tuple(ids), tuple(segments), segments[-1])


#: Layouts by the word of a recipe, and the tokens that each adds to a vocabulary.
LAYOUTS: Final[dict[str, tuple[str, ...]]] = {"alternating": (), "speakers": SPEAKERS}


def layout_named(name: str, vocabulary: Vocabulary) -> DialogueLayout:
    """The layout of that name in a vocabulary.

    按名称构造布局。

    Raises UserError for an unknown name, and for a vocabulary without the tokens that it needs.
    """
    check_layout(name)
    missing = [token for token in LAYOUTS[name] if token not in vocabulary]
    if missing:
        raise UserError(
            f"the layout {name} needs {' and '.join(missing)} in the vocabulary, which has no such token; "
            "choose the layout alternating"
        )
    cls_id, sep_id = vocabulary.cls_id, vocabulary.sep_id
    if name == "alternating":
        return Alternating(cls_id, sep_id)
    first, second = (vocabulary[token] for token in SPEAKERS)
    return Speakers(cls_id, sep_id, (first, second))


def check_layout(name: str) -> None:
    """Raises UserError for an unknown layout. 校验布局名称。"""
    if name not in LAYOUTS:
        raise UserError(f"layout: expected one of {', '.join(LAYOUTS)}, got {name!r}")


def turns_that_fit(lengths: Sequence[int], layout: DialogueLayout, room: int) -> int:
    """How many turns of these lengths, from the first on, are read in `room` tokens. 从头起能放下的轮数。"""
    used = layout.opening
    for count, length in enumerate(lengths):
        used += length + 1
        if used > room:
            return count
    return len(lengths)


def first_that_fits(lengths: Sequence[int], layout: DialogueLayout, room: int) -> int:
    """The first turn from which on the whole rest of a history is read in `room` tokens; the count of turns where not
    even the last one is.

    从第几轮起，其后的全部历史都能放下；整句保留，不截断。
    """
    return len(lengths) - turns_that_fit(lengths[::-1], layout, room)
