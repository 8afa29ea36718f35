"""Drafts copied from the prompt: where the last tokens occurred before, what followed them may follow again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hanformer.decode.penalties import Prompts, history
from hanformer.decode.search import Row
from hanformer.errors import UserError


@dataclass(frozen=True)
class PromptLookup:
    """Guesses that a row goes on as its text did after the last earlier place of its last n-gram.

    提示查找式草稿：用末尾 n 元组最近一次出现之后的词元作猜测，供推测解码一次验证。

    As `draft` of `generate`, with greedy or sampling rules: the ids are those without it. n-grams are tried
    from `longest` tokens down to one; at most `count` tokens are guessed. `prompts` are the tokens of the
    prompts of the batch. A step is saved only where every row guessed right, so it pays with few rows and
    outputs that copy their input. Raises UserError for sizes below 1.

    Source: Leviathan et al. 2022, arXiv 2211.17192 (the check); a draft copied from the prompt is certain of
    itself, so a draw that equals it accepts it with exactly its probability.
    """

    prompts: Prompts
    longest: int = 3
    count: int = 8

    def __post_init__(self) -> None:
        if self.longest < 1 or self.count < 1:
            raise UserError(f"expected sizes of at least 1, got {self.longest} and {self.count}")

    def __call__(self, rows: Sequence[Row]) -> list[tuple[int, ...]]:
        """At most `count` tokens a row."""
        return [self._guess(history(row, self.prompts)) for row in rows]

    def _guess(self, tokens: tuple[int, ...]) -> tuple[int, ...]:
        for size in range(min(self.longest, len(tokens) - 1), 0, -1):
            suffix = tokens[-size:]
            for start in range(len(tokens) - size - 1, -1, -1):
                if tokens[start : start + size] == suffix:
                    return tokens[start + size : start + size + self.count]
        return ()
