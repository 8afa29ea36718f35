"""ModelConfig: one frozen record of sizes and choices, read from every JSON dialect through one alias table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from hanformer.errors import UserError
from hanformer.nn.functional.activations import ACTIVATIONS

APPLICATIONS = ("encoder", "lm", "unilm")
POSITIONS = ("learned", "sinusoidal", "rotary", "none")
NORM_PLACES = ("post", "pre")

#: Foreign key -> our key. Google, Hugging Face and bert4keras words stand here side by side.
ALIASES: dict[str, str] = {
    "num_hidden_layers": "layers",
    "num_attention_heads": "attention_heads",
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "max_position_embeddings": "max_positions",
    "type_vocab_size": "segment_vocab_size",
    "layer_norm_eps": "norm_epsilon",
    "pad_token_id": "pad_id",
    "model_type": "family",
    "initializer_range": "initial_deviation",
}

#: The least value of each size.
_LEAST = {
    "vocab_size": 1,
    "hidden_size": 1,
    "layers": 1,
    "attention_heads": 1,
    "intermediate_size": 1,
    "max_positions": 1,
    "segment_vocab_size": 0,
}

#: What the same words mean elsewhere.
ACTIVATION_ALIASES = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "quick_gelu": "gelu_sigmoid"}


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and choices of a Transformer; choices are resolved when a model is built, never while it runs.

    模型的全部尺寸与选择；构建时确定，前向计算中不再判断。

    Sizes are counts of channels, heads, layers, tokens or segment ids; `dropout` and `attention_dropout` are
    rates; `initial_deviation` is the standard deviation of the truncated normal that starts the weights.
    `application` sets who sees whom: encoder (all), lm (the left), unilm (segment 0 all, segment 1 the left).
    `position`: sinusoidal multiplies the learned embeddings by the root of `hidden_size`, as Vaswani et al. do.
    `activation` is exact: gelu is the erf form, gelu_tanh and gelu_sigmoid its approximations.
    `extra` keeps the keys of a foreign JSON that have no meaning here.
    Raises UserError for a size or word that cannot be built.
    """

    vocab_size: int
    hidden_size: int = 768
    layers: int = 12
    attention_heads: int = 12
    intermediate_size: int = 3072
    max_positions: int = 512
    segment_vocab_size: int = 2
    activation: str = "gelu"
    norm_epsilon: float = 1e-12
    norm_place: str = "post"
    position: str = "learned"
    application: str = "encoder"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    initial_deviation: float = 0.02
    pad_id: int | None = 0
    family: str = "bert"
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_words()

    def _check_sizes(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UserError(f"config: {name} must be a whole number of at least {least}, got {value!r}")
        if self.hidden_size % self.attention_heads:
            raise UserError(
                f"config: hidden_size {self.hidden_size} must be a multiple of "
                f"attention_heads {self.attention_heads}"
            )
        if not self.initial_deviation > 0:
            raise UserError(f"config: initial_deviation must be above 0, got {self.initial_deviation!r}")
        for name in ("dropout", "attention_dropout"):
            rate = getattr(self, name)
            if not isinstance(rate, (int, float)) or not 0 <= rate < 1:
                raise UserError(f"config: {name} is a rate from 0 up to 1, got {rate!r}")

    def _check_words(self) -> None:
        for name, words in (
            ("activation", tuple(ACTIVATIONS)),
            ("application", APPLICATIONS),
            ("position", POSITIONS),
            ("norm_place", NORM_PLACES),
        ):
            if getattr(self, name) not in words:
                raise UserError(
                    f"config: {name} must be one of {', '.join(words)}, got {getattr(self, name)!r}"
                )

    @property
    def head_size(self) -> int:
        """Channels of one head, D."""
        return self.hidden_size // self.attention_heads

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Reads a JSON object in any dialect of ALIASES; unknown keys are kept in `extra`.

        读取任一种写法的配置；不认识的键保留在 extra 中。
        """
        known = {entry.name for entry in fields(cls)}
        own: dict[str, Any] = {}
        extra: dict[str, Any] = dict(values.get("extra") or {})
        for key, value in values.items():
            name = ALIASES.get(key, key)
            if name == "extra":
                continue
            if name in known:
                own[name] = value
            else:
                extra[key] = value
        if "vocab_size" not in own:
            raise UserError("config: vocab_size is missing; is this the config.json of a model?")
        if isinstance(word := own.get("activation"), str):
            own["activation"] = ACTIVATION_ALIASES.get(word, word)
        return cls(**own, extra=extra)

    @classmethod
    def from_file(cls, path: str | Path) -> ModelConfig:
        """Reads a JSON file. 读取 JSON 配置文件。"""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; expected the config.json of a model") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); expected a JSON file") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not a JSON file ({error}); is it truncated?") from None
        if not isinstance(values, dict):
            raise UserError(f"{path}: expected a JSON object, got {type(values).__name__}")
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON. 转为普通字典。"""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        values["extra"] = dict(self.extra)
        return values

    def changed(self, changes: Mapping[str, Any]) -> ModelConfig:
        """A copy with some fields changed, validated by name.

        修改若干字段后的副本；字段名会被检查。
        """
        known = {entry.name for entry in fields(self)}
        for name in changes:
            if name not in known:
                raise UserError(f"config: unknown field {name!r}; the fields are {', '.join(sorted(known))}")
        return replace(self, **changes)
