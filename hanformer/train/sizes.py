"""The shape of a Transformer that is trained from scratch, as recipes hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from hanformer.config import ModelConfig
from hanformer.mechanisms import Mechanism, Softmax


@dataclass(frozen=True)
class Sizes:
    """The shape of the Transformer that is trained from scratch; the words are those of `ModelConfig`.

    从头训练的模型尺寸。

    `max_positions` is as many as the task needs, 512 at least, where it is none.
    """

    hidden_size: int = 192
    layers: int = 3
    attention_heads: int = 6
    intermediate_size: int = 768
    norm_place: str = "pre"
    position: str = "rotary"
    attention: Mechanism = field(default_factory=Softmax)
    activation: str = "relu"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    initial_deviation: float = 0.05
    share_layers: bool = False
    max_positions: int | None = None
    hierarchical_positions: float | None = None

    def config(
        self,
        vocab_size: int,
        application: str,
        max_positions: int,
        changes: Mapping[str, Any] | None = None,
    ) -> ModelConfig:
        """A config of this shape; `max_positions` are those that the task needs, `changes` further fields of
        `ModelConfig`. 生成模型配置。"""
        own = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        own["max_positions"] = self.max_positions or max_positions
        return ModelConfig(vocab_size=vocab_size, application=application, **{**own, **(changes or {})})
