"""From a distance before every word to a binary tree: cut at the greatest distance, again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

from hanformer.errors import UserError
from hanformer.parsing.brackets import Brackets, Span

#: Where a stretch of words is cut: the stretches to go on with, and the brackets that this makes.
_Cut = Callable[[Sequence[float], int, int], tuple[tuple[Span, Span], tuple[Span, ...]]]


def _as_published(
    distances: Sequence[float], start: int, stop: int
) -> tuple[tuple[Span, Span], tuple[Span, ...]]:
    """[left, [x_k, right]]: the word at the greatest distance stands beside all that follows it."""
    place = _greatest(distances, start, stop)
    return ((start, place), (place + 1, stop)), ((start, stop), (place, stop))


def _at_the_border(
    distances: Sequence[float], start: int, stop: int
) -> tuple[tuple[Span, Span], tuple[Span, ...]]:
    """[left, right]: a distance belongs to the border before its word, and the first word has no border."""
    place = _greatest(distances, start + 1, stop)
    return ((start, place), (place, stop)), ((start, stop),)


RULES: dict[str, _Cut] = {"paper": _as_published, "unbiased": _at_the_border}


def tree_of(words: Sequence[str], distances: Sequence[float], rule: str = "paper") -> Brackets:
    """The binary tree of a sentence from one distance a word, cut from the top down at the greatest.

    由句法距离自顶向下切分得到二叉树；相等时取最先者。

    "paper": with x_k at the greatest distance the tree is [tree(x_<k), [x_k, tree(x_>k)]], empty parts left out. The
    rule itself leans to the right: with distances by chance its trees branch to the right more often than to the left.
    "unbiased": [tree(x_<k), tree(x_>=k)], the greatest distance sought among the words after the first. Both agree
    where distances rise, or fall, throughout.
    Raises UserError for another rule, no words, and distances that are not one number a word.
    Source: Shen et al. 2019, arXiv 1810.09536; kexue.fm/archives/6621; on the bias Dyer et al. 2019, arXiv 1909.09428.
    """
    if rule not in RULES:
        raise UserError(f"rule: expected one of {', '.join(RULES)}, got {rule!r}")
    if not words or len(words) != len(distances):
        raise UserError(f"expected one distance a word, got {len(distances)} for {len(words)} words")
    if any(distance != distance for distance in distances):
        raise UserError("expected distances that are numbers, got NaN; the model is broken")
    return Brackets.of(words, _spans(distances, RULES[rule]))


def by_chance(words: Sequence[str], rule: str) -> Brackets:
    """The tree that a rule makes of distances drawn evenly: what the rule is worth by itself. 随机句法距离所得的树。

    The draws depend on the words alone.
    """
    random = Random(" ".join(words))
    return tree_of(words, [random.random() for _ in words], rule)


def _spans(distances: Sequence[float], cut: _Cut) -> Iterator[Span]:
    stretches = [(0, len(distances))]
    while stretches:
        start, stop = stretches.pop()
        if stop - start > 1:
            further, made = cut(distances, start, stop)
            stretches += further
            yield from made


def _greatest(distances: Sequence[float], start: int, stop: int) -> int:
    return max(range(start, stop), key=lambda place: (distances[place], -place))
