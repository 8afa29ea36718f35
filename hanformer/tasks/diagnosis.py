"""Why text repeats and whether it ends: a diagnosis of texts, or of a model by what it writes.

诊断：文本为何重复、模型是否会停，针对给定文本或模型自身的输出。
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any, Final

import torch

from hanformer.errors import UserError
from hanformer.models.terminating_files import WritingModel
from hanformer.tasks.generation import Generated, Writer
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.text.protocols import Tokenizer
from hanformer.theory.rebalanced import rebalance
from hanformer.theory.repetition import (
    RepetitionRisk,
    repeated_bigrams,
    repeated_in_window,
    repeated_ngrams,
    repetition_risk,
)
from hanformer.theory.termination import unfinished_curve
from hanformer.theory.transitions import Transitions, transitions_of

Split = Callable[[str], Sequence[str]]
"""Cuts a text into the tokens that are counted. 把文本切为词元。"""

COMPARED: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "greedy": {"rule": "greedy"},
        "beam 4": {"rule": "beam", "beams": 4},
        "sampling": {"rule": "sample"},
        "top-k 10": {"rule": "sample", "top_k": 10},
        "top-p 0.9": {"rule": "sample", "top_p": 0.9},
        "top-p 0.9, consistent": {"rule": "sample", "top_p": 0.9, "consistent": True},
        "no 3-gram twice": {"rule": "greedy", "no_repeat_ngram": 3},
    }
)
"""The rules that a diagnosis of a model compares. 诊断模型时比较的规则。"""

#: Rows of a model's table that are made in one pass.
_TOGETHER: Final = 64
#: What a path of weights ends with.
_WEIGHTS: Final = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz", ".index")


@dataclass(frozen=True)
class Repetition:
    """How much texts repeat themselves: means over texts of rep-w, seq-rep-n and rep-r, and the bigrams' risk.

    文本的重复指标（各文本平均）与二元重复风险。

    `risk` is None where no token is followed by another.
    """

    name: str
    texts: int
    tokens: int
    in_window: float
    ngrams: float
    bigrams: float
    risk: RepetitionRisk | None


@dataclass(frozen=True)
class TextDiagnosis:
    """A text as it is and rebalanced, with the bigram table of the first. 文本诊断：原样与再平衡后。"""

    rows: tuple[Repetition, ...]
    transitions: Transitions
    gamma: float


@dataclass(frozen=True)
class RuleDiagnosis:
    """What one rule writes: how it repeats, and the share that has not ended by each length.

    某一规则的输出：重复指标与不终止曲线。
    """

    repetition: Repetition
    mean_length: float
    lengths: tuple[int, ...]
    unfinished: tuple[float, ...]
    example: str


@dataclass(frozen=True)
class ModelDiagnosis:
    """What each rule writes, and the model's own table over the tokens that it wrote most (None: it wrote none).

    各规则的输出，以及模型自身在其常写词元上的转移表。
    """

    rules: tuple[RuleDiagnosis, ...]
    transitions: Transitions | None


def characters(text: str) -> Sequence[str]:
    """The characters that are no blanks. 非空白字符。"""
    return [character for character in text if not character.isspace()]


def tokens_of(tokenizer: Tokenizer) -> Split:
    """A tokenizer's tokens, without special ones around the text. 以分词器切分。"""
    return lambda text: tokenizer.encode(text, special_tokens=False).tokens


def measure(name: str, texts: Iterable[Sequence[str]], most: int = 500, smoothing: float = 0.0) -> Repetition:
    """The metrics of texts of tokens; the risk is that of the `most` frequent ones. 计算重复指标。

    Raises UserError where there is no token.
    """
    kept = [text for text in texts if len(text)]
    if not kept:
        raise UserError(f"{name}: expected text, found no token")
    followed = any(len(text) > 1 for text in kept)
    return Repetition(
        name,
        len(kept),
        sum(map(len, kept)),
        fmean(map(repeated_in_window, kept)),
        fmean(map(repeated_ngrams, kept)),
        fmean(map(repeated_bigrams, kept)),
        repetition_risk(transitions_of(kept, most, smoothing).matrix) if followed else None,
    )


def diagnose_text(
    texts: Sequence[str],
    split: Split = characters,
    *,
    most: int = 500,
    smoothing: float = 0.0,
    gamma: float = 0.1,
) -> TextDiagnosis:
    """How texts repeat themselves, before and after the rebalanced encoding.

    文本的重复诊断：原样，以及再平衡编码之后。

    The risk is that of the bigram model of the `most` frequent tokens. Raises UserError for texts without two tokens
    beside each other, and impossible settings.
    """
    cut = [split(text) for text in texts]
    table = transitions_of(cut, most, smoothing)
    encoding = rebalance(cut, gamma)
    joined = [["=".join(piece) for piece in encoding.encode(text)] for text in cut]
    rows = (
        measure("as it is", cut, most, smoothing),
        measure(f"rebalanced {gamma:g}", joined, most, smoothing),
    )
    return TextDiagnosis(rows, table, gamma)


