"""Broken configs of checkpoints: the path, the JSON's own word, what was expected and what came."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hanformer import ModelConfig, convert, inspect, load_tokenizer
from hanformer.errors import UserError
from hanformer.models import load, save
from hanformer.models.recurrent_store import read_recurrent_config
from tests.models.families.tiny import EXPORTED, tiny_family


def broken(folder: Path, family: str, **said: Any) -> Path:
    """A tiny model of that family as transformers writes it, with other values in its config."""
    save(tiny_family(family, **EXPORTED.get(family, {})), folder, format="transformers")
    values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**values, **said}), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("family", "said", "field"),
    [
        *(
            ("bert", {"layer_norm_eps": value}, "norm_epsilon")
            for value in ("1e-12", None, -1, 0, float("nan"))
        ),
        ("bert", {"hidden_act": "mish"}, "activation"),
        ("bert", {"initializer_range": "x"}, "initial_deviation"),
        ("bert", {"pad_token_id": "x"}, "pad_id"),
        ("bert", {"pad_token_id": 23}, "pad_id"),
        ("roberta", {"layer_norm_eps": None}, "norm_epsilon"),
        ("llama", {"rms_norm_eps": "1e-5"}, "norm_epsilon"),
        ("t5.1.1", {"layer_norm_epsilon": "x"}, "norm_epsilon"),
        ("gpt", {"layer_norm_epsilon": [1]}, "norm_epsilon"),
        *(
            ("llama", {"rope_theta": value, "rope_parameters": None}, "rotary_base")
            for value in ("x", 0, -1, None)
        ),
    ],
)
def test_values_that_cannot_be_built(family: str, said: dict[str, Any], field: str, tmp_path: Path) -> None:
    broken(tmp_path, family, **said)
    with pytest.raises(UserError, match=f"config: {field} .*got .*{next(iter(said))}") as caught:
        load(tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}: config: ") and text.count(str(tmp_path)) == 1
    assert text.endswith(f"({field} is what its JSON calls {next(iter(said))})")


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("llama", {"rope_parameters": "x"}),
        ("llama", {"rope_parameters": [1]}),
        ("roberta", {"max_position_embeddings": "x"}),
        ("roberta", {"max_position_embeddings": None}),
        ("gpt2", {"n_embd": None}),
        ("gpt2", {"activation_function": ["gelu"]}),
        ("gpt", {"n_embd": [1]}),
        ("t5.1.1", {"feed_forward_proj": 3}),
        ("bert", {"extra": "x"}),
    ],
)
def test_values_that_families_compute_with(family: str, said: dict[str, Any], tmp_path: Path) -> None:
    broken(tmp_path, family, **said)
    (key,) = said
    with pytest.raises(UserError, match=rf"^{tmp_path}: config: .*{key}"):
        load(tmp_path)


def test_changes_are_the_callers_and_name_no_path(tmp_path: Path) -> None:
    broken(tmp_path, "bert")
    with pytest.raises(UserError, match=r"^config: activation must be one of .*got 'mish'$"):
        load(tmp_path, changes={"activation": "mish"})


def test_a_config_that_nests_too_deep(tmp_path: Path) -> None:
    folder = broken(tmp_path / "m", "bert")
    (folder / "config.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.json: not a JSON file"):
        load(folder)
    with pytest.raises(UserError, match="not a JSON file"):
        ModelConfig.from_file(folder / "config.json")
    with pytest.raises(UserError, match="is no JSON"):
        read_recurrent_config(folder)


def test_a_path_that_the_system_refuses(tmp_path: Path) -> None:
    """As it refuses what lies in a closed folder, but for root too."""
    for open_it in (load, inspect, load_tokenizer):
        with pytest.raises(UserError, match="x: cannot be opened .File name too long"):
            open_it("x" * 5000)
    folder = broken(tmp_path / "m", "bert")
    with pytest.raises(UserError, match="x: could not be written"):
        convert(folder, tmp_path / ("x" * 5000))


def test_another_family_than_our_own_config_says(tmp_path: Path) -> None:
    save(tiny_family("bert"), tmp_path)
    with pytest.raises(UserError, match="its own config says the family bert; leave nezha out"):
        load(tmp_path, family="nezha")
    assert load(tmp_path, family="bert").config.family == "bert"
