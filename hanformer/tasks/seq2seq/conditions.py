"""Conditions that targets are written under: which there are, and how likely a text is under each.

条件生成：训练数据中的条件，以及文本在各条件下的似然。
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hanformer.data.sequences import Pair, join_pairs
from hanformer.errors import UserError
from hanformer.models import Transformer
from hanformer.models.terminating_files import WritingModel, stack_of
from hanformer.tasks.prompting import positions
from hanformer.tasks.seq2seq.pairs import EncodedPairs, TextPair
from hanformer.text.protocols import Tokenizer
from hanformer.train.sequence import target_logits

_AT_ONCE = 32
_SHOWN = 20


def conditions_of(pairs: Iterable[TextPair], source: str) -> tuple[str, ...]:
    """The conditions that pairs are written under, in order; empty where they have none.

    训练数据中的全部条件。

    Raises UserError where there is one alone, or nearly as many as there are pairs.
    """
    seen = Counter(pair.condition for pair in pairs)
    if set(seen) <= {""}:
        return ()
    if len(seen) == 1:
        raise UserError(f"{source}: all rows have the condition {next(iter(seen))!r}; expected at least two")
    if 2 * len(seen) > seen.total():
        raise UserError(
            f"{source}: {len(seen):,} conditions among {seen.total():,} rows; expected a column of labels that come "
            "again and again"
        )
    return tuple(sorted(seen))


def check_conditions(pairs: Iterable[TextPair], known: Sequence[str], source: str) -> None:
    """Raises UserError where a pair has a condition that is not known, or none beside known ones.

    检查条件是否都已知。
    """
    strange = sorted({pair.condition for pair in pairs} - set(known or [""]))
    if strange:
        named = ", ".join(name or "(none)" for name in strange[:5])
        raise UserError(
            f"{source}: conditions that the training data do not have: {named}; they have "
            f"{', '.join(known[:_SHOWN]) or 'none'}. Leave such rows out, or train on some"
        )


@torch.inference_mode()
def likelihoods(model: WritingModel, tokenizer: Tokenizer, pairs: Sequence[TextPair]) -> Tensor:
    """log p(target | source, condition) [pairs, conditions] under every condition that the model has learned.

    各文本在每个条件下的对数似然。

    Texts are read whole, but for what lies beyond the positions that the model has.
    """
    stack = stack_of(model)
    room = positions(stack)
    encoded = EncodedPairs.of(pairs, tokenizer, sources=sys.maxsize, targets=sys.maxsize)
    chunks = [range(start, min(start + _AT_ONCE, len(encoded))) for start in range(0, len(encoded), _AT_ONCE)]
    numbers = range(len(stack.config.conditions))
    found = [
        torch.stack(
            [
                _log_p(stack, [_fitting(replace(encoded[place], condition=number), room) for place in places])
                for number in numbers
            ]
        )
        for places in chunks
    ]
    return torch.cat(found, 1).T


def _fitting(pair: Pair, room: int | None) -> Pair:
    """What of a pair has a place among so many positions, the last token alone being predicted and not read."""
    if room is None or pair.length <= room:
        return pair
    source = pair.source[:room]
    return replace(pair, source=source, target=pair.target[: room - len(source) + 1])


def _log_p(model: Transformer, pairs: Sequence[Pair]) -> Tensor:
    """log p(target) [pairs]."""
    batch = join_pairs(pairs).to(model.device)
    losses = cross_entropy(target_logits(model, batch).float(), batch.labels, reduction="none")
    return losses.new_zeros(len(pairs)).index_add(0, batch.layout.row_of_token[batch.predictors], -losses)
