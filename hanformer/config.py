"""ModelConfig: one frozen record of sizes and choices, read from every JSON dialect through one alias table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

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

#: Foreign key -> our key. Google, Hugging Face and bert4keras words stand here side by side.
ALIASES: dict[str, str] = {
    "num_hidden_layers": "layers",
    "num_attention_heads": "attention_heads",
    "num_key_value_heads": "key_value_heads",
    "head_dim": "attention_head_size",
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "max_position_embeddings": "max_positions",
    "max_position": "max_positions",
    "type_vocab_size": "segment_vocab_size",
    "layer_norm_eps": "norm_epsilon",
    "rms_norm_eps": "norm_epsilon",
    "rope_theta": "rotary_base",
    "pad_token_id": "pad_id",
    "model_type": "family",
    "initializer_range": "initial_deviation",
    "residual_attention_scores": "residual_attention",
    # GPT and GPT-2 as transformers writes them
    "n_embd": "hidden_size",
    "n_layer": "layers",
    "n_head": "attention_heads",
    "n_positions": "max_positions",
    "n_inner": "intermediate_size",
    "layer_norm_epsilon": "norm_epsilon",
    "afn": "activation",
    "activation_function": "activation",
    "resid_pdrop": "dropout",
    "attn_pdrop": "attention_dropout",
    # T5 as transformers writes it
    "d_model": "hidden_size",
    "d_ff": "intermediate_size",
    "d_kv": "attention_head_size",
    "num_layers": "layers",
    "num_decoder_layers": "decoder_layers",
    "num_heads": "attention_heads",
    "dropout_rate": "dropout",
    "relative_attention_num_buckets": "relative_buckets",
    "relative_attention_max_distance": "relative_distance",
    "max_relative_position": "relative_distance",
}

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
_MOST_LAYERS = 10_000
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

#: How early releases of Llama write that nothing stands for padding.
_NO_PADDING = -1

#: What the same words mean elsewhere.
ACTIVATION_ALIASES = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "gelu_sigmoid",
    "swish": "silu",
}


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
    below (RealFormer). `condition_size` makes every norm conditional (kexue.fm/archives/7124).
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
        self._check_sizes()
        self._check_words()
        self._check_numbers()

    def _check_sizes(self) -> None:
        for name, least in {**_LEAST, **_LEAST_OPTIONAL}.items():
            value = getattr(self, name)
            if value is None and name in _LEAST_OPTIONAL:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UserError(f"config: {name} must be a whole number of at least {least}, got {value!r}")
        if max(self.layers, self.decoder_layers or 0) > _MOST_LAYERS:
            raise UserError(f"config: at most {_MOST_LAYERS} layers can be built, got {self.layers}")
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
        if self.pad_id is not None and not (_is_id(self.pad_id) and self.pad_id < self.vocab_size):
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
        """Reads a JSON object in any dialect of ALIASES; unknown keys are kept in `extra`.

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
        known = {entry.name for entry in fields(cls)}
        own: dict[str, Any] = {}
        extra = dict(_record("extra", values.get("extra")))
        for key, value in _in_our_words(values).items():
            name = ALIASES.get(key, key)
            if name == "extra":
                continue
            if name in known:
                own[name] = value
            else:
                extra[key] = value
        if isinstance(word := own.get("activation"), str):
            own["activation"] = ACTIVATION_ALIASES.get(word, word)
        if own.get("pad_id") == _NO_PADDING:
            own["pad_id"] = None
        return {**own, "extra": extra}

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
        values["attention"] = self.attention.to_dict()
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


def _in_our_words(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values that other dialects write otherwise: two activations of a gated layer, α of hierarchical positions,
    a rotary base inside a record, GPT-2's null for "four times the width"."""
    changed = {key: value for key, value in values.items() if value is not None or key != "n_inner"}
    if isinstance(pair := changed.get("hidden_act"), list):
        if len(pair) != 2 or pair[1] != "linear":
            raise UserError(f"config: hidden_act {pair!r}: expected one activation, or [activation, linear]")
        changed.update(hidden_act=pair[0], feedforward="gated")
    alpha = changed.pop("hierarchical_position", None)
    if alpha:
        changed["hierarchical_positions"] = 0.4 if alpha is True else alpha
    if "rope_theta" in (rope := rotary_record(changed)):
        changed.setdefault("rope_theta", rope["rope_theta"])
    return changed


def rotary_record(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """What transformers writes of rotary positions in a record of their own; empty where it writes none.

    transformers 配置中关于旋转位置的记录。

    Raises UserError where it is no record.
    """
    key = "rope_parameters" if values.get("rope_parameters") else "rope_scaling"
    return _record(key, values.get(key))


def whole_number(values: Mapping[str, Any], *keys: str, default: int) -> int:
    """The first of these keys that a JSON object has, for those who compute with it; raises UserError for no number.

    取配置中的整数，供计算使用。
    """
    found = next(((key, values[key]) for key in keys if key in values), (keys[0], default))
    if not _is_id(found[1]):
        raise UserError(f"config: {found[0]} must be a whole number of at least 0, got {found[1]!r}")
    return int(found[1])


def _record(key: str, value: Any) -> Mapping[str, Any]:
    if value and not isinstance(value, Mapping):
        raise UserError(f"config: {key} must be a JSON object of names and values, got {value!r}")
    return value or {}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
