"""ModelConfig: one frozen record of sizes and choices, read from JSON in any of the `dialects`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from hanformer.dialects import in_our_words, is_count
from hanformer.errors import UserError
from hanformer.mechanisms import Mechanism, Softmax
from hanformer.nn.functional.activations import ACTIVATIONS

APPLICATIONS = ("encoder", "lm", "unilm")
POSITIONS = (
    "learned",
    "sinusoidal",
    "rotary",
    "rotary_halves",
    "relative_sinusoidal",
    "relative_buckets",
    "alibi",
    "none",
)
NORM_PLACES = ("post", "pre", "feedforward")
NORMS = ("layer", "rms", "rms_plain")
EMBEDDING_NORMS = ("before_dropout", "after_dropout", "none")
BIASES = ("all", "query_key_value", "none")
FEEDFORWARDS = ("plain", "gated")
LM_HEADS = ("transform", "transform_untied", "tied", "mapped", "untied")
CONVENTIONS = ("standard", "bert4keras")

#: The least value of each size; those that may be None stand for what another size says.
_LEAST = {
    "vocab_size": 1,
    "hidden_size": 1,
    "layers": 1,
    "attention_heads": 1,
    "intermediate_size": 1,
    "max_positions": 1,
    "segment_vocab_size": 0,
    "relative_buckets": 4,
    "relative_distance": 1,
}
#: The most of each size; of all others what 32 bits count to. A config that says more is damaged, or made to harm.
_MOST_OF = {"layers": 2_000, "decoder_layers": 2_000, "attention_heads": 65_536}
_MOST = 2**31 - 1
_LEAST_OPTIONAL = {
    "embedding_size": 1,
    "attention_head_size": 1,
    "attention_key_size": 1,
    "key_value_heads": 1,
    "decoder_layers": 1,
    "condition_size": 1,
    "condition_hidden_size": 1,
}
#: Fields that computing divides by, or takes powers or roots of.
_POSITIVE = ("norm_epsilon", "embedding_norm_epsilon", "rotary_base", "initial_deviation")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and choices of a Transformer; choices are resolved when a model is built, never while it runs.

    模型的全部尺寸与选择；构建时确定，前向计算中不再判断。

    Sizes are counts of channels, heads, layers, tokens or segment ids. `embedding_size` is the width of a
    factorised embedding, `attention_key_size` that of a head's queries and keys, `attention_head_size` that of
    its values; None means what the other sizes imply. `key_value_heads` is below `attention_heads` where groups
    of query heads share keys and values.
    `application` sets who sees whom: encoder (all), lm (the left), unilm (segment 0 all, segment 1 the left).
    `position`: learned and sinusoidal are added to embeddings (sinusoidal multiplies what was learned by
    √`embedding_size` first, as Vaswani et al. do), rotary turns neighbouring channels of queries and keys by
    `rotary_base` (rotary_halves: channels half a head apart), relative_sinusoidal adds a fixed table clipped at
    `relative_distance` to keys and values (NEZHA), relative_buckets a learned bias (T5), alibi a slope of the
    distance for each head. `hierarchical_positions` is α of the extended table (kexue.fm/archives/7947).
    `norm`: layer, rms (a gain, no mean, no bias), rms_plain (no gain either). `norm_place`: post (x ← N(x + f(x))),
    pre (x ← x + f(N(x))), feedforward (GPT2-ML: norms before and after the feed-forward layer only).
    `biases`: in all linear layers, in query, key and value alone, or nowhere. `feedforward`: plain, or gated
    (act(xU) ⊙ xV). `attention` is the mechanism: a record of `hanformer.mechanisms`, or its name.
    `scale_attention` divides logits by the root of the key size; `residual_attention` adds the logits of the layer
    below (RealFormer). `condition_size` makes every norm conditional (kexue.fm/archives/7124); `conditions` are the
    names of conditions that the model has learned, a vector each.
    `lm_head`: transform (BERT's), transform_untied (the same over a table of its own), tied (the token table), mapped
    (a bias-free map to the embedding's width, then the table), untied (its own table); `scale_lm` divides hidden
    states by √`hidden_size` first.
    `activation` is exact: gelu is the erf form, gelu_tanh and gelu_sigmoid its approximations.
    `convention` chooses between what publishers and what bert4keras compute where the two differ (T5).
    `dropout` and `attention_dropout` are rates; `initial_deviation` is the standard deviation of the truncated
    normal that starts the weights. `extra` keeps the keys of a foreign JSON that have no meaning here.
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
    embedding_size: int | None = None
    attention_head_size: int | None = None
    attention_key_size: int | None = None
    key_value_heads: int | None = None
    decoder_layers: int | None = None
    norm: str = "layer"
    norm_epsilon: float = 1e-12
    norm_place: str = "post"
    embedding_norm: str | None = None
    embedding_norm_epsilon: float | None = None
    biases: str = "all"
    feedforward: str = "plain"
    position: str = "learned"
    rotary_base: float = 10000.0
    relative_buckets: int = 32
    relative_distance: int = 128
    hierarchical_positions: float | None = None
    attention: Mechanism = field(default_factory=Softmax)
    scale_attention: bool = True
    residual_attention: bool = False
    share_layers: bool = False
    shared_segment_embeddings: bool = False
    condition_size: int | None = None
    condition_hidden_size: int | None = None
    conditions: tuple[str, ...] = ()
    lm_head: str = "transform"
    scale_lm: bool = False
    pool_activation: str = "tanh"
    application: str = "encoder"
    convention: str = "standard"
    dropout: float = 0.1
    attention_dropout: float = 0.1
    initial_deviation: float = 0.02
    pad_id: int | None = 0
    family: str = "bert"
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not isinstance(self.attention, Mechanism):
            object.__setattr__(self, "attention", _mechanism(self.attention))
        object.__setattr__(self, "conditions", _conditions(self.conditions))
        self._check_sizes()
        self._check_conditions()
        self._check_words()
        self._check_numbers()

    def _check_sizes(self) -> None:
        for name, least in {**_LEAST, **_LEAST_OPTIONAL}.items():
            value = getattr(self, name)
            if value is None and name in _LEAST_OPTIONAL:
                continue
            if not is_count(value, least):
                raise UserError(f"config: {name} must be a whole number of at least {least}, got {value!r}")
            if value > _MOST_OF.get(name, _MOST):
                raise UserError(f"config: {name} must be at most {_MOST_OF.get(name, _MOST)}, got {value!r}")
        if self.attention_head_size is None and self.hidden_size % self.attention_heads:
            raise UserError(
                f"config: hidden_size {self.hidden_size} must be a multiple of "
                f"attention_heads {self.attention_heads}"
            )
        if self.attention_heads % self.groups:
            raise UserError(
                f"config: attention_heads {self.attention_heads} must be a multiple of "
                f"key_value_heads {self.key_value_heads}"
            )

    def _check_conditions(self) -> None:
        if not self.conditions:
            return
        if self.condition_size is None:
            raise UserError("config: conditions have vectors of condition_size channels: say how many")
        if self.decoder_layers is not None:
            raise UserError("config: conditions belong to a model of one stack; leave decoder_layers out")

    def _check_numbers(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            implied = value is None and name == "embedding_norm_epsilon"
            if not implied and not (_is_number(value) and 0 < value < math.inf):
                raise UserError(f"config: {name} must be a number above 0, got {value!r}")
        for name in ("dropout", "attention_dropout"):
            rate = getattr(self, name)
            if not isinstance(rate, (int, float)) or not 0 <= rate < 1:
                raise UserError(f"config: {name} is a rate from 0 up to 1, got {rate!r}")
        if self.pad_id is not None and not (is_count(self.pad_id) and self.pad_id < self.vocab_size):
            raise UserError(
                f"config: pad_id must be an id of the vocabulary, 0 to {self.vocab_size - 1}, or null for none, "
                f"got {self.pad_id!r}"
            )
        if self.hierarchical_positions is not None:
            self._check_hierarchical_positions(self.hierarchical_positions)

    def _check_hierarchical_positions(self, alpha: float) -> None:
        if not _is_number(alpha) or not 0 < alpha < 1 or alpha == 0.5:
            raise UserError(
                f"config: hierarchical_positions lies between 0 and 1 and is not 0.5 (places (i, j) and (j, i) "
                f"would be one), got {alpha!r}"
            )
        if self.position != "learned":
            raise UserError(
                f"config: hierarchical_positions extend a table of learned positions; position is {self.position}, "
                "which needs no table: leave them out"
            )

    def _check_words(self) -> None:
        for name, words in (
            ("activation", tuple(ACTIVATIONS)),
            ("application", APPLICATIONS),
            ("position", POSITIONS),
            ("norm_place", NORM_PLACES),
            ("norm", NORMS),
            ("biases", BIASES),
            ("feedforward", FEEDFORWARDS),
            ("lm_head", LM_HEADS),
            ("convention", CONVENTIONS),
            ("pool_activation", tuple(ACTIVATIONS)),
            ("embedding_norm", (None, *EMBEDDING_NORMS)),
        ):
            if getattr(self, name) not in words:
                raise UserError(
                    f"config: {name} must be one of {', '.join(map(str, words))}, got {getattr(self, name)!r}"
                )

    @property
    def head_size(self) -> int:
        """Channels of one head's values, D. 每个头的值维度。"""
        return self.attention_head_size or self.hidden_size // self.attention_heads

    @property
    def key_size(self) -> int:
        """Channels of one head's queries and keys. 每个头的查询与键维度。"""
        return self.attention_key_size or self.head_size

    @property
    def groups(self) -> int:
        """The number of key and value heads. 键值头数。"""
        return self.key_value_heads or self.attention_heads

    @property
    def embedding_width(self) -> int:
        """Channels of the token table. 词嵌入维度。"""
        return self.embedding_size or self.hidden_size

    @property
    def has_biases(self) -> bool:
        """Whether linear layers other than query, key and value have a bias."""
        return self.biases == "all"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Reads a JSON object in any dialect; unknown keys are kept in `extra`.

        读取任一种写法的配置；不认识的键保留在 extra 中。
        """
        own = cls.words(values)
        if "vocab_size" not in own:
            raise UserError("config: vocab_size is missing; is this the config.json of a model?")
        return cls(**own)

    @classmethod
    def words(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a JSON object under our names; unknown keys stand in `extra`.

        把外来写法换成本项目的字段名。
        """
        return in_our_words(values, {entry.name for entry in fields(cls)})

    @classmethod
    def from_file(cls, path: str | Path) -> ModelConfig:
        """Reads a JSON file. 读取 JSON 配置文件。"""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; expected the config.json of a model") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); expected a JSON file") from None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not a JSON file ({error}); is it truncated?") from None
        if not isinstance(values, dict):
            raise UserError(f"{path}: expected a JSON object, got {type(values).__name__}")
        return cls.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON. 转为普通字典。"""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        values["attention"] = self.attention.to_dict()
        values["conditions"] = list(self.conditions)
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


def _mechanism(given: Any) -> Mechanism:
    try:
        chosen: Mechanism = Mechanism.from_dict(given)
    except UserError as error:
        raise UserError(f"config: attention: {error}") from None
    return chosen


def _conditions(given: Any) -> tuple[str, ...]:
    """Names of conditions; a JSON file holds them as a list."""
    listed = isinstance(given, (list, tuple)) and all(isinstance(name, str) and name for name in given)
    if not listed or len(set(given)) != len(given):
        raise UserError(f"config: conditions must be a list of names that differ, got {given!r}"[:300])
    return tuple(given)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
