"""The shape of a Transformer that is trained from scratch, as recipes hold it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.mechanisms import Mechanism
from hanformer.models.resizing import SIZES

#: How a model learns, not what it is: a pretrained one takes them over.
DROPOUTS = ("dropout", "attention_dropout")


@dataclass(frozen=True)
class Sizes:
    """The shape of the Transformer that is trained from scratch; the words are those of `ModelConfig`.

    从头训练的模型尺寸。

    `max_positions` is as many as the task needs, 512 at least, where it is none. `attention` none is softmax, and for a
    pretrained model the mechanism that it has; what else a pretrained model takes over are rates of dropout other than
    the usual. What else is none is as `ModelConfig` has it.
    """

    hidden_size: int = 192
    layers: int = 3
    attention_heads: int = 6
    intermediate_size: int = 768
    norm_place: str = "pre"
    position: str = "rotary"
    attention: Mechanism | None = None
    residual_attention: bool = False
    key_value_heads: int | None = None
    attention_key_size: int | None = None
    activation: str = "relu"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    initial_deviation: float = 0.05
    share_layers: bool = False
    max_positions: int | None = None
    hierarchical_positions: float | None = None
    relative_distance: int | None = None

    def config(
        self,
        vocab_size: int,
        application: str,
        max_positions: int,
        changes: Mapping[str, Any] | None = None,
    ) -> ModelConfig:
        """A config of this shape; `max_positions` are those that the task needs, `changes` further fields of
        `ModelConfig`. 生成模型配置。"""
        said = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        own = {name: value for name, value in said.items() if value is not None}
        places = {"max_positions": self.max_positions or max_positions}
        return ModelConfig(
            vocab_size=vocab_size, application=application, **{**own, **places, **(changes or {})}
        )

    def beside(self, usual: Sizes) -> dict[str, Any]:
        """What is said here and not there, and no pretrained model can take over. 与默认值不同且不能沿用的尺寸。"""
        return self._said(
            usual, [entry.name for entry in fields(self) if entry.name not in (*DROPOUTS, "attention")]
        )

    def dropouts(self, usual: Sizes) -> dict[str, float]:
        """The rates of dropout that are said here and not there. 与默认值不同的失活率。"""
        return self._said(usual, DROPOUTS)

    def _said(self, usual: Sizes, names: Sequence[str]) -> dict[str, Any]:
        said = {name: getattr(self, name) for name in names}
        return {
            name: value for name, value in said.items() if value is not None and value != getattr(usual, name)
        }


def check_kept(start_from: str, said: Mapping[str, Any], config: ModelConfig) -> None:
    """Raises UserError for sizes beside a pretrained model that are not its own, which is what it is trained with.

    微调时所写的尺寸须与预训练模型一致，否则拒绝，而不是忽略。
    """
    # What a config leaves open it has nevertheless.
    filled = {
        "key_value_heads": config.key_value_heads or config.attention_heads,
        "attention_key_size": config.key_size,
    }
    has = {name: filled.get(name, getattr(config, name)) for name in said}
    others = {name: value for name, value in said.items() if value != has[name]}
    if not others:
        return
    named = ", ".join(f"{name}={value}" for name, value in others.items())
    own = ", ".join(f"{name}={has[name]}" for name in others)
    changeable = [name for name in others if name not in SIZES]
    way = (
        f"; or write it to a folder (hanformer convert {start_from} FOLDER), change {', '.join(changeable)} in "
        "FOLDER/config.json, and start from there"
        if changeable
        else ""
    )
    raise UserError(
        f"{start_from}: a pretrained model keeps its sizes ({own}), and {named} would be of a new one: leave that "
        f"out{way}"
    )
