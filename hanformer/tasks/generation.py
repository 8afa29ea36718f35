"""Text in, text out: prompts continued, or sources rewritten, by any model that generates.

文本生成：用任意可生成的模型续写提示或改写输入。
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hanformer.decode import (
    Hypothesis,
    JointState,
    PromptLookup,
    TimeLimit,
    TokenScore,
    contrastive_search,
    cut_at,
    fuse,
    guidance,
    joint_step,
    stream_text,
    trace,
)
from hanformer.decode import generate as search
from hanformer.decode import stream as search_stepwise
from hanformer.errors import UserError
from hanformer.models import Transformer
from hanformer.models.checkpoint import open_checkpoint
from hanformer.models.conditioning import under_condition
from hanformer.models.self_terminating import TerminatingTransformer
from hanformer.models.terminating_files import WritingModel, load_writing, stack_of
from hanformer.nn.layers.prepacked import prepacked
from hanformer.tasks.generation_options import DEFAULTS, GenerationOptions
from hanformer.tasks.generation_parts import Parts
from hanformer.tasks.opening import tokenizer_of
from hanformer.tasks.prompting import Prompter, check_generates
from hanformer.tasks.stop_head import ended_by_head
from hanformer.text.protocols import Tokenizer
from hanformer.train.runs import RUN_FILE, run_of, task_of

_ONE_PATH = ("greedy", "sample")


@dataclass(frozen=True)
class Generated:
    """A new text, its tokens (without the end token), its score, and what stopped it.

    生成结果：文本、词元、得分与停止原因。

    `score` is the sum of log-probabilities over the rule's length penalty. `stopped` is "end" (the end token), "stop"
    (a stop string or another end token), "length" (the maximum) or "time". `trace` holds the log-probability of every
    token, the end token included, where the options ask for alternatives.
    """

    text: str
    score: float
    tokens: tuple[int, ...]
    stopped: str
    trace: tuple[TokenScore, ...] = ()


class Start(NamedTuple):
    """A step, its state, and the first logits. 解码的起点。"""

    step: Any
    state: Any
    logits: Tensor


class Writer:
    """A model, its tokenizer and options, ready to write.

    可以生成文本的写作者：模型、分词器与选项。

    A head that must stop decides the end token. A model that has learned conditions writes under the one that the
    options name: `model` is then `given` under it. Raises UserError where the model cannot generate, for options that
    do not suit it, and for a condition that is missing or unknown.
    """

    def __init__(
        self, model: WritingModel, tokenizer: Tokenizer, options: GenerationOptions = DEFAULTS
    ) -> None:
        self.given, self.model = model, conditioned(model, options.condition)
        self.tokenizer, self.options = tokenizer, options
        self.prompter = Prompter(
            stack_of(self.model), tokenizer, ended_by_head(options, model, tokenizer.vocabulary)
        )
        self.parts = Parts(self.prompter)

    def write(
        self,
        prompts: Sequence[str],
        *,
        batch: int = 8,
        numbers: Sequence[int] | None = None,
    ) -> list[list[Generated]]:
        """The results of every prompt, best first; batches are of prompts of like length.

        每个提示的结果（最优在前）；长度相近者同批。

        `numbers` name the prompts for the draws of sampling; by default they are counted. Raises UserError naming
        the prompt that cannot be read.
        """
        if isinstance(prompts, str):
            raise UserError(f"expected a list of prompts, got one text: write [{prompts[:20]!r}]")
        if batch < 1:
            raise UserError(f"batch: expected at least 1, got {batch}")
        ids = [self._read(place, text) for place, text in enumerate(prompts)]
        numbers = range(len(prompts)) if numbers is None else numbers
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        found: dict[int, list[Generated]] = {}
        for start in range(0, len(order), batch):
            places = order[start : start + batch]
            rows, texts = [ids[place] for place in places], [prompts[place] for place in places]
            with _numbered(places):
                written = self._write(rows, texts, [numbers[place] for place in places])
            found.update(zip(places, written, strict=True))
        return [found[place] for place in range(len(ids))]

    def stream(self, prompt: str, *, number: int = 0) -> Iterator[str]:
        """The text of one prompt piece by piece, as it becomes certain.

        逐段返回文本。

        Raises UserError unless the rule follows one path: greedy, or one sample.
        """
        if self.options.rule not in _ONE_PATH or self.options.results > 1:
            raise UserError(
                f"a stream needs the rule greedy, or sample with one result; got {self.options.rule}, "
                f"{self.options.results} results"
            )
        return self._stream(prompt, [self.prompter(prompt)], number)

    def _stream(self, prompt: str, rows: Sequence[Sequence[int]], number: int) -> Iterator[str]:
        start, limit = self._start(rows), self._time_limit()
        searches = search_stepwise(*start, **self._arguments(rows, [prompt], [number]))
        with _numbered([number]), closing(searches):  # type: ignore[type-var]
            in_time = searches if limit is None else _until(searches, limit)
            yield from stream_text(in_time, self.tokenizer.decode, self.options.stop)

    def _read(self, place: int, text: str) -> list[int]:
        try:
            return self.prompter(text)
        except UserError as error:
            raise UserError(f"prompt {place + 1}: {error}") from None

    def _write(
        self, rows: Sequence[Sequence[int]], texts: Sequence[str], numbers: Sequence[int]
    ) -> list[list[Generated]]:
        if self.options.rule == "contrastive":
            found = [[hypothesis] for hypothesis in self._contrast(rows)]
        else:
            limit = self._time_limit()
            found = search(*self._start(rows), **self._arguments(rows, texts, numbers), interrupt=limit)
        written = [[self._generated(hypothesis) for hypothesis in each] for each in found]
        return written if self.options.alternatives is None else self._traced(rows, written)

    def _arguments(
        self, rows: Sequence[Sequence[int]], texts: Sequence[str], numbers: Sequence[int]
    ) -> dict[str, Any]:
        """What the loop takes besides the start."""
        lookup = self.options.prompt_lookup
        return {
            "rule": self.parts.rule(numbers),
            "end_id": self.parts.end_id,
            "maximum_length": self.options.maximum_length,
            "minimum_length": self.parts.minimum_length,
            "constraint": self.parts.constraint(rows, texts),
            "filters": self.parts.filters(rows),
            "stop": self.parts.stop,
            "draft": None if lookup is None else PromptLookup(rows, count=lookup),
        }

    def _start(self, rows: Sequence[Sequence[int]]) -> Start:
        logits, state = self.model.prompt(rows)
        if self.options.guidance is None:
            return Start(self.model.step, state, logits)
        other, beside = self.model.prompt([self._without] * len(rows))
        fusion = guidance(self.options.guidance)
        step = joint_step([self.model.step, self.model.step], fusion)
        return Start(step, JointState([state, beside]), fuse([logits, other], fusion))

    @cached_property
    def _without(self) -> list[int]:
        """The prompt to be led away from; where there is none, something to begin with."""
        try:
            return self.prompter.held(self.options.without) or [self.parts.end_id]
        except UserError as error:
            raise UserError(f"without: {error}") from None

    def _time_limit(self) -> TimeLimit | None:
        seconds = self.options.time_limit
        return None if seconds is None else TimeLimit(seconds)

    def _contrast(self, rows: Sequence[Sequence[int]]) -> list[Hypothesis]:
        model: Any = self.model
        hidden, state = model.read(rows)
        return contrastive_search(
            model.advance,
            lambda last: self._logits(last, state),
            state,
            hidden.split(model.states_read(rows)),
            rule=self.parts.contrastive,
            end_id=self.parts.end_id,
            maximum_length=self.options.maximum_length,
            minimum_length=self.options.minimum_length,
            allowed=self.parts.writable,
        )

    def _logits(self, last: Tensor, state: Any) -> Tensor:
        """Logits [R, V] behind the last tokens of a state, whose hidden states are [R, C]."""
        if isinstance(self.model, TerminatingTransformer):
            return self.model.log_p(last[:, None], state)[:, 0]
        return self.model.lm_logits(last)

    def _generated(self, found: Hypothesis) -> Generated:
        text = cut_at(self.tokenizer.decode(found.tokens), self.options.stop)
        return Generated(text, found.score, found.tokens, self._reason(found))

    def _reason(self, found: Hypothesis) -> str:
        if found.finished:
            stop = self.parts.stop
            return "stop" if stop is not None and found.tokens and stop(found.tokens) else "end"
        return "length" if len(found.tokens) >= self.options.maximum_length else "time"

    def _traced(
        self, rows: Sequence[Sequence[int]], written: Sequence[Sequence[Generated]]
    ) -> list[list[Generated]]:
        """The same with the model's log-probability of every token, its end token included."""
        flat = [(row, each) for row, results in zip(rows, written, strict=True) for each in results]
        closed = [
            [*each.tokens, self.parts.end_id] if each.stopped == "end" else list(each.tokens)
            for _, each in flat
        ]
        step, state, logits = self._start([row for row, _ in flat])
        traces = iter(trace(step, state, logits, closed, self.options.alternatives or 0))
        return [[_with_trace(each, next(traces)) for each in results] for results in written]