def diagnose_model(
    model: WritingModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    options: GenerationOptions,
    *,
    samples: int = 8,
    seed: int = 0,
    compared: Mapping[str, Mapping[str, Any]] = COMPARED,
    most: int = 500,
    progress: Callable[[str], object] = lambda name: None,
) -> ModelDiagnosis:
    """What a model writes after the prompts by several rules: whether it ends, and how it repeats.

    按多种规则续写提示，诊断是否停止与重复程度。

    Sampling draws `samples` texts a prompt, other rules write one. `options` set the lengths, the frame and the
    condition; `compared` what each rule changes in them; `most` tokens have a place in the tables of bigrams. Raises
    UserError as `generate_texts` does, and for no prompt.
    """
    if not prompts or samples < 1:
        raise UserError("expected prompts to go on with, and at least 1 sample")
    found, counts = [], Counter[int]()
    for name, choices in compared.items():
        progress(name)
        drawn = {"results": samples, "seed": seed} if choices["rule"] == "sample" else {}
        writer = Writer(model, tokenizer, replace(options, **{**drawn, **choices}))
        written = list(chain.from_iterable(writer.write(prompts)))
        counts.update(token for each in written for token in each.tokens)
        found.append(_judged(name, written, tokenizer, options.maximum_length, most))
    often = sorted(counts, key=lambda token: (-counts[token], token))[:most]
    writer = Writer(model, tokenizer, options)
    read = [writer.prompter(prompt) for prompt in prompts]
    table = model_transitions(writer.model, tokenizer, read, often) if often else None
    return ModelDiagnosis(tuple(found), table)


@torch.no_grad()
def model_transitions(
    model: WritingModel, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]], tokens: Sequence[int]
) -> Transitions:
    """A model's own table of transitions among some tokens (ids), which are no end tokens: means over prompts (ids).

    模型自身的转移表（对各提示取平均）。

        P(a, b) = mean over prompts of p(b | prompt, a)

    `coverage` is the mean share of probability that stays among the tokens. Source: kexue.fm/archives/8128.
    """
    total = torch.zeros(len(tokens), len(tokens), dtype=torch.float64)
    columns = torch.tensor(tokens, device=model.device)
    stepping: Any = model
    for prompt in prompts:
        for start in range(0, len(tokens), _TOGETHER):
            part = columns[start : start + _TOGETHER]
            _, state = stepping.prompt([prompt])
            state.select(torch.zeros(len(part), dtype=torch.long))
            chances = stepping.step(part[:, None], state)[:, 0].double().softmax(-1)
            total[start : start + _TOGETHER] += chances[:, columns].cpu()
    matrix = total / len(prompts)
    return Transitions(tuple(tokenizer.vocabulary.tokens_of(tokens)), matrix, float(matrix.sum(1).mean()))


def _judged(
    name: str, written: Sequence[Generated], tokenizer: Tokenizer, longest: int, most: int
) -> RuleDiagnosis:
    names = tokenizer.vocabulary.tokens_of
    lengths = tuple(sorted({max(1, longest * step // 24) for step in range(1, 25)}))
    ends = [len(each.tokens) + 1 if each.stopped == "end" else None for each in written]
    texts = [names(each.tokens) for each in written]
    # A model that always ends at once writes nothing that could repeat.
    silent = Repetition(name, len(texts), 0, 0.0, 0.0, 0.0, None)
    repetition = measure(name, texts, most) if any(texts) else silent
    return RuleDiagnosis(
        replace(repetition, texts=len(texts)),
        fmean(len(each.tokens) for each in written),
        lengths,
        tuple(unfinished_curve(ends, lengths)),
        written[0].text,
    )


#: A word that can hardly be meant as text: it has a slash, or ends as names of files do.
_PATH = re.compile(r"[\w.~-]*(/[\w.~-]*)+|[\w-]+\.[A-Za-z]\w{1,10}")


def kind_of(what: str) -> str:
    """What a word of the command line is: "model", "file" or "text". 判断参数是模型、文件还是文本。"""
    if not what.strip():
        raise UserError("diagnose: expected a text, a file or a model, got nothing")
    try:
        path = Path(what)
        if path.is_dir() or path.with_name(f"{path.name}.index").is_file():
            return "model"
        if path.is_file():
            return "model" if path.suffix in _WEIGHTS else "file"
    except (OSError, ValueError):  # too long for a path, or with a sign that none holds
        return "text"
    if _PATH.fullmatch(what):
        raise UserError(f"{what}: no such file or folder; to read the word itself as text, use --kind text")
    return "text"
