"""TensorFlow checkpoints: what is written has the published names and comes back bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hanformer.config import CONVENTIONS
from hanformer.errors import UserError
from hanformer.models import load, save
from hanformer.models.agreement import essence
from hanformer.models.families import FAMILIES
from hanformer.weights.source import open_source
from tests.models.families.tiny import tiny_family
from tests.models.golden import CASES, Case


def assert_same(found: Any, expected: Any) -> None:
    state = expected.state_dict()
    assert essence(found.config) == essence(expected.config)
    assert list(found.state_dict()) == list(state)
    assert all(torch.equal(found.state_dict()[name], value) for name, value in state.items())


@pytest.mark.parametrize("name", CASES)
def test_golden_names(name: str, tmp_path: Path) -> None:
    case = Case(name)
    model = case.load()
    save(model, tmp_path, format="tensorflow")
    written = open_source(tmp_path / "model.ckpt")
    published = open_source(case.folder / "model.ckpt")
    assert set(written.names()) == set(case.said["variables"]) == set(published.names())
    assert all(torch.equal(written.read(name), published.read(name)) for name in written.names())
    again = load(
        tmp_path,
        family=case.family,
        heads=case.heads,
        convention="bert4keras",
        application=model.config.application,
    )
    assert_same(again, model)


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if "tensorflow" in family.dialects], ids=lambda f: f.name
)
def test_every_family_comes_back(family: Any, tmp_path: Path) -> None:
    model = tiny_family(family.name)
    save(model, tmp_path, format="tensorflow")
    again = load(tmp_path, family=family.name, heads=model.heads)
    assert_same(again, model)
    assert again.config.family == family.name


def test_a_config_says_what_google_has_no_word_for(tmp_path: Path) -> None:
    sizes = {"attention_head_size": 6, "attention_key_size": 4, "embedding_size": 12}
    more = {"shared_segment_embeddings": True, "residual_attention": True, "hierarchical_positions": 0.3}
    model = tiny_family("bert", **sizes, **more)
    save(model, tmp_path, format="tensorflow")
    raw = json.loads((tmp_path / "bert_config.json").read_text(encoding="utf-8"))
    assert raw["attention_key_size"] == 4 and raw["shared_segment_embeddings"] is True
    assert raw["residual_attention_scores"] is True and raw["hierarchical_position"] == 0.3
    assert_same(load(tmp_path, family="bert", heads=model.heads), model)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"position": "rotary"}, "position 'rotary' \\(there 'learned'\\)"),
        ({"scale_attention": False}, "scale_attention False"),
        ({"norm": "rms_plain"}, "norm 'rms_plain'"),
    ],
)
@pytest.mark.parametrize("form", ["tensorflow", "transformers"])
def test_a_model_that_the_form_cannot_say(
    changes: dict[str, object], said: str, form: str, tmp_path: Path
) -> None:
    model = tiny_family("bert", **changes)
    with pytest.raises(
        UserError, match=f"bert: the {form} form of it cannot say .*{said}.*save as safetensors"
    ):
        save(model, tmp_path, format=form)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "family", [family for family in FAMILIES if "tensorflow" in family.dialects], ids=lambda f: f.name
)
def test_what_we_write_comes_back_without_a_word(family: Any, tmp_path: Path) -> None:
    """In every application and convention, none of which has to be named."""
    for application in family.applications:
        for convention in CONVENTIONS:
            folder = tmp_path / f"{application}-{convention}"
            model = tiny_family(family.name, application=application, convention=convention)
            save(model, folder, format="tensorflow")
            again = load(folder, heads=model.heads)
            assert_same(again, model)
            assert again.config.application == application and again.config.convention == convention


def test_who_asks_is_heard_over_the_config(tmp_path: Path) -> None:
    save(tiny_family("t5.1.0", convention="bert4keras"), tmp_path / "t5", format="tensorflow")
    assert load(tmp_path / "t5", convention="standard").config.convention == "standard"
    save(tiny_family("bert", application="lm"), tmp_path / "bert", format="tensorflow")
    assert load(tmp_path / "bert", application="encoder").config.application == "encoder"


def test_published_words_are_all_that_an_encoder_says(tmp_path: Path) -> None:
    save(tiny_family("bert"), tmp_path, format="tensorflow")
    raw = json.loads((tmp_path / "bert_config.json").read_text(encoding="utf-8"))
    assert not {"application", "convention", "model_type", "tie_word_embeddings"} & raw.keys()


def test_layers_that_differ_have_no_room(tmp_path: Path) -> None:
    model = tiny_family("albert_unshared")
    with torch.no_grad():
        model.stack.blocks[1].attention.query.weight.add_(1)
    with pytest.raises(UserError, match="the layers differ.*save as safetensors"):
        save(model, tmp_path, format="tensorflow")


def test_families_without_that_form(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="llama: there is no TensorFlow form of it"):
        save(tiny_family("llama"), tmp_path, format="tensorflow")
    with pytest.raises(UserError, match="nezha: transformers has no such model"):
        save(tiny_family("nezha"), tmp_path, format="transformers")


def test_a_generator_shares_tables_and_maps_them_itself(tmp_path: Path) -> None:
    """Google's names: one set of tables for both models, a map of each."""
    model = tiny_family("electra_generator")
    save(model, tmp_path, format="tensorflow")
    names = open_source(tmp_path / "model.ckpt").names()
    assert {"electra/embeddings/word_embeddings", "generator/embeddings_project/kernel"} <= set(names)
    assert not [
        name for name in names if name.startswith(("electra/embeddings_project", "generator/embeddings/"))
    ]
    assert_same(load(tmp_path, heads=("lm",)), model)
