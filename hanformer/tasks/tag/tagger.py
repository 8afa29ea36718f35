"""Texts in, spans out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from hanformer.tasks.tag.batches import Example, pack
from hanformer.tasks.tag.cutting import Cutter, Window
from hanformer.tasks.tag.model import TaggingModel
from hanformer.tasks.tag.spans import TextSpan

_TEXTS = 64


class Tagger:
    """Finds spans in texts of any length, with a model in eval mode.

    标注器：在任意长度的文本中找出片段。

    `token_budget` bounds the tokens of a batch.
    """

    def __init__(self, model: TaggingModel, cutter: Cutter, kinds: Sequence[str], token_budget: int) -> None:
        self.model, self.cutter, self.kinds = model, cutter, tuple(kinds)
        self.token_budget = token_budget

    @torch.no_grad()
    def tag(self, texts: Sequence[str]) -> list[list[TextSpan]]:
        """The spans of each text, by their places."""
        return [spans for part in _chunks(texts) for spans in self._tag(part)]

    def _tag(self, texts: Sequence[str]) -> list[list[TextSpan]]:
        cuts = [self.cutter.cut(text) for text in texts]
        windows = [window for cut in cuts for window in cut.windows]
        scores = iter(list(self._scores(windows)))
        scored = [[(window, next(scores)) for window in cut.windows] for cut in cuts]
        found = iter(self.model.tagger.spans([text for text in scored if text]) if windows else [])
        return [
            cut.to_text(next(found), self.kinds) if text else []
            for cut, text in zip(cuts, scored, strict=True)
        ]

    def _scores(self, windows: Sequence[Window]) -> Iterator[Tensor]:
        for part in _batches(windows, self.token_budget):
            batch = pack([Example(window) for window in part]).to(self.model.transformer.device)
            yield from self.model.tagger.split(self.model(batch), batch)


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (texts[start : start + _TEXTS] for start in range(0, len(texts), _TEXTS))


def _batches(windows: Sequence[Window], token_budget: int) -> Iterator[list[Window]]:
    """Neighbours together, so many that their tokens keep to the budget."""
    part: list[Window] = []
    tokens = 0
    for window in windows:
        if part and tokens + len(window.ids) > token_budget:
            yield part
            part, tokens = [], 0
        part.append(window)
        tokens += len(window.ids)
    if part:
        yield part