def conditioned(model: WritingModel, condition: str | None) -> WritingModel:
    """The model under one of the conditions that it has learned; as it is where it has learned none.

    按名称选定条件后的模型。

    Raises UserError for a model that does not generate, and where a condition is missing or is not one of those.
    """
    check_generates(stack_of(model))
    known = stack_of(model).config.conditions
    if condition is None and known:
        raise UserError(
            f"this model writes under a condition: choose one of {', '.join(known[:20])} (condition=, on the command "
            "line --condition)"
        )
    if condition is None:
        return model
    if not isinstance(model, Transformer):
        raise UserError(f"condition {condition!r}: this model has learned no conditions; leave it out")
    return under_condition(model, condition)


def _with_trace(found: Generated, scores: Sequence[TokenScore]) -> Generated:
    return Generated(found.text, found.score, found.tokens, found.stopped, tuple(scores))


@contextmanager
def _numbered(places: Sequence[int]) -> Iterator[None]:
    """An error that names a prompt of the batch names it by its place in the list, counted from 1."""
    try:
        yield
    except UserError as error:
        named = re.match(r"prompt (\d+): ", str(error))
        if named is None:
            raise
        raise UserError(f"prompt {places[int(named[1])] + 1}: {str(error)[named.end() :]}") from None


def _until(searches: Iterator[Any], limit: TimeLimit) -> Iterator[Any]:
    for current in searches:
        yield current
        if limit():
            return


