"""The choices of `GenerationOptions` as options of a command: names, kinds and defaults are those of its fields, and
one table says what each does. What only concerns the output (`alternatives`) stands with the options of the command.

生成选项在命令行中的写法：名称、类型与默认值取自 GenerationOptions，说明见下表。
"""

from collections.abc import Mapping
from dataclasses import Field, field, fields
from typing import Annotated, Any, Final, get_origin, get_type_hints

import typer

from hanformer.tasks.generation_options import GenerationOptions

CHOICES: Final[Mapping[str, Mapping[str, str]]] = {
    "Rule · 规则": {
        "rule": "greedy, beam, diverse, bert4keras, sample or contrastive. 解码规则。",
        "maximum_length": "New tokens at most. 最多新词元数。",
        "minimum_length": "New tokens at least. 最少新词元数。",
        "results": "Results for each prompt. 每个提示的结果数。",
        "beams": "Width of the beam, 4 by default. 束宽。",
        "groups": "Groups of the rule diverse. 多样束的组数。",
        "diversity": "What groups pay for a token. 多样性强度。",
        "length_penalty": "Exponent: 1 is the mean, 0 the sum. 长度惩罚指数。",
        "gnmt": "GNMT's length penalty. GNMT 形式。",
        "stopping": "sound, full or heuristic. 束搜索何时结束。",
        "minimum_ends": "End tokens that bert4keras' rule waits for. 需要的结束符个数。",
        "alpha": "Contrastive: weight of unlikeness. 对比搜索权重。",
        "candidates": "Contrastive: tokens tried. 对比搜索候选数。",
        "prompt_lookup": "Guess so many tokens ahead. 推测解码的草稿长度。",
    },
    "Sampling · 采样": {
        "seed": "Seed of the draws. 随机种子。",
        "temperature": "Divides the logits. 温度。",
        "top_k": "Keep the k best. 保留前 k 个。",
        "top_p": "Nucleus sampling. 核采样。",
        "min_p": "Keep what is at least p times the best. 相对阈值。",
        "typical": "Typical sampling. 典型采样。",
        "epsilon": "Drop below epsilon. 绝对阈值。",
        "eta": "Threshold that follows the entropy. 熵自适应阈值。",
        "mirostat": "Target surprise in bits. 目标惊奇度。",
        "consistent": "Never cut the end token off. 截断时保留结束符。",
    },
    "Penalties and steering · 惩罚与引导": {
        "repetition_penalty": "Divides logits of old tokens. 重复惩罚。",
        "presence_penalty": "Subtracted once. 出现惩罚。",
        "frequency_penalty": "Subtracted at each occurrence. 频率惩罚。",
        "no_repeat_ngram": "No n-gram twice. 禁止重复 n 元组。",
        "penalise_prompt": "Penalties count the prompt too. 惩罚计入提示。",
        "bias": "token=number. 偏置。",
        "suppress": "A token never written. 禁用词元。",
        "force": "step=token, 0 is the first step. 强制词元。",
        "decay": "start,factor: a growing urge to end. 长度衰减。",
        "guidance": "Classifier-free guidance. 无分类器引导。",
        "without": "The prompt to be led away from. 反向提示。",
        "condition": "The label that a text is written under, where the model learned some. 条件标签。",
    },
    "Constraints and stops · 约束与停止": {
        "stop": "A string that ends a text. 停止串。",
        "also_end": "Another end token. 其他结束词元。",
        "end": "The end token. 结束符。",
        "forbidden": "A word never written. 禁用词。",
        "pattern": "A regular expression for the whole text. 正则约束。",
        "passage": "Copy an n-gram of this passage. 只摘抄此段原文。",
        "copy_prompt": "Copy an n-gram of the prompt. 只摘抄提示。",
        "time_limit": "Seconds for a batch. 每批秒数上限。",
        "frame": "auto, or bare: nothing around the text. 是否加首尾词元。",
        "prompt_length": "Cut longer prompts. 截断提示。",
    },
}
"""What every choice does, by the panel of the help where it stands. 各选项的说明，按帮助中的分组。"""

#: What cannot be typed as it is: given once or several times, and read by `read_options`.
_TYPED: Final[Mapping[str, Any]] = {
    "bias": list[str] | None,
    "force": list[str] | None,
    "decay": str | None,
}


def choice_fields() -> list[tuple[str, Any, Any]]:
    """Name, annotation and default of every choice, for `dataclasses.make_dataclass`. 由表生成的字段。"""
    known = {entry.name: entry for entry in fields(GenerationOptions)}
    hints = get_type_hints(GenerationOptions)
    return [
        _field(known[name], hints[name], said, panel)
        for panel, choices in CHOICES.items()
        for name, said in choices.items()
    ]


def _field(entry: Field[Any], hint: Any, said: str, panel: str) -> tuple[str, Any, Any]:
    kind = list[str] | None if get_origin(hint) is tuple else _TYPED.get(entry.name, hint)
    default = entry.default if kind == hint else None
    # Without a name of its own a switch would come with a second one that turns it off.
    names = [f"--{entry.name.replace('_', '-')}"] if hint is bool else []
    option = typer.Option(*names, help=said, rich_help_panel=panel)
    return entry.name, Annotated[kind, option], field(default=default)
