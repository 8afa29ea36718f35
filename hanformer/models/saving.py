"""Saving: a model as our own folder, as a folder that transformers opens, or as a TensorFlow checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from hanformer.errors import UserError
from hanformer.models.agreement import differences
from hanformer.models.checkpoint import CONFIG_FILE, OWN_FORMAT, STOP_FILE, STOP_WEIGHTS_FILE
from hanformer.models.families import Family, family_of, recognise
from hanformer.models.families.bert import common_export
from hanformer.models.loading import Model
from hanformer.weights.atomic import write_bytes, writing_together
from hanformer.weights.source import write_bundle

WEIGHTS_FILE = "model.safetensors"
#: The version of our own format.
OWN_VERSION = 1
#: What Google's config has no word for, by the words that bert4keras takes (or, for T5, always means); it asks for the
#: application where it builds a model, and passes the word over.
_MORE_WORDS = {
    "attention_head_size": "attention_head_size",
    "attention_key_size": "attention_key_size",
    "shared_segment_embeddings": "shared_segment_embeddings",
    "residual_attention": "residual_attention_scores",
    "hierarchical_positions": "hierarchical_position",
    "decoder_layers": "decoder_layers",
    "relative_buckets": "relative_buckets",
    "relative_distance": "relative_distance",
    "application": "application",
}
FORMATS = ("safetensors", "transformers", "tensorflow")


def save(model: Model, folder: str | Path, *, format: str = "safetensors") -> None:
    """Writes a model into a folder; other files in it stay, but for the head that must stop of a model before it.

    保存模型；文件夹中的其他文件不受影响（旧模型的终止层除外）。

    `format`: "safetensors", our own, which holds every model and heads; "transformers", which that library loads
    with equal outputs; "tensorflow", which TensorFlow and bert4keras read. Weights and config are written together:
    an error leaves both as they were, and a kill never leaves new weights beside an old config.
    Raises UserError where the folder cannot be written, a full disk included, and for a model that the format has
    no names for.
    """
    if format not in FORMATS:
        raise UserError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    if format != "safetensors" and model.config.condition_size is not None:
        raise UserError(
            f"format {format}: has no conditional norms; fold a condition into them first "
            "(hanformer.models.conditioning.under_condition), or save as safetensors"
        )
    if format == "safetensors":
        write_model(folder, own_files(model))
    elif format == "transformers":
        _save_for_transformers(model, folder)
    else:
        _save_for_tensorflow(model, Path(folder))


def own_files(model: Model) -> dict[str, bytes]:
    """The files of our own format by name: weights and config. 本项目格式的各文件内容。"""
    return {WEIGHTS_FILE: to_bytes(_ready(model.state_dict())), CONFIG_FILE: config_bytes(model)}


def write_model(folder: str | Path, contents: Mapping[str, bytes]) -> None:
    """Writes the files of a model together; a head of the model before it goes, for it would fit by its shape alone.

    一次写入模型的全部文件，并移除旧模型的终止层。
    """
    left = {STOP_WEIGHTS_FILE, STOP_FILE} - contents.keys()
    with writing_together(folder, contents.keys(), left) as place:
        for name, content in contents.items():
            place(name).write_bytes(content)


def _ready(state: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    return {name: value.detach().to("cpu", dtype).contiguous() for name, value in state.items()}


def _save_for_transformers(model: Model, folder: str | Path) -> None:
    family = family_of(model.config.family)
    if family.exports is None or "transformers" not in family.dialects:
        raise UserError(f"{family.name}: transformers has no such model; save as safetensors or tensorflow")
    names = family.names("transformers", model.config, frozenset())
    tensors = _ready(names.save(model.state_dict()), _dtype(model))
    values = family.exports(model.config, model.heads)
    lost = differences(model.config, values, tensors, family, "transformers", {})
    if "application" in lost:
        raise UserError(
            f"{family.name}: transformers does not run it as {model.config.application}; load it with "
            f'application="{lost["application"][1]}" and save that, or save as safetensors'
        )
    _refuse("transformers", family, lost)
    config = _json({**values, "torch_dtype": str(_dtype(model)).removeprefix("torch.")})
    write_model(folder, {WEIGHTS_FILE: to_bytes(tensors, {"format": "pt"}), CONFIG_FILE: config})


def _refuse(format: str, family: Family, lost: Mapping[str, tuple[Any, Any]]) -> None:
    """Raises UserError where a format would bring back another model."""
    if lost:
        said = ", ".join(f"{name} {ours!r} (there {theirs!r})" for name, (ours, theirs) in lost.items())
        raise UserError(f"{family.name}: the {format} form of it cannot say {said}; save as safetensors")


def _dtype(model: Model) -> torch.dtype:
    return model.embeddings.token.weight.dtype


def _save_for_tensorflow(model: Model, folder: Path) -> None:
    family = family_of(model.config.family)
    if "tensorflow" not in family.dialects:
        raise UserError(f"{family.name}: there is no TensorFlow form of it; save as safetensors")
    tensors = _ready(family.names("tensorflow", model.config, frozenset()).save(model.state_dict()))
    values = google_config(model)
    lost = differences(model.config, values, tensors, family, "tensorflow", {})
    values.update({word: lost.pop(name)[0] for name, word in _MORE_WORDS.items() if name in lost})
    _refuse("tensorflow", family, lost)
    if recognise(frozenset(tensors), values) is not family:
        values["model_type"] = family.name
    folder.mkdir(parents=True, exist_ok=True)
    write_bundle(folder / "model.ckpt", tensors)
    write_bytes(folder / "bert_config.json", _json(values))


def google_config(model: Model) -> dict[str, Any]:
    """The JSON config in the words of Google's release, which bert4keras reads. Google 写法的配置。"""
    values = common_export(model.config)
    config = model.config
    values["hidden_act"] = config.activation
    if config.embedding_size is not None:
        values["embedding_size"] = config.embedding_size
    if config.feedforward == "gated":
        values["hidden_act"] = [config.activation, "linear"]
    if config.convention != "standard":  # what other words mean depends on it
        values["convention"] = config.convention
    values.pop("is_decoder")
    return values


def write_config(model: Model, folder: Path) -> None:
    """Writes config.json: the config and the heads of the model. 写入 config.json。"""
    write_bytes(folder / CONFIG_FILE, config_bytes(model))


def config_bytes(model: Model) -> bytes:
    """Our config.json. 本项目格式的配置。"""
    return _json({OWN_FORMAT: OWN_VERSION, **model.config.to_dict(), "heads": list(model.heads)})


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=False, indent=2) + "\n").encode()