@torch.no_grad()
def generate_texts(
    model: WritingModel,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    options: GenerationOptions = DEFAULTS,
    *,
    batch: int = 8,
) -> list[list[Generated]]:
    """Continues prompts, or rewrites sources: for every prompt its results, best first.

    生成文本：对每个提示返回若干结果（最优在前）。

    A language model (GPT kinds) goes on with the text, UniLM and encoder-decoders write a new one. Batches of
    `batch` prompts are of like length; results do not depend on them, up to rounding. Raises UserError for a model
    that cannot generate, options that contradict each other or the vocabulary, and, naming the prompt, where one is
    empty or longer than the model's positions.
    """
    return Writer(model, tokenizer, options).write(prompts, batch=batch)


generate = generate_texts


def open_writer(
    path: str | Path,
    options: GenerationOptions = DEFAULTS,
    *,
    family: str | None = None,
    application: str | None = None,
    config: str | Path | None = None,
    tokenizer: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Writer:
    """Opens a model that generates, prepacked, and the tokenizer beside it (or named). 打开可生成的模型及其分词器。

    A head that must stop comes with its model. Warns of a run of dialogues, whose layout is not that of a bare text.
    Raises UserError as `load_writing`, `load_tokenizer` and `Writer` do.
    """
    _warn_of_dialogues(path)
    words = tokenizer_of(open_checkpoint(path, family=family, config=config), tokenizer)
    model = load_writing(
        path, family=family, application=application, config=config, device=device, dtype=dtype
    )
    return Writer(prepacked(model), words, options)


def _warn_of_dialogues(path: str | Path) -> None:
    if (run_of(path) / RUN_FILE).is_file() and task_of(path) == "chat":
        warnings.warn(
            f"{path} learned to reply: `hanformer chat` and `hanformer predict` lay out dialogues as it knows them, "
            "and here it goes on with the bare text",
            stacklevel=3,
        )
