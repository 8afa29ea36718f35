"""A saved model with a head that must stop comes back to the bit, and opens without the head too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hanformer.errors import UserError
from hanformer.models import load
from hanformer.models.self_terminating import TerminatingTransformer
from hanformer.models.terminating_files import load_terminating, save_terminating
from hanformer.nn.layers.self_terminating import NonMonotonic, SelfTerminating
from tests.harness import random_model, tiny_config
from tests.similarity.tiny import tiny_encoder

PROMPTS = [[1, 5, 6], [1, 9]]


def saved(folder: Path, rule: object = SelfTerminating(0.02)) -> TerminatingTransformer:
    model = TerminatingTransformer(
        random_model(tiny_config(application="unilm"), dtype=torch.float32), 2, rule
    ).eval()
    save_terminating(model, folder)
    return model


@pytest.mark.parametrize("rule", [SelfTerminating(0.02), NonMonotonic(0.003)])
def test_round_trip(tmp_path: Path, rule: object) -> None:
    model = saved(tmp_path, rule)
    found = load_terminating(tmp_path)
    assert found.stop.termination == rule and found.stop.end_id == 2 and not found.training
    assert torch.equal(found.prompt(PROMPTS)[0], model.prompt(PROMPTS)[0])
    half = load_terminating(tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert torch.equal(load(tmp_path).prompt(PROMPTS)[0], model.model.prompt(PROMPTS)[0])


def test_saving_again_replaces(tmp_path: Path) -> None:
    saved(tmp_path)
    saved(tmp_path, NonMonotonic(0.5))
    assert load_terminating(tmp_path).stop.termination == NonMonotonic(0.5)


@pytest.mark.parametrize(
    "change", [{"termination": "other"}, {"epsilon": 2.0}, {"epsilon": "x"}, {"end_id": None}, {"end_id": 99}]
)
def test_a_changed_description_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    saved(tmp_path)
    path = tmp_path / "stop" / "stop.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}), encoding="utf-8")
    with pytest.raises(UserError, match="expected a termination|epsilon between|end token in"):
        load_terminating(tmp_path)


def test_missing_and_foreign_heads_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "one")
    saved(tmp_path / "other")
    (tmp_path / "one" / "stop" / "stop.json").unlink()
    with pytest.raises(UserError, match=r"stop\.json: no such file"):
        load_terminating(tmp_path / "one")
    wide = random_model(tiny_config(application="unilm", hidden_size=32), dtype=torch.float32)
    save_terminating(TerminatingTransformer(wide, 2, SelfTerminating()), tmp_path / "one")
    (tmp_path / "one" / "stop" / "stop.safetensors").replace(tmp_path / "other" / "stop" / "stop.safetensors")
    with pytest.raises(UserError, match=r"expected output.weight \[1, 16\].* found output"):
        load_terminating(tmp_path / "other")


class Never:
    """A rule of the user's own, that never ends."""

    start = 0.0

    def lasting(self, scores: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(scores)

    passing = lasting


def test_only_models_that_generate(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a model that generates"):
        TerminatingTransformer(tiny_encoder(), 2, SelfTerminating())
    with pytest.raises(UserError, match=r"end token in 0\.\.22, got 23"):
        TerminatingTransformer(random_model(tiny_config(application="lm")), 23, SelfTerminating())
    with pytest.raises(UserError, match="expected a SelfTerminating or NonMonotonic head"):
        saved(tmp_path, Never())
