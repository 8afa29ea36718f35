"""Published checkpoints that do not fit, in one line each; and what `strict=False` makes of them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hanformer.errors import UserError
from hanformer.models import load, save
from tests.models.families.tiny import EXPORTED, tiny_family


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A tiny BERT as transformers writes it."""
    save(tiny_family("bert"), tmp_path, format="transformers")
    return tmp_path


def say(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    values = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}), encoding="utf-8")


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"hidden_act": "softsign"}, "activation must be one of .*gelu.*got 'softsign'"),
        ({"hidden_act": ["gelu", "gelu"]}, r"hidden_act \['gelu', 'gelu'\]: expected one activation"),
        ({"hidden_size": 15}, "hidden_size 15 must be a multiple of attention_heads 2"),
        ({"vocab_size": None}, "vocab_size is missing"),
        (
            {"hidden_size": 32},
            r"wrong shape \(\d+\): bert\.embeddings\.word_embeddings\.weight \[23, 16\] instead",
        ),
        (
            {"num_hidden_layers": 3},
            r"missing \(16\): stack\.blocks\.2\.attention\.query\.weight \(looked for bert",
        ),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
    ],
)
def test_configs(said: dict[str, Any], message: str, bert: Path) -> None:
    say(bert, **said)
    with pytest.raises(UserError, match=message) as caught:
        load(bert)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("family", "said", "message"),
    [
        ("albert", {"num_hidden_groups": 2}, "num_hidden_groups is 2, and this family is built with 1 alone"),
        ("albert", {"inner_group_num": 3}, "inner_group_num is 3"),
        ("roformer", {"rotary_value": True}, "rotary_value is True"),
        ("electra_generator", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ("roberta", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ("llama", {"attention_bias": True}, "attention_bias is True"),
        ("llama", {"mlp_bias": True}, "mlp_bias is True"),
        ("llama", {"use_sliding_window": True}, "use_sliding_window is True"),
        ("llama", {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "rope_type is 'llama3'"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": None}, "'linear'"),
    ],
)
def test_what_would_pass_silently(family: str, said: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Switches of transformers that change every output and no tensor."""
    save(tiny_family(family, **EXPORTED.get(family, {})), tmp_path, format="transformers")
    load(tmp_path)
    say(tmp_path, **said)
    with pytest.raises(UserError, match=message):
        load(tmp_path)


def test_missing_and_misshapen(bert: Path) -> None:
    name = "bert.encoder.layer.1.output.dense.bias"
    change(bert, lambda tensors: tensors.pop(name))
    with pytest.raises(UserError) as caught:
        load(bert)
    text = str(caught.value)
    assert text.endswith(
        f"weights and config disagree: missing (1): stack.blocks.1.feedforward.contract.bias (looked for {name})"
    )
    change(bert, lambda tensors: tensors.update({name: torch.zeros(3)}))
    with pytest.raises(
        UserError, match=r"wrong shape \(1\): bert\..*\.output\.dense\.bias \[3\] instead of \[16\]"
    ):
        load(bert)


def test_many_missing_are_counted(bert: Path) -> None:
    change(bert, lambda tensors: [tensors.pop(name) for name in list(tensors) if "layer.1." in name])
    with pytest.raises(UserError, match=r"missing \(16\): (stack[^,]*, ){5}stack[^,]* and 10 more$"):
        load(bert)


def test_without_strictness(bert: Path) -> None:
    """Missing and misshapen parameters start anew, all others are loaded, and one warning tells both."""
    expected = load(bert, heads=("lm",)).state_dict()
    names = {"bert.encoder.layer.0.output.LayerNorm.weight", "bert.encoder.layer.1.output.dense.weight"}
    change(bert, lambda tensors: [tensors.pop(name) for name in names])
    change(
        bert, lambda tensors: tensors.update({"cls.predictions.bias": torch.zeros(7), "odd": torch.zeros(1)})
    )
    with pytest.warns(UserWarning) as caught:
        found = load(bert, heads=("lm",), strict=False).state_dict()
    (warning,) = caught
    lines = str(warning.message).splitlines()
    assert lines[0].endswith(f"{len(expected) - 3} parameters loaded")
    assert [line.split(":")[0] for line in lines[1:]] == [
        "missing (2)",
        "wrong shape (1)",
        "unexpected (1)",
        "not used by this model (4)",
    ]
    assert warning.filename == __file__, "the warning points at the caller"
    fresh = {name for name, value in found.items() if not torch.equal(value, expected[name])}
    assert fresh == {
        "stack.blocks.0.feedforward_norm.weight",
        "stack.blocks.1.feedforward.contract.weight",
        "lm_head.bias",
    }
    assert found["stack.blocks.0.feedforward_norm.weight"].eq(1).all() and not found["lm_head.bias"].any()


def test_unexpected_tensors_are_told(bert: Path) -> None:
    change(bert, lambda tensors: tensors.update({"bert.adapter.down": torch.zeros(1)}))
    with pytest.warns(UserWarning, match=r"unexpected \(1\): bert\.adapter\.down"):
        load(bert, heads=("lm",))


def test_what_training_left_is_passed_over(bert: Path) -> None:
    leftovers = ("bert.embeddings.position_ids", "global_step")
    change(bert, lambda tensors: tensors.update({name: torch.zeros(1) for name in leftovers}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(bert)


@pytest.mark.parametrize("family", ["albert", "gpt2", "t5.1.1", "electra", "roformer"])
def test_another_family_named(family: str, bert: Path) -> None:
    with pytest.raises(UserError, match="weights and config disagree: missing"):
        load(bert, family=family)


def test_a_head_that_the_file_has_not(tmp_path: Path) -> None:
    model = tiny_family("bert")
    save(model, tmp_path / "own")
    save(load(tmp_path / "own", heads=("pool",)), tmp_path / "pooled", format="transformers")
    with pytest.raises(
        UserError, match=r"lm_head\.transform\.weight \(looked for cls\.predictions\.transform"
    ):
        load(tmp_path / "pooled", heads=("lm",))
    with pytest.warns(UserWarning, match=r"missing \(5\)"):
        load(tmp_path / "pooled", heads=("lm",), strict=False)
