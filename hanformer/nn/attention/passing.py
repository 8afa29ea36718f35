"""One pass of a batch through a stack: what all its layers share, and what a layer hands to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat

import torch
from torch import Tensor

from hanformer.nn.attention.relative import LogitBias, RelativePositions
from hanformer.nn.functional.attend import Normaliser, attend, attend_explicit, softmax
from hanformer.nn.functional.joint import Partial, hide, join, scores
from hanformer.nn.functional.plans import Piece, Plan
from hanformer.nn.functional.visibility import Visibility


class Pass:
    """Who sees whom in this batch, relative positions, and the scores that layers hand on or keep.

    一次前向中各层共享的内容：可见性、相对位置，以及层间传递或保留的注意力分数。

    `residual` adds the logits of the layer below (RealFormer, arXiv 2012.11747); `keep` collects the attention
    weights of every layer in `weights`, rows padded on the right: [B, H, Lq, Lk] each.
    """

    def __init__(
        self,
        visibility: Visibility,
        relative: RelativePositions | None = None,
        *,
        residual: bool = False,
        keep: bool = False,
    ) -> None:
        self.visibility, self.relative = visibility, relative
        self.residual, self.keep = residual, keep
        self.weights: list[Tensor] = []
        self._below: list[Tensor] | None = None
        self._biases: list[Tensor] | None = None
        plain = relative is None or isinstance(relative, LogitBias)
        self._explicit = residual or keep or not plain

    def mix(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        dropout: float,
        normalise: Normaliser | None = None,
        *,
        added: Callable[[Piece], Sequence[Tensor]] | None = None,
    ) -> Tensor:
        """Attention [Nq, H, D] of packed queries over keys and values [Nk, G, D].

        `normalise` makes weights of logits, softmax unless given; `added` gives logits of a layer's own,
        [B, H, Q, K] for each rectangle of a piece, beside those of queries and keys.
        """
        if self._explicit or normalise is not None or added is not None:
            return self._mix_explicitly(query * scale, key, value, dropout, normalise or softmax, added)
        return attend(
            query,
            key,
            value,
            self.visibility,
            scale=scale,
            dropout=dropout,
            biases=self._shared_biases(query),
        )

    def _shared_biases(self, query: Tensor) -> list[Tensor] | None:
        """The learned biases of each rectangle, with what is hidden at -inf: made once for all layers."""
        if self.relative is None:
            return None
        if self._biases is None:
            self._biases = [
                self.relative.logits(query, self.visibility.distance(plan)).masked_fill(
                    ~self.visibility.mask(plan), float("-inf")
                )
                for piece in self.visibility.pieces
                for plan in piece.plans
            ]
        return self._biases

    def _mix_explicitly(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        dropout: float,
        normalise: Normaliser,
        added: Callable[[Piece], Sequence[Tensor]] | None,
    ) -> Tensor:
        share = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(share, 1), value.repeat_interleave(share, 1)
        # Who asks for weights, or normalises in another way, gets all keys of a query side by side.
        plain = normalise is softmax and not self.keep and added is None
        pieces = self.visibility.pieces if plain else self.visibility.whole
        if not pieces:
            return query.new_zeros(*query.shape[:-1], value.shape[-1])
        if len(pieces) > 1:
            return self._mix_jointly(pieces, query, key, value, dropout)
        mixed, weights, logits = [], [], list[Tensor]()
        rectangles = pieces[0].rectangles(query, key, value)
        written = repeat(None, len(rectangles)) if added is None else added(pieces[0])
        for plan, (own_query, own_key, own_value), own in zip(
            pieces[0].plans, rectangles, written, strict=True
        ):
            found = self._logits(plan, own_query, own_key, (self._from_below(len(logits)), own))
            visible = self.visibility.mask(plan)
            out, used = attend_explicit(found, own_value, visible, normalise, dropout=dropout)
            mixed.append(self._moved(plan, out, used))
            logits.append(found)
            weights.append(used)
        self._below = logits if self.residual else None
        if self.keep:
            self.weights.append(self._padded(weights, query.shape[1]))
        return pieces[0].collect(mixed)

    def _mix_jointly(
        self, pieces: Sequence[Piece], query: Tensor, key: Tensor, value: Tensor, dropout: float
    ) -> Tensor:
        """The same where the keys of a query stand in several pieces."""
        partials, logits = [], list[Tensor]()
        for piece in pieces:
            parts = []
            rectangles = piece.rectangles(query, key, value)
            for plan, (own_query, own_key, own_value) in zip(piece.plans, rectangles, strict=True):
                found = self._logits(plan, own_query, own_key, (self._from_below(len(logits)),))
                logits.append(found)
                partial = Partial.of(hide(found, plan), dropout)
                out = partial.weights @ own_value.to(partial.weights.dtype)
                parts.append(partial.summed(self._moved(plan, out, partial.weights)))
            partials.append(Partial.collect(piece, parts))
        self._below = logits if self.residual else None
        return join(partials).to(value.dtype)

    def _from_below(self, place: int) -> Tensor | None:
        """The logits of that plan in the layer below, where the model adds them."""
        return None if self._below is None else self._below[place]

    def _moved(self, plan: Plan, mixed: Tensor, weights: Tensor) -> Tensor:
        """With what relative positions add to the values."""
        moved = (
            None if self.relative is None else self.relative.values(weights, self.visibility.distance(plan))
        )
        return mixed if moved is None else mixed + moved

    def _logits(
        self, plan: Plan, query: Tensor, key: Tensor, others: tuple[Tensor | None, ...] = ()
    ) -> Tensor:
        """Before masking, with other logits added: [B, H, Q, K]."""
        logits = scores(query, key)
        if self.relative is not None:
            logits = logits + self.relative.logits(query, self.visibility.distance(plan))
        return sum((other for other in others if other is not None), start=logits)

    def _padded(self, weights: list[Tensor], heads: int) -> Tensor:
        """The weights of all rectangles as one tensor; zeros where there is no token."""
        lengths = (self.visibility.query.lengths, self.visibility.key.lengths)
        shape = (len(lengths[0]), heads, max(lengths[0], default=0), max(lengths[1], default=0))
        like = weights[0] if weights else torch.zeros(())
        whole = like.new_zeros(shape)
        for plan, part in zip(self.visibility.plans, weights, strict=True):
            first = plan.first
            real = plan.query.real()[:, None, :, None] & plan.key.real()[:, None, None, :]
            rows, queries, keys = plan.query.rows, plan.query.length, plan.key.length
            whole[first : first + rows, :, :queries, :keys] = part.masked_fill(~real.to(part.device), 0.0)
        return whole
