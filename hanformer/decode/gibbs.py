"""Gibbs sampling from a masked language model: one token at a time is masked and drawn anew.

用掩码语言模型作吉布斯采样：每步随机掩盖一个位置并重新抽取。

Source: kexue.fm/archives/8119.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hanformer.decode.masked import check_encoder
from hanformer.decode.sample import inverse_draw, uniform
from hanformer.errors import UserError
from hanformer.models.transformer import Transformer
from hanformer.nn.functional.packing import Layout

Conditional = Callable[[Sequence[Sequence[int]], Sequence[int]], Tensor]
"""`conditional(rows, places) -> logits [R, V]`: what stands at `places[r]` of row r, given all of its other tokens.

给定其余词元时，各行指定位置的 logits。
"""


@dataclass(frozen=True)
class Gibbs:
    """How long a chain runs and what is kept: after `burn_in` steps, the state of every `every`-th step.

    链长与取样方式：先舍弃 burn_in 步，此后每 every 步保留一次。

    Draws depend on (seed, first_row + row, step) alone, not on the rows beside. Raises UserError for numbers that
    leave nothing to keep.
    """

    steps: int = 10_000
    burn_in: int = 1_000
    every: int = 1
    seed: int = 0
    first_row: int = 0

    def __post_init__(self) -> None:
        if self.burn_in < 0 or self.every < 1 or self.steps < self.burn_in + self.every:
            raise UserError(
                "expected burn_in >= 0, every >= 1 and steps >= burn_in + every, "
                f"got burn_in={self.burn_in}, every={self.every} and steps={self.steps}"
            )

    def keeps(self, step: int) -> bool:
        """Whether the state after so many steps is kept."""
        after = step - self.burn_in
        return after > 0 and after % self.every == 0

    def draws(self, rows: int, step: int) -> tuple[list[float], list[float]]:
        """Two numbers in [0, 1) a row: for the place, and for the token."""
        names = range(self.first_row, self.first_row + rows)
        return (
            [uniform(self.seed, name, 0, step) for name in names],
            [uniform(self.seed, name, 1, step) for name in names],
        )


def gibbs_sample(
    conditional: Conditional, rows: Sequence[Sequence[int]], places: Sequence[Sequence[int]], chain: Gibbs
) -> list[list[tuple[int, ...]]]:
    """Runs a chain from each row; the kept states of each, in order.

    从每行出发运行一条链，返回各链保留的状态。

        place ~ uniform over `places` of the row,   token ~ p(token at that place | all others)

    Where the conditionals belong to one joint distribution, the chain's own distribution comes near to that joint.
    Raises UserError where a row has no place to draw, or a place lies outside of it, and where the conditional gives
    another shape, logits that are not a number or infinite, or nothing that may be drawn.
    Source: kexue.fm/archives/8119.
    """
    _check(rows, places)
    current = [list(row) for row in rows]
    kept: list[list[tuple[int, ...]]] = [[] for _ in rows]
    for step in range(1, chain.steps + 1 if rows else 1):
        where, which = chain.draws(len(rows), step)
        chosen = [own[int(u * len(own))] for own, u in zip(places, where, strict=True)]
        chances = _chances(conditional(current, chosen), len(rows))
        tokens = inverse_draw(chances, torch.tensor(which, dtype=torch.float64, device=chances.device))
        for row, place, token in zip(current, chosen, tokens.tolist(), strict=True):
            row[place] = token
        if chain.keeps(step):
            for states, row in zip(kept, current, strict=True):
                states.append(tuple(row))
    return kept


def _chances(logits: Tensor, rows: int) -> Tensor:
    """The probabilities [R, V] of what the conditional gives, in float64."""
    if logits.dim() != 2 or len(logits) != rows:
        raise UserError(f"expected the conditional to return logits [{rows}, V], got {list(logits.shape)}")
    chances = logits.double().softmax(-1)
    if not bool(chances.isfinite().all()):
        raise UserError(
            "expected finite logits, with -inf for some impossible tokens, got NaN, +inf, or a row of -inf alone; "
            "check the weights and the precision of the model"
        )
    return chances


def _check(rows: Sequence[Sequence[int]], places: Sequence[Sequence[int]]) -> None:
    if len(rows) != len(places):
        raise UserError(f"expected places for each of {len(rows)} rows, got {len(places)}")
    for number, (row, own) in enumerate(zip(rows, places, strict=True)):
        if not own:
            raise UserError(f"row {number}: expected a token that may be drawn anew; all of them are fixed")
        if not 0 <= min(own) <= max(own) < len(row):
            raise UserError(
                f"row {number}: expected places in 0..{len(row) - 1}, got {min(own)} to {max(own)}"
            )


@dataclass(frozen=True)
class MaskedConditional:
    """A masked language model as a `Conditional`: the place is masked, and special tokens are never drawn.

    把掩码语言模型用作条件分布；特殊词元既不被掩盖，也不会被抽到。

    All rows run in one pass. Raises UserError where the model is no encoder with a vocabulary head, a row is longer
    than its positions, or an id is outside the vocabulary.
    """

    model: Transformer
    mask_id: int
    special_ids: Collection[int] = ()
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_encoder(self.model, "Gibbs sampling")
        size = self.model.config.vocab_size
        if not all(0 <= token < size for token in self.fixed):
            raise UserError(f"expected special tokens in 0..{size - 1}, got {sorted(self.fixed)}")
        if len(self.fixed) == size or not self.temperature > 0:
            raise UserError(
                f"expected a temperature above 0 and a token that is not special, got {self.temperature}"
            )

    @property
    def fixed(self) -> frozenset[int]:
        """The special tokens, the mask among them."""
        return frozenset({*self.special_ids, self.mask_id})

    def places(self, row: Sequence[int]) -> list[int]:
        """Where tokens may be drawn: everywhere but at special tokens; masks wait for a first draw."""
        kept = self.fixed - {self.mask_id}
        return [place for place, token in enumerate(row) if token not in kept]

    @torch.inference_mode()
    def __call__(self, rows: Sequence[Sequence[int]], places: Sequence[int]) -> Tensor:
        """Logits [R, V] with -inf for special tokens."""
        layout = Layout.of([len(row) for row in rows], device=self.model.device)
        ids = torch.tensor([token for row in rows for token in row], device=self.model.device)
        at = torch.tensor(layout.offsets[:-1], device=ids.device) + torch.tensor(places, device=ids.device)
        ids[at] = self.mask_id
        hidden = self.model.body(self.model.embed(ids, layout), layout)
        logits = self.model.lm_logits(hidden[at]).double() / self.temperature
        return logits.index_fill(-1, torch.tensor(sorted(self.fixed), device=ids.device), -math.inf)


def sample_masked(
    conditional: MaskedConditional, rows: Sequence[Sequence[int]], chain: Gibbs
) -> list[list[tuple[int, ...]]]:
    """Runs a chain from each row of token ids, special tokens in their places: from a text, or from nothing but masks.

    从给定文本（或全掩码）出发作吉布斯采样。

    [CLS], [SEP] and their like stay as they are. Errors are those of `gibbs_sample` and `MaskedConditional`.
    Source: kexue.fm/archives/8119.
    """
    return gibbs_sample(conditional, rows, [conditional.places(row) for row in rows], chain)
