"""ModelConfig: three JSON dialects, unknown keys kept, and every bad word refused by name."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from hanformer.config import APPLICATIONS, NORM_PLACES, POSITIONS, ModelConfig
from hanformer.dialects import ACTIVATION_ALIASES, ALIASES
from hanformer.errors import UserError
from hanformer.nn.functional.activations import ACTIVATIONS

#: The file that Google published with its Chinese BERT.
GOOGLE = {
    "attention_probs_dropout_prob": 0.1,
    "directionality": "bidi",
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.2,
    "hidden_size": 96,
    "initializer_range": 0.02,
    "intermediate_size": 384,
    "max_position_embeddings": 512,
    "num_attention_heads": 12,
    "num_hidden_layers": 3,
    "pooler_fc_size": 768,
    "type_vocab_size": 2,
    "vocab_size": 21128,
}
#: The same sizes as transformers writes them.
HUGGING_FACE = {
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0.2,
    "hidden_size": 96,
    "initializer_range": 0.02,
    "intermediate_size": 384,
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 3,
    "pad_token_id": 3,
    "type_vocab_size": 2,
    "vocab_size": 21128,
}


def sizes(config: ModelConfig) -> tuple[int, ...]:
    return (config.vocab_size, config.hidden_size, config.layers, config.attention_heads, config.head_size)


def test_google_dialect() -> None:
    config = ModelConfig.from_dict(GOOGLE)
    assert sizes(config) == (21128, 96, 3, 12, 8)
    assert (config.intermediate_size, config.max_positions, config.segment_vocab_size) == (384, 512, 2)
    assert (config.dropout, config.attention_dropout, config.initial_deviation) == (0.2, 0.1, 0.02)
    assert (config.activation, config.norm_epsilon, config.pad_id) == ("gelu", 1e-12, 0)
    assert config.extra == {"directionality": "bidi", "pooler_fc_size": 768}


def test_hugging_face_dialect() -> None:
    config = ModelConfig.from_dict(HUGGING_FACE)
    assert sizes(config) == (21128, 96, 3, 12, 8)
    assert (config.activation, config.norm_epsilon, config.pad_id) == ("gelu_tanh", 1e-5, 3)
    assert config.family == "bert" and config.extra == {"architectures": ["BertForMaskedLM"]}
    assert ModelConfig.from_dict({**HUGGING_FACE, "pad_token_id": None}).pad_id is None


def test_own_dialect_round_trip(tmp_path: Path) -> None:
    config = ModelConfig.from_dict({**GOOGLE, "application": "unilm", "position": "rotary"})
    assert ModelConfig.from_dict(config.to_dict()) == config
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    assert ModelConfig.from_file(tmp_path / "config.json") == config


def test_aliases_lead_to_fields() -> None:
    fields = {field.name for field in dataclasses.fields(ModelConfig)}
    assert set(ALIASES.values()) <= fields and not set(ALIASES) & fields
    assert set(ACTIVATION_ALIASES.values()) <= set(ACTIVATIONS) and not set(ACTIVATION_ALIASES) & set(
        ACTIVATIONS
    )


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig(vocab_size=5).layers = 3  # type: ignore[misc]


def test_hashable() -> None:
    first, second = (ModelConfig.from_dict({**GOOGLE, "list": [1]}) for _ in range(2))
    assert first == second and hash(first) == hash(second)
    assert first != first.changed({"extra": {}}) and first != first.changed({"layers": 2})


def test_changed() -> None:
    config = ModelConfig(vocab_size=5)
    assert config.changed({"layers": 2}).layers == 2 and config.layers == 12
    with pytest.raises(UserError, match=r"unknown field 'layer'.*layers"):
        config.changed({"layer": 2})
    with pytest.raises(UserError, match="layers"):
        config.changed({"layers": 0})


@pytest.mark.parametrize("name", ["application", "position", "norm_place", "activation"])
@pytest.mark.parametrize("word", ["Causal ", "", None, 3])
def test_bad_words(name: str, word: object) -> None:
    with pytest.raises(UserError, match=rf"{name} must be one of .*, got {word!r}"):
        ModelConfig.from_dict({"vocab_size": 5, name: word})


@pytest.mark.parametrize("words", [APPLICATIONS, POSITIONS, NORM_PLACES])
def test_good_words(words: tuple[str, ...]) -> None:
    name = {"encoder": "application", "learned": "position", "post": "norm_place"}[words[0]]
    assert [getattr(ModelConfig(vocab_size=5).changed({name: word}), name) for word in words] == list(words)


@pytest.mark.parametrize(
    "name",
    ["vocab_size", "hidden_size", "layers", "attention_heads", "intermediate_size", "max_positions"],
)
@pytest.mark.parametrize("value", [0, -1, 1.5, "12", None, True])
def test_bad_sizes(name: str, value: object) -> None:
    with pytest.raises(UserError, match=f"{name} must be a whole number of at least 1"):
        ModelConfig.from_dict({"vocab_size": 5, name: value})


@pytest.mark.parametrize("name", ["dropout", "attention_dropout"])
@pytest.mark.parametrize("value", [1, -0.1, float("nan"), "0.1", None])
def test_bad_rates(name: str, value: object) -> None:
    with pytest.raises(UserError, match=f"{name} is a rate"):
        ModelConfig.from_dict({"vocab_size": 5, name: value})


@pytest.mark.parametrize(
    "name", ["norm_epsilon", "embedding_norm_epsilon", "rotary_base", "initial_deviation"]
)
@pytest.mark.parametrize("value", ["1e-12", None, 0, -1, True, [1.0], float("nan"), float("inf")])
def test_bad_numbers(name: str, value: object) -> None:
    if value is None and name == "embedding_norm_epsilon":
        assert ModelConfig.from_dict({"vocab_size": 5, name: None}).embedding_norm_epsilon is None
        return
    with pytest.raises(UserError, match=f"config: {name} must be a number above 0, got"):
        ModelConfig.from_dict({"vocab_size": 5, name: value})


@pytest.mark.parametrize("value", ["x", 5, -2, 1.0, True, [0]])
def test_bad_padding(value: object) -> None:
    with pytest.raises(UserError, match="pad_id must be an id of the vocabulary, 0 to 4, or null"):
        ModelConfig.from_dict({"vocab_size": 5, "pad_token_id": value})


def test_padding_of_early_llamas() -> None:
    """They write -1 where nothing stands for padding."""
    assert ModelConfig.from_dict({"vocab_size": 5, "pad_token_id": -1}).pad_id is None


@pytest.mark.parametrize("key", ["rope_parameters", "rope_scaling", "extra"])
@pytest.mark.parametrize("value", ["x", [1], 3])
def test_bad_records(key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"config: {key} must be a JSON object"):
        ModelConfig.from_dict({"vocab_size": 5, key: value})


def test_rotary_bases() -> None:
    assert ModelConfig.from_dict({"vocab_size": 5, "rope_theta": 1000000}).rotary_base == 1e6
    inside = {"vocab_size": 5, "rope_parameters": {"rope_theta": "x"}}
    with pytest.raises(UserError, match="rotary_base must be a number above 0, got 'x'"):
        ModelConfig.from_dict(inside)


@pytest.mark.parametrize("key", ["hierarchical_position", "hierarchical_positions"])
@pytest.mark.parametrize("value", ["x", [0.4], 1, 0.5, float("nan")])
def test_bad_hierarchical_positions(key: str, value: object) -> None:
    with pytest.raises(UserError, match="hierarchical_positions lies between 0 and 1"):
        ModelConfig.from_dict({"vocab_size": 5, key: value})


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(UserError, match=r"hidden_size 10 .* attention_heads 4"):
        ModelConfig(vocab_size=5, hidden_size=10, attention_heads=4)


def test_no_segments_is_a_choice() -> None:
    assert ModelConfig(vocab_size=5, segment_vocab_size=0).segment_vocab_size == 0


def test_no_vocabulary_size() -> None:
    with pytest.raises(UserError, match="vocab_size is missing"):
        ModelConfig.from_dict({"hidden_size": 8})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a JSON file"),
        (b'{"vocab_size": 5', "truncated"),
        (b"\xff\xfe\x00", "not a JSON file"),
        (b"[1, 2]", "expected a JSON object, got list"),
        (b"{}", "vocab_size is missing"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        ModelConfig.from_file(path)


def test_missing_file_and_folder_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        ModelConfig.from_file(tmp_path / "config.json")
    with pytest.raises(UserError, match="cannot be read"):
        ModelConfig.from_file(tmp_path)
