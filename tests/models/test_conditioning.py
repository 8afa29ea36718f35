"""A condition folded into the norms: the same outputs and the same texts as with the condition, by a plain model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from hanformer.errors import UserError
from hanformer.models import load, save
from hanformer.models.conditioning import under_condition
from tests.harness.material import random_model, tiny_config

EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-10}
IDS = torch.tensor([[5, 6, 7, 8], [9, 4, 3, 0]])


@pytest.mark.parametrize("norm", ["layer", "rms", "rms_plain"])
@pytest.mark.parametrize(
    "changes", [{}, {"condition_hidden_size": 4, "norm_place": "pre"}, {"share_layers": True}]
)
@pytest.mark.parametrize("application", ["lm", "unilm"])
def test_folded_is_conditioned(norm: str, changes: dict[str, Any], application: str) -> None:
    model = random_model(
        tiny_config(condition_size=3, norm=norm, application=application, **changes), ("lm",)
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    condition = torch.randn(3, dtype=torch.float64)
    plain = under_condition(model, condition)
    expected = model(IDS, condition=condition.expand(2, 3)).lm_logits
    torch.testing.assert_close(plain(IDS).lm_logits, expected, **EXACT)
    assert not torch.allclose(plain(IDS).lm_logits, model(IDS).lm_logits)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert plain.embeddings.token.weight.data_ptr() == model.embeddings.token.weight.data_ptr()


def test_decoding_goes_on_as_with_the_condition() -> None:
    model = random_model(tiny_config(condition_size=3, application="lm"), ("lm",)).eval()
    condition = torch.randn(3, dtype=torch.float64)
    plain = under_condition(model, condition)
    rows = [[5, 6, 7], [8, 9]]
    expected, state = model.prompt(rows, condition=condition.expand(2, 3))
    logits, own = plain.prompt(rows)
    torch.testing.assert_close(logits, expected, **EXACT)
    for tokens in (torch.tensor([[4], [7]]), torch.tensor([[3, 5], [6, 6]])):
        torch.testing.assert_close(plain.step(tokens, own), model.step(tokens, state), **EXACT)


def test_every_norm_is_moved_that_of_the_head_too() -> None:
    """BERT's head has a norm of its own, which the condition moves as all others (kexue.fm/archives/7124)."""
    model = random_model(tiny_config(condition_size=3, application="lm"), ("lm",)).eval()
    conditions = torch.randn(2, 3, dtype=torch.float64)
    whole = model(IDS, condition=conditions)
    hidden = whole.sequence[0]
    gain, bias = (getattr(model.lm_head.norm.conditioning, name).weight for name in ("gain", "bias"))
    moved = copy.deepcopy(model.lm_head.norm)
    with torch.no_grad():
        moved.weight += gain @ conditions[0]
        moved.bias += bias @ conditions[0]
        features = moved(model.lm_head.activation(model.lm_head.transform(hidden)))
        expected = features @ model.lm_head.table.T + model.lm_head.bias
    torch.testing.assert_close(whole.lm_logits[0], expected, **EXACT)
    one_by_one = [model(IDS[row : row + 1], condition=conditions[row : row + 1]).lm_logits for row in (0, 1)]
    torch.testing.assert_close(whole.lm_logits[:1], one_by_one[0], **EXACT)


def test_it_is_saved_as_a_model_without_conditions(tmp_path: Path) -> None:
    model = random_model(tiny_config(condition_size=3, application="lm"), ("lm",), torch.float32)
    plain = under_condition(model, torch.ones(3))
    save(plain, tmp_path)
    again = load(tmp_path)
    assert again.config.condition_size is None
    assert torch.equal(again(IDS).lm_logits, plain.eval()(IDS).lm_logits)


def test_what_cannot_be_folded() -> None:
    model = random_model(tiny_config(condition_size=3, application="lm"), ("lm",))
    with pytest.raises(UserError, match=r"expected a condition of shape \[3\], got .* \[2, 3\]"):
        under_condition(model, torch.ones(2, 3))
    with pytest.raises(UserError, match="expected a model built with condition_size"):
        under_condition(random_model(tiny_config(), ("lm",)), torch.ones(3))
