"""A saved model with a head that must stop comes back to the bit, and opens without the head too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hanformer import convert, inspect
from hanformer.errors import UserError
from hanformer.models import EncoderDecoder, Transformer, load, save
from hanformer.models.checkpoint import LeftOut
from hanformer.models.self_terminating import TerminatingTransformer
from hanformer.models.terminating_files import load_writing, save_terminating, stack_of
from hanformer.nn.layers.self_terminating import NonMonotonic, SelfTerminating
from tests.harness import random_model, tiny_config
from tests.similarity.tiny import tiny_encoder, tiny_t5

PROMPTS = [[1, 5, 6], [1, 9]]


def saved(folder: Path, rule: object = SelfTerminating(0.02)) -> TerminatingTransformer:
    model = TerminatingTransformer(
        random_model(tiny_config(application="unilm"), dtype=torch.float32), 2, rule
    ).eval()
    save_terminating(model, folder)
    return model


@pytest.mark.filterwarnings("ignore:.*is left out")
@pytest.mark.parametrize("rule", [SelfTerminating(0.02), NonMonotonic(0.003)])
def test_round_trip(tmp_path: Path, rule: object) -> None:
    model = saved(tmp_path, rule)
    found = load_writing(tmp_path)
    assert found.stop.termination == rule and found.stop.end_id == 2 and not found.training
    assert torch.equal(found.prompt(PROMPTS)[0], model.prompt(PROMPTS)[0])
    half = load_writing(tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert torch.equal(load(tmp_path).prompt(PROMPTS)[0], model.transformer.prompt(PROMPTS)[0])


def test_what_leaves_the_head_out_says_so(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    saved(tmp_path / "head")
    load_writing(tmp_path / "head")
    save(load_writing(tmp_path / "head").transformer, tmp_path / "none")
    load(tmp_path / "none")
    assert not recwarn.list and inspect(tmp_path / "none").left_out is None
    for place in (tmp_path / "head", tmp_path / "head" / "model.safetensors"):
        with pytest.warns(LeftOut, match=r"the head that must stop .* is left out: .*load_writing"):
            load(place)
    assert "load_writing" in (inspect(tmp_path / "head").left_out or "")
    with pytest.warns(LeftOut):
        convert(tmp_path / "head", tmp_path / "out")


def test_saving_again_replaces(tmp_path: Path) -> None:
    saved(tmp_path)
    saved(tmp_path, NonMonotonic(0.5))
    assert load_writing(tmp_path).stop.termination == NonMonotonic(0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"termination": "other"},
        {"epsilon": 2.0},
        {"epsilon": "x"},
        {"end_id": None},
        {"end_id": 99},
        {"counts_prompt": 1},
    ],
)
def test_a_changed_description_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    saved(tmp_path)
    path = tmp_path / "stop.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}), encoding="utf-8")
    with pytest.raises(UserError, match="expected a termination|epsilon between|end token in"):
        load_writing(tmp_path)


def test_missing_and_foreign_heads_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "one")
    saved(tmp_path / "other")
    (tmp_path / "one" / "stop.json").unlink()
    with pytest.raises(UserError, match=r"stop\.json: is missing beside stop\.safetensors; write what run"):
        load_writing(tmp_path / "one")
    wide = random_model(tiny_config(application="unilm", hidden_size=32), dtype=torch.float32)
    save_terminating(TerminatingTransformer(wide, 2, SelfTerminating()), tmp_path / "one")
    (tmp_path / "one" / "stop.safetensors").replace(tmp_path / "other" / "stop.safetensors")
    with pytest.raises(UserError, match=r"expected output.weight \[1, 16\].* found output"):
        load_writing(tmp_path / "other")
    with pytest.raises(UserError, match=r"stop\.safetensors"):
        load_writing(tmp_path / "one")


def test_one_opener_for_every_model(tmp_path: Path) -> None:
    """A folder, a run, a file; with a head and without; of one stack and of two."""
    plain = saved(tmp_path / "run" / "best").transformer
    for place in ("run", "run/best", "run/best/model.safetensors"):
        found = load_writing(tmp_path / place)
        assert isinstance(found, TerminatingTransformer) and stack_of(found) is found.transformer
        assert torch.equal(found.transformer.prompt(PROMPTS)[0], plain.prompt(PROMPTS)[0])
    save(plain, tmp_path / "plain")
    found = load_writing(tmp_path / "plain", application="lm")
    assert type(found) is Transformer and found.config.application == "lm" and stack_of(found) is found
    two = TerminatingTransformer(tiny_t5(), 3, NonMonotonic(0.25), counts_prompt=True).eval()
    save_terminating(two, tmp_path / "t5")
    found = load_writing(tmp_path / "t5")
    assert isinstance(found.transformer, EncoderDecoder) and found.counts_prompt
    assert torch.equal(found.prompt(PROMPTS)[0], two.prompt(PROMPTS)[0])
    with pytest.raises(UserError, match="needs a model that generates"):
        load_writing(tmp_path / "run", application="encoder")


def test_a_plain_model_takes_the_head_of_the_one_before_it_away(tmp_path: Path) -> None:
    model = saved(tmp_path)
    (tmp_path / "notes.txt").write_text("stays", encoding="utf-8")
    save(model.transformer, tmp_path)
    assert type(load_writing(tmp_path)) is Transformer
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "notes.txt",
    ]


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
