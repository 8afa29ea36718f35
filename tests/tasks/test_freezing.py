"""Frozen layers: exactly the lowest, and refusals."""

from __future__ import annotations

import pytest

from hanformer.errors import UserError
from hanformer.models import build
from hanformer.tasks.freezing import freeze_lowest
from hanformer.train.sizes import USUAL, Sizes

SIZES = Sizes(hidden_size=16, layers=3, attention_heads=2, intermediate_size=16).over(USUAL)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_the_embeddings_and_the_lowest_layers_stop_learning(layers: int) -> None:
    model = build(SIZES.config(20, "encoder", 32), ())
    freeze_lowest(model, layers)
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    wanted = ("embeddings.", *(f"stack.blocks.{layer}." for layer in range(layers))) if layers else ()
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(tuple(wanted))}


def test_what_cannot_be_frozen_is_refused() -> None:
    with pytest.raises(UserError, match="expected 0 to 3 layers of this model, got 4"):
        freeze_lowest(build(SIZES.config(20, "encoder", 32), ()), 4)
    shared = build(SIZES.config(20, "encoder", 32, {"share_layers": True}), ())
    with pytest.raises(UserError, match="share their weights"):
        freeze_lowest(shared, 1)
    freeze_lowest(shared, 3)
    assert not any(
        weight.requires_grad for name, weight in shared.named_parameters() if "stack.blocks" in name
    )
