"""Tricks: each takes an objective and gives an objective, so that they stack: `r_drop(fgm(objective, 0.1), 4.0)`.

The innermost acts first. Strength 0 is the objective itself. A trick needs no parameter of its own and leaves no trace
in the model; what it perturbs are the embedded tokens (`seam`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hanformer.errors import UserError
from hanformer.train.objective import Objective
from hanformer.train.tricks.adversarial import fgm, fgm_of_table, pgd
from hanformer.train.tricks.crossing import predict_decoded
from hanformer.train.tricks.mixup import mixup, mixup_at
from hanformer.train.tricks.noise import additive_noise, multiplicative_noise
from hanformer.train.tricks.penalty import gradient_penalty
from hanformer.train.tricks.r_drop import agreement, r_drop
from hanformer.train.tricks.replacement import Replacement, replacing
from hanformer.train.tricks.sensitivity import noise_penalty, sensitivity
from hanformer.train.tricks.tea_forn import features, most_likely, tea_forn
from hanformer.train.tricks.unlabelled import SideBySide, SideBySideSource, with_unlabelled
from hanformer.train.tricks.virtual import instability, vat

__all__ = [
    "TRICKS",
    "Replacement",
    "SideBySide",
    "SideBySideSource",
    "Trick",
    "Wrapper",
    "additive_noise",
    "agreement",
    "features",
    "fgm",
    "fgm_of_table",
    "gradient_penalty",
    "instability",
    "mixup",
    "mixup_at",
    "most_likely",
    "multiplicative_noise",
    "noise_penalty",
    "pgd",
    "predict_decoded",
    "r_drop",
    "replacing",
    "sensitivity",
    "tea_forn",
    "tricks_named",
    "vat",
    "with_unlabelled",
]

Wrapper = Callable[[Objective[Any]], Objective[Any]]
"""An objective to an objective. 目标函数的包装。"""


@dataclass(frozen=True)
class Trick:
    """A trick by its word: what makes it of an objective and a strength, and what it costs.

    按名称登记的训练技巧。

    `strength` is the default; `forward` and `backward` count the passes of a step, a plain one having 1 and 1.
    """

    make: Callable[[Objective[Any], float], Objective[Any]]
    strength: float
    forward: int
    backward: int
    says: str


def _tea_forn(objective: Objective[Any], strength: float) -> Objective[Any]:
    if not float(strength).is_integer():
        raise UserError(f"tea_forn: expected a whole number of passes, got {strength}")
    return tea_forn(objective, int(strength))


TRICKS: dict[str, Trick] = {
    "noise": Trick(additive_noise, 0.02, 1, 1, "Gaussian noise added to embedded tokens"),
    "multiplicative_noise": Trick(
        multiplicative_noise, 0.1, 1, 1, "Gaussian noise relative to embedded tokens"
    ),
    "fgm": Trick(fgm, 0.1, 2, 2, "adversarial training by one gradient; the radius of an example"),
    "fgm_of_table": Trick(fgm_of_table, 0.5, 2, 2, "the same on the whole token table, as bert4keras does"),
    "pgd": Trick(pgd, 0.1, 4, 4, "adversarial training by three gradients within a radius"),
    "gradient_penalty": Trick(gradient_penalty, 0.03, 1, 2, "the squared gradient by embedded tokens"),
    "noise_penalty": Trick(
        noise_penalty, 0.03, 1, 2, "what noise on embedded tokens costs, without drawing it"
    ),
    "vat": Trick(vat, 1.0, 4, 3, "virtual adversarial training: stable predictions nearby"),
    "r_drop": Trick(r_drop, 4.0, 2, 2, "two passes with different dropout should agree"),
    "mixup": Trick(mixup, 0.2, 1, 1, "examples mixed in pairs, embedded tokens and answers (classification)"),
    "tea_forn": Trick(
        _tea_forn, 2.0, 2, 2, "further passes on the decoder's own features (sequence to sequence)"
    ),
}


def tricks_named(words: Iterable[str]) -> Wrapper:
    """What wraps an objective by these words, the first outermost: `fgm`, or with its strength, `fgm:0.5`.

    按名称取训练技巧；第一个在最外层。

    `tricks_named(["r_drop:4", "fgm"])(objective)` is `r_drop(fgm(objective, 0.1), 4.0)`; no words leave it as
    it is. Raises UserError for an unknown word, listing the known ones, and for a strength that is no number.
    """
    wrappers = [_wrapper(word) for word in words]

    def wrap(objective: Objective[Any]) -> Objective[Any]:
        for wrapper in reversed(wrappers):
            objective = wrapper(objective)
        return objective

    return wrap


def _wrapper(word: str) -> Wrapper:
    name, colon, said = word.partition(":")
    if name not in TRICKS:
        raise UserError(f"trick: expected one of {', '.join(TRICKS)}, as in fgm or fgm:0.5; got {word!r}")
    trick = TRICKS[name]
    try:
        strength = float(said) if colon else trick.strength
    except ValueError:
        raise UserError(f"trick: after {name}: expected a number, got {said!r}") from None
    # Made once for nothing, so that a strength out of range is refused now and not when training begins.
    trick.make(_nothing, strength)
    return lambda objective: trick.make(objective, strength)


def _nothing(model: Any, batch: Any) -> Any:
    """Stands for an objective where a trick is made to check its strength alone."""
    raise AssertionError("this objective is never called")
