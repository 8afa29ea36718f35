"""TeaForN: the decoder is taught on its own features, so that what it writes now serves the tokens to come."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.models import EncoderDecoder, Transformer
from hanformer.nn.functional.packing import Layout
from hanformer.train.objective import Loss, Objective
from hanformer.train.tricks.checks import check_at_least, check_share
from hanformer.train.tricks.crossing import encoded_once
from hanformer.train.tricks.outputs import output
from hanformer.train.tricks.rows import Rows
from hanformer.train.tricks.seam import embeddings_changed, token_tables


class Taught(Protocol):
    """A packed batch whose places `predictors` [M] predict the token that stands behind them. 教师强制的批次。"""

    @property
    def layout(self) -> Layout: ...

    @property
    def predictors(self) -> Tensor: ...

    def to(self, device: torch.device) -> Self: ...


Batch = TypeVar("Batch", bound=Taught)

Feed = Callable[[nn.Embedding, Tensor, Tensor], Tensor]
"""The token table, features [M, C] and logits [M, V] of the predicting places, to what the next place reads [M, E].

由预测处的特征与 logits 得到下一位置的输入。
"""


def features(table: nn.Embedding, hidden: Tensor, logits: Tensor) -> Tensor:
    """The features themselves; raises UserError where the table has another width. 直接使用特征。"""
    if hidden.shape[-1] != table.embedding_dim:
        raise UserError(
            f"tea_forn: features of width {hidden.shape[-1]} cannot stand for embeddings of width "
            f"{table.embedding_dim}; use feed=most_likely(4)"
        )
    return hidden


def most_likely(count: int) -> Feed:
    """The mean embedding of the `count` likeliest tokens, weighted by their probabilities.

    概率最高的若干词元的加权平均词向量。

    Σ p_w e_w / Σ p_w over them; with 1 it is the greedy token's, with all of them p · E.
    """
    check_at_least("tea_forn: most_likely", count, 1)

    def mean(table: nn.Embedding, hidden: Tensor, logits: Tensor) -> Tensor:
        best, ids = logits.topk(min(count, logits.shape[-1]), -1)
        # Not a call of the table: what stands at the seam changes true tokens alone.
        chosen = nn.functional.embedding(ids, table.weight)
        return (best.softmax(-1, torch.float32).to(chosen.dtype)[..., None] * chosen).sum(-2)

    return mean


def tea_forn(
    objective: Objective[Batch],
    passes: int,
    *,
    decay: float = 0.5,
    feed: Feed = features,
    prepare: Callable[[nn.Module, Batch], Batch] = encoded_once,
) -> Objective[Batch]:
    """Σ_i decay^(i−1) · loss^(i), i = 1 to `passes`; pass 1 reads true tokens, each later one the last features.

    TeaForN：多次展开解码器，后一次以前一次的特征为输入。

    h^(i+1) = M(e_0, h_1^(i), ..., h_(L−1)^(i)): at every target input but the first token that predicts, the
    token's vector is replaced by the feature of the place before, below the positions and the norm of the embeddings.
    Gradients flow through all passes, each with dropout of its own; nothing is copied. `feed` is `features` or
    `most_likely(k)`. `prepare` computes what the passes share: `encoded_once`, the encoder's
    states of an encoder-decoder. The outputs are those of the first pass; 1 (or 0)
    passes are the objective itself. Defaults of decay are ours: the paper's are not known.
    Raises UserError for numbers out of range, and for objectives that do not look tokens up once and compute the
    vocabulary once, at the predicting places.
    Source: Goodman et al., arXiv 2010.03494; kexue.fm/archives/7818.
    """
    check_at_least("tea_forn: passes", passes, 0)
    check_share("tea_forn: decay", decay)

    def unrolled(model: nn.Module, batch: Batch) -> Loss:
        ready = prepare(model, batch.to(next(model.parameters()).device))
        loss, hidden = _Pass(ready).run(objective, model)
        total, outputs = loss.total, loss.outputs
        table = token_tables(model)[0]
        for number in range(1, passes):
            fed = feed(table, hidden, output(loss, "logits", "tea_forn"))
            loss, hidden = _Pass(ready, fed).run(objective, model)
            total = total + decay**number * loss.total
        return Loss(total, loss.count, outputs)

    return unrolled if passes > 1 else objective


@dataclass(frozen=True, eq=False)
class _Pass:
    """One pass: what the predicting places hand on to the next places (None for true tokens)."""

    batch: Any
    fed: Tensor | None = None

    def run(self, objective: Objective[Any], model: nn.Module) -> tuple[Loss, Tensor]:
        """The loss, and the features [M, C] that the vocabulary head was given."""
        looked_up: list[Rows] = []
        heard: list[Tensor] = []

        def change(embedded: Tensor, rows: Rows) -> Tensor:
            looked_up.append(rows)
            return embedded if self.fed is None else self._replaced(embedded, self.fed)

        with ExitStack() as contexts:
            contexts.enter_context(embeddings_changed(model, change))
            head = _vocabulary_head(model)
            handle = head.register_forward_pre_hook(lambda module, given: heard.append(given[0]))
            contexts.callback(handle.remove)
            loss = objective(model, self.batch)
        if len(looked_up) != 1 or [len(part) for part in heard] != [len(self.batch.predictors)]:
            raise UserError(
                "tea_forn: expected an objective that embeds its tokens once and calls the vocabulary head once, "
                "at the predicting places: tea_forn stands innermost among tricks"
            )
        return loss, heard[0]

    def _replaced(self, embedded: Tensor, fed: Tensor) -> Tensor:
        layout, behind = self.batch.layout, self.batch.predictors + 1
        vectors = embedded.new_zeros(len(embedded) + 1, embedded.shape[-1])
        vectors = vectors.index_copy(0, behind, fed.to(embedded.dtype))[:-1]
        marked = torch.zeros(len(embedded) + 1, dtype=torch.bool, device=embedded.device)
        # Behind the last place of a row the next row begins, with tokens of its own.
        replaced = marked.index_fill(0, behind, True)[:-1] & (layout.index_of_token > 0)
        return torch.where(replaced[:, None], vectors, embedded)


def _vocabulary_head(model: nn.Module) -> nn.Module:
    parts = (part for part in model.modules() if isinstance(part, (Transformer, EncoderDecoder)))
    head = next((part.lm_head for part in parts if part.lm_head is not None), None)
    if head is None:
        raise UserError("tea_forn: expected a model with a vocabulary head")
    return head
