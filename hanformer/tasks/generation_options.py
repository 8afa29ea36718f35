"""Every choice of generation in one record, checked together. 生成的全部选项及其一致性检查。"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from hanformer.errors import UserError

RULES: Final = ("greedy", "beam", "diverse", "bert4keras", "sample", "contrastive")
"""The ways to search. 解码规则。"""

_BEAMS: Final = ("beam", "diverse")
_SEVERAL: Final = (*_BEAMS, "sample")
_SAMPLE: Final = ("sample",)
#: Choices that only some rules look at.
_BELONGS: Final[dict[str, tuple[str, ...]]] = {
    "results": _SEVERAL,
    "beams": (*_BEAMS, "bert4keras"),
    "groups": ("diverse",),
    "diversity": ("diverse",),
    "length_penalty": _BEAMS,
    "gnmt": _BEAMS,
    "stopping": _BEAMS,
    "minimum_ends": ("bert4keras",),
    "temperature": _SAMPLE,
    "top_k": _SAMPLE,
    "top_p": _SAMPLE,
    "min_p": _SAMPLE,
    "typical": _SAMPLE,
    "epsilon": _SAMPLE,
    "eta": _SAMPLE,
    "mirostat": _SAMPLE,
    "consistent": _SAMPLE,
    "seed": _SAMPLE,
    "alpha": ("contrastive",),
    "candidates": ("contrastive",),
    "prompt_lookup": ("greedy", "sample"),
}
#: What looks at more than one step ahead, or changes logits: contrastive search does neither.
_NOT_CONTRASTIVE: Final = (
    *("repetition_penalty", "presence_penalty", "frequency_penalty", "no_repeat_ngram", "bias", "suppress"),
    *("force", "decay", "guidance", "stop", "also_end", "forbidden", "pattern", "passage", "copy_prompt"),
    "time_limit",
)
_TRUNCATIONS: Final = ("top_k", "top_p", "min_p", "typical", "epsilon", "eta", "mirostat")


@dataclass(frozen=True)
class GenerationOptions:
    """How text is generated; None and empty leave a choice out, or to its rule.

    生成选项：None 或空值表示不使用该选项，或由所选规则决定。

    `rule` is one of `RULES`. `maximum_length` counts new tokens, the end token too, and `minimum_length` those that
    stand before the end token; `results` are given for each prompt. Rules: `beams` (4), `groups` (2), `diversity`
    (0.5), `length_penalty` (1: means; 0: sums; the exponent of GNMT's penalty with `gnmt`), `stopping` (sound,
    full, heuristic), `minimum_ends` (1); `seed`, `temperature` (1), the truncations (`mirostat` is its target in
    bits), `consistent` (the end token is never cut off); `alpha` (0.6) and `candidates` (4) of contrastive search.
    Penalties count new tokens, and those of the prompt with `penalise_prompt`, but not the end tokens in it. Tokens
    are written as the vocabulary writes them: `bias` adds to logits, `suppress` forbids, `force` maps a step (0 is
    the first) to its token, `decay` is (start, factor) of the growing urge to end. `guidance` is the scale of
    classifier-free guidance away from the prompt `without`. `stop` are strings, `also_end` tokens, at which a text
    is finished; `forbidden` are words; `pattern` is a regular expression that the whole text matches; `passage`, or
    with `copy_prompt` the prompt, is where the text is copied from. `time_limit` is in seconds for a batch.
    `prompt_lookup` guesses so many tokens ahead. `end` is the end token, else the vocabulary's own. `frame` is auto
    or bare, `prompt_length` cuts longer prompts. `condition` names what a model with learned conditions writes under;
    its source may be empty. `alternatives` asks for the log-probability of every token and so
    many beside it.

    Raises UserError for an unknown rule, impossible lengths, steps to be forced that never come, one text in the place
    of several, and choices that contradict each other.
    """

    rule: str = "greedy"
    maximum_length: int = 64
    minimum_length: int = 1
    results: int = 1
    beams: int | None = None
    groups: int | None = None
    diversity: float | None = None
    length_penalty: float | None = None
    gnmt: bool = False
    stopping: str | None = None
    minimum_ends: int | None = None
    seed: int = 0
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical: float | None = None
    epsilon: float | None = None
    eta: float | None = None
    mirostat: float | None = None
    consistent: bool = False
    alpha: float | None = None
    candidates: int | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    no_repeat_ngram: int | None = None
    penalise_prompt: bool = False
    bias: Mapping[str, float] = field(default_factory=dict)
    suppress: tuple[str, ...] = ()
    force: Mapping[int, str] = field(default_factory=dict)
    decay: tuple[int, float] | None = None
    guidance: float | None = None
    without: str = ""
    stop: tuple[str, ...] = ()
    also_end: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    pattern: str | None = None
    passage: str | None = None
    copy_prompt: bool = False
    time_limit: float | None = None
    prompt_lookup: int | None = None
    end: str | None = None
    frame: str = "auto"
    prompt_length: int | None = None
    condition: str | None = None
    alternatives: int | None = None

    def __post_init__(self) -> None:
        self._check_words()
        self._check_lengths()
        self._check_rule()
        self._check_pairs()

    def chosen(self) -> dict[str, Any]:
        """What differs from the defaults. 与默认值不同的选项。"""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value != _DEFAULTS[name]}

    def _check_words(self) -> None:
        if self.rule not in RULES:
            raise UserError(f"rule: expected one of {', '.join(RULES)}, got {self.rule!r}")
        if self.frame not in ("auto", "bare"):
            raise UserError(f"frame: expected auto or bare, got {self.frame!r}")
        for name in ("stop", "also_end", "forbidden", "suppress"):
            if isinstance(getattr(self, name), str):
                raise UserError(
                    f"{name}: expected a tuple of texts, got one text: write ({getattr(self, name)!r},)"
                )

    def _check_lengths(self) -> None:
        if not 0 <= self.minimum_length <= self.maximum_length or self.maximum_length < 1:
            raise UserError(
                "expected 0 <= minimum_length <= maximum_length and maximum_length >= 1, "
                f"got {self.minimum_length} and {self.maximum_length}"
            )
        for name, least in (("results", 1), ("prompt_lookup", 1), ("prompt_length", 1), ("alternatives", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"{name}: expected at least {least}, got {value}")
        never = [step for step in self.force if step not in range(self.maximum_length)]
        if never:
            raise UserError(f"force: expected steps in 0..{self.maximum_length - 1}, got {never[0]!r}")

    def _check_rule(self) -> None:
        for name in self.chosen():
            rules = _BELONGS.get(name, (self.rule,))
            if self.rule not in rules:
                raise UserError(
                    f"{name} has no meaning with the rule {self.rule}: choose the rule {' or '.join(rules)}, "
                    f"or leave {name} out"
                )
            if self.rule == "contrastive" and name in _NOT_CONTRASTIVE:
                raise UserError(f"{name} cannot be had with the rule contrastive: choose another rule")

    def _check_pairs(self) -> None:
        given = set(self.chosen())
        for name, needed, what in (
            ("without", ("guidance",), "guidance"),
            ("gnmt", ("length_penalty",), "length_penalty, the exponent"),
            ("consistent", _TRUNCATIONS, f"a truncation ({', '.join(_TRUNCATIONS)})"),
            (
                "penalise_prompt",
                ("repetition_penalty", "presence_penalty", "frequency_penalty", "no_repeat_ngram"),
                "a penalty, or no_repeat_ngram",
            ),
        ):
            if name in given and not given & set(needed):
                raise UserError(f"{name} has no meaning alone: give {what}, or leave {name} out")
        if self.guidance is not None and not math.isfinite(self.guidance):
            raise UserError(f"guidance: expected a finite number, got {self.guidance}")
        sources = given & {"passage", "copy_prompt", "pattern"}
        if len(sources) > 1:
            raise UserError(f"{' and '.join(sorted(sources))}: choose one of them")
        if "temperature" in given and "mirostat" in given:
            raise UserError("temperature and mirostat: choose one, for mirostat sets the surprise itself")


def read_options(words: Mapping[str, Any]) -> GenerationOptions:
    """The options among the words of a command line: token=number, step=token, start,factor are read here.

    由命令行参数得到生成选项。

    Raises UserError for what cannot be read, and as `GenerationOptions` does.
    """
    given = {name: value for name, value in words.items() if name in _DEFAULTS and value is not None}
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    for name, read in (("bias", _read_bias), ("force", _read_step)):
        values[name] = dict(read(pair) for pair in values.get(name, ()))
    if "decay" in values:
        values["decay"] = _read_decay(values["decay"])
    return GenerationOptions(**values)


def _read_bias(pair: str) -> tuple[str, float]:
    token, _, value = pair.rpartition("=")
    try:
        return _token("bias", token), float(value)
    except ValueError:
        raise UserError(f"bias: expected token=number, such as 好=1.5, got {pair!r}") from None


def _read_step(pair: str) -> tuple[int, str]:
    step, _, token = pair.partition("=")
    try:
        return int(step), _token("force", token)
    except ValueError:
        raise UserError(f"force: expected step=token, such as 0=今, got {pair!r}") from None


def _token(option: str, token: str) -> str:
    if not token:
        raise ValueError(f"{option}: no token")
    return token


def _read_decay(pair: str) -> tuple[int, float]:
    start, _, factor = pair.partition(",")
    try:
        return int(start), float(factor)
    except ValueError:
        raise UserError(f"decay: expected start,factor, such as 20,1.1, got {pair!r}") from None


def _default(name: str) -> Any:
    found = GenerationOptions.__dataclass_fields__[name]
    return {} if name in ("bias", "force") else found.default


_DEFAULTS: Final[dict[str, Any]] = {each.name: _default(each.name) for each in fields(GenerationOptions)}
DEFAULTS: Final = GenerationOptions()
"""Greedy, at most 64 tokens. 默认选项：贪心，至多 64 个词元。"""
