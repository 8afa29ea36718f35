"""Every family in every application that it has, through the harness; what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hanformer.errors import UserError
from hanformer.models import load, save
from hanformer.models.families import FAMILIES, Family, family_of
from tests.harness import check_model
from tests.models.families.tiny import tiny_config_of, tiny_family

SINGLE = tuple(family for family in FAMILIES if not family.name.startswith(("t5", "mt5")))
READERS = ("gpt", "gpt2", "gpt2_ml", "llama")


def cases(family: Family) -> list[tuple[str, str]]:
    """GPT kinds know no encoder: the word means lm there."""
    words = [word for word in family.applications if word != "encoder" or family.application != "lm"]
    return [(family.name, word) for word in words]


@pytest.mark.parametrize(("name", "application"), [case for family in SINGLE for case in cases(family)])
def test_harness(name: str, application: str) -> None:
    heads = tuple(head for head in family_of(name).heads if head in ("lm", "pool"))
    check_model(tiny_config_of(name, application=application), heads)


@pytest.mark.parametrize("family", SINGLE, ids=lambda family: family.name)
def test_applications_and_heads(family: Family, tmp_path: Path) -> None:
    model = tiny_family(family.name)
    save(model, tmp_path)
    for application in family.applications:
        loaded = load(tmp_path, application=application)
        aliased = application == "encoder" and family.application == "lm"
        assert loaded.config.application == ("lm" if aliased else application)
        assert loaded.heads == model.heads
    for head in family.heads:
        assert head in load(tmp_path, heads=(head,)).heads
    assert load(tmp_path, heads=()).heads == ()
    wrong = sorted({"lm", "pool", "nsp", "discriminator"} - set(family.heads))[0]
    with pytest.raises(UserError, match=f"{family.name} has the heads .*, not {wrong}"):
        load(tmp_path, heads=(wrong,))


@pytest.mark.parametrize("application", ["lm", "unilm"])
def test_a_discriminator_writes_nothing(application: str, tmp_path: Path) -> None:
    save(tiny_family("electra"), tmp_path)
    with pytest.raises(UserError, match=f"electra serves as encoder, not as {application}"):
        load(tmp_path, application=application)
    with pytest.raises(UserError, match="electra has the heads discriminator, not lm"):
        load(tmp_path, heads=("mlm",))


@pytest.mark.parametrize("name", READERS)
def test_a_reader_of_the_left(name: str, tmp_path: Path) -> None:
    """Without a word, and as "encoder", no token sees what comes later."""
    save(tiny_family(name), tmp_path)
    ids, changed = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[5, 6, 7, 3]])
    for application in (None, "encoder"):
        model = load(tmp_path, application=application)
        assert model.config.application == "lm" and model.heads == ("lm",)
        first, second = (model(each).sequence[0] for each in (ids, changed))
        assert torch.equal(first[:3], second[:3]) and not torch.equal(first[3], second[3])


@pytest.mark.parametrize("application", ["lm", "unilm"])
def test_an_encoder_decoder_is_what_it_is(application: str, tmp_path: Path) -> None:
    save(tiny_family("t5.1.1"), tmp_path)
    with pytest.raises(UserError, match=f"t5.1.1 serves as encoder, not as {application}"):
        load(tmp_path, application=application)
    with pytest.raises(UserError, match="t5.1.1 has the heads lm, not pool"):
        load(tmp_path, heads=("pool",))


@pytest.mark.parametrize(("name", "there"), [("bert", "encoder"), ("gpt2", "lm")])
def test_transformers_has_no_unilm(name: str, there: str, tmp_path: Path) -> None:
    save(tiny_family(name), tmp_path / "own")
    model = load(tmp_path / "own", application="unilm")
    with pytest.raises(UserError, match=f'does not run it as unilm; load it with application="{there}"'):
        save(model, tmp_path / "theirs", format="transformers")
    save(load(tmp_path / "own", application=there), tmp_path / "theirs", format="transformers")
