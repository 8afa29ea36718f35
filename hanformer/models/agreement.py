"""Whether a foreign config says all that a model is: what is written must mean the same when it is read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.models.checkpoint import Checkpoint
from hanformer.models.families import Family
from hanformer.weights.protocols import TensorInfo

#: What changes no output: rates of dropout, the start of training, what stands for padding, keys of others.
_WITHOUT_EFFECT = {
    "extra",
    "family",
    "dropout",
    "attention_dropout",
    "initial_deviation",
    "pad_id",
}
#: Fields that have an effect only where another has that value.
_ONLY_WITH = {
    "max_positions": ("position", ("learned",)),
    "rotary_base": ("position", ("rotary",)),
    "relative_buckets": ("position", ("relative_buckets",)),
    "relative_distance": ("position", ("relative_buckets", "relative_sinusoidal")),
    "condition_hidden_size": ("condition_size", ()),
}


@dataclass(frozen=True)
class Held:
    """Tensors in memory as a Source. 内存中的张量，作为 Source 使用。"""

    tensors: Mapping[str, Tensor]
    origin: str = "memory"
    format: str = "safetensors"

    def names(self) -> tuple[str, ...]:
        """All names."""
        return tuple(self.tensors)

    def info(self, name: str) -> TensorInfo:
        """Shape and dtype of a tensor."""
        return TensorInfo(name, tuple(self.tensors[name].shape), self.tensors[name].dtype)

    def read(self, name: str) -> Tensor:
        """The tensor itself."""
        return self.tensors[name]


def essence(config: ModelConfig) -> dict[str, Any]:
    """The fields of a config that change outputs, with what None stands for. 配置中影响输出的字段。"""
    found = {entry.name: getattr(config, entry.name) for entry in fields(config)}
    found = {name: value for name, value in found.items() if name not in _WITHOUT_EFFECT}
    for name, (other, values) in _ONLY_WITH.items():
        if found[other] not in values:
            del found[name]
    if config.decoder_layers is None:
        del found["convention"]
    implied = "before_dropout" if config.norm_place == "post" else "none"
    found.update(
        embedding_size=config.embedding_width,
        attention_head_size=config.head_size,
        attention_key_size=config.key_size,
        key_value_heads=config.groups,
        embedding_norm=config.embedding_norm or implied,
        embedding_norm_epsilon=config.embedding_norm_epsilon or config.norm_epsilon,
    )
    return found


def differences(
    config: ModelConfig,
    written: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    family: Family,
    dialect: str,
    asked: Mapping[str, Any],
) -> dict[str, tuple[Any, Any]]:
    """Fields that a written config would not bring back: name to (what the model has, what would be read).

    写出的外来配置再读入时会改变的字段。

    `asked` are the words that a reader says himself, as `load(..., application=)` does.
    """
    again = essence(Checkpoint("", written, Held(tensors), dialect, family).config(asked))
    return {
        name: (value, again.get(name)) for name, value in essence(config).items() if again.get(name) != value
    }
