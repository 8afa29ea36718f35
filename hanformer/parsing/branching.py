"""Trees that need no model: left, right, balanced and random branching, the baselines of every parser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from hanformer.parsing.brackets import Brackets, Span

#: A tree for a sentence, without looking at anything but its words.
Guess = Callable[[Sequence[str]], Brackets]


def left(words: Sequence[str]) -> Brackets:
    """((a b) c). 左分支。"""
    return Brackets.of(words, [(0, stop) for stop in range(2, len(words) + 1)])


def right(words: Sequence[str]) -> Brackets:
    """(a (b c)). 右分支。"""
    return Brackets.of(words, [(start, len(words)) for start in range(len(words) - 1)])


def balanced(words: Sequence[str]) -> Brackets:
    """Cut in the middle, again and again; of an odd number the left part is the smaller. 平衡二叉。"""
    return _cut(words, lambda start, stop: (start + stop) // 2)


def at_random(seed: int = 0) -> Guess:
    """A guess that cuts at a place drawn evenly, again and again; its draws depend on the seed and the words alone.

    随机二叉：每次均匀抽取切分点。
    """

    def guess(words: Sequence[str]) -> Brackets:
        random = Random(f"{seed}/{' '.join(words)}")
        return _cut(words, lambda start, stop: random.randrange(start + 1, stop))

    return guess


def _cut(words: Sequence[str], place: Callable[[int, int], int]) -> Brackets:
    stretches, spans = [(0, len(words))], list[Span]()
    while stretches:
        start, stop = stretches.pop()
        if stop - start > 1:
            middle = place(start, stop)
            spans.append((start, stop))
            stretches += [(start, middle), (middle, stop)]
    return Brackets.of(words, spans)


#: The baselines by name.
BASELINES: dict[str, Guess] = {"left": left, "right": right, "balanced": balanced, "random": at_random()}
