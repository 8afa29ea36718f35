"""One pass of a batch through a stack: what all its layers share, and what a layer hands to the next."""

from __future__ import annotations

import torch
from torch import Tensor

from hanformer.nn.attention.relative import BucketedBias, RelativePositions
from hanformer.nn.functional.attend import attend, attend_explicit
from hanformer.nn.functional.visibility import Plan, Visibility


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
        plain = relative is None or isinstance(relative, BucketedBias)
        self._explicit = residual or keep or not plain

    def mix(self, query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float) -> Tensor:
        """Attention [Nq, H, D] of packed queries over keys and values [Nk, G, D]."""
        if self._explicit:
            return self._mix_explicitly(query * scale, key, value, dropout)
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
                for plan in self.visibility.plans
            ]
        return self._biases

    def _mix_explicitly(self, query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
        mixed, logits, weights = [], [], []
        for place, plan in enumerate(self.visibility.plans):
            parts = (plan.query.gather(query[plan.query.tokens]), *_keys(plan, query, key, value))
            below = self._below[place] if self.residual and self._below is not None else None
            scores = self._logits(plan, parts[0], parts[1], below)
            out, used = attend_explicit(scores, parts[2], self.visibility.mask(plan), dropout=dropout)
            if self.relative is not None:
                moved = self.relative.values(used, self.visibility.distance(plan))
                out = out if moved is None else out + moved
            mixed.append(plan.query.scatter(out))
            logits.append(scores)
            weights.append(used)
        self._below = logits if self.residual else None
        if self.keep:
            self.weights.append(self._padded(weights, query.shape[1]))
        return torch.cat(mixed) if mixed else query.new_zeros(*query.shape[:-1], value.shape[-1])

    def _logits(self, plan: Plan, query: Tensor, key: Tensor, below: Tensor | None) -> Tensor:
        """Before masking: [B, H, Q, K]."""
        logits = query @ key.transpose(-1, -2)
        if self.relative is not None:
            logits = logits + self.relative.logits(query, self.visibility.distance(plan))
        return logits if below is None else logits + below

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


def _keys(plan: Plan, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of a rectangle, one for every query head."""
    share = query.shape[1] // key.shape[1]
    own = (part[plan.key.tokens].repeat_interleave(share, 1) for part in (key, value))
    gathered, other = (plan.key.gather(part) for part in own)
    return gathered, other
