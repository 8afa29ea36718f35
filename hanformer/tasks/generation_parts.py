"""Options as what the decoding loop takes: a rule, filters, constraints, a stop condition.

由选项构造解码循环的各部分：规则、过滤器、约束、停止条件。
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor

from hanformer.decode import (
    AllOf,
    AutomatonConstraint,
    Beam,
    Bert4kerasBeam,
    Bias,
    Constraint,
    Contrastive,
    CountPenalty,
    DiverseBeam,
    Epsilon,
    Eta,
    Filter,
    ForbiddenWords,
    Force,
    Gnmt,
    Greedy,
    KeepEnd,
    LengthDecay,
    MinP,
    Mirostat,
    NoRepeat,
    PassageNgrams,
    Pattern,
    Power,
    RepetitionPenalty,
    Rule,
    Sample,
    Search,
    Stop,
    StopStrings,
    StopTokens,
    Suppress,
    TopK,
    TopP,
    Typical,
)
from hanformer.decode.beam import LengthPenalty
from hanformer.decode.sample import Draw
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.tasks.prompting import Prompter, distinct, end_of, token_id
from hanformer.text.protocols import Tokenizer
from hanformer.text.vocabulary import Vocabulary

_TRUNCATIONS: Final[dict[str, Callable[[Any], Filter]]] = {
    "top_k": TopK,
    "top_p": TopP,
    "min_p": MinP,
    "typical": Typical,
    "epsilon": Epsilon,
    "eta": Eta,
    "mirostat": Mirostat,
}
_BLANK: Final = "▁"
_WORD_GOES_ON: Final = "##"


@dataclass(frozen=True)
class PlacedSample(Sample):
    """A `Sample` whose prompts have numbers of their own: they draw alike in whatever batch they stand.

    按提示自身编号抽样，与所在批次无关。
    """

    rows: tuple[int, ...] = ()

    def draws(self, searches: Sequence[Search]) -> list[Draw]:
        """The draws, named by the numbers of the prompts."""
        return [draw._replace(prompt=self.rows[draw.prompt]) for draw in super().draws(searches)]


class WritableTokens:
    """Allows the tokens that the tokenizer has and that stand for text; a model may have more rows.

    只允许词表中存在、且可以写出的词元。
    """

    def __init__(self, rows: int, known: int, padding: int | None, size: int, device: torch.device) -> None:
        self.rows = rows
        self._mask = torch.arange(size, device=device) < known
        if padding is not None:
            self._mask[padding] = False

    def allowed(self) -> Tensor:
        """Bool [R, V]."""
        return self._mask.expand(self.rows, -1)

    def advance(self, tokens: Tensor) -> None:
        """Nothing changes."""

    def select(self, rows: Tensor) -> None:
        """As many rows as are chosen."""
        self.rows = len(rows)


class Parts:
    """What options mean for one model and its tokenizer; made once, used for every batch.

    选项在某个模型与分词器下的含义；只构造一次。

    Raises UserError for tokens that the vocabulary lacks, and for numbers out of range.
    """

    def __init__(self, prompter: Prompter) -> None:
        self.prompter, self.options = prompter, prompter.options
        self.tokenizer = prompter.tokenizer
        self.size = prompter.model.config.vocab_size
        self.end_id = end_of(self.tokenizer.vocabulary, self.options.end)
        self.truncations = tuple(self._truncations())
        self.rule([0])
        self.contrastive = Contrastive(_or(self.options.alpha, 0.6), _or(self.options.candidates, 4))
        self.filters([[self.end_id]])
        self.constraint([[0]], [""])

    def rule(self, rows: Sequence[int]) -> Rule:
        """The rule for prompts of these numbers."""
        options = self.options
        beams, results = _or(options.beams, max(4, options.results)), options.results
        penalty, stopping = _penalty(options), _or(options.stopping, "sound")
        if options.rule == "beam":
            return Beam(beams, results, penalty, stopping)
        if options.rule == "diverse":
            groups, strength = _or(options.groups, 2), _or(options.diversity, 0.5)
            whole = beams if options.beams is not None else beams + -beams % max(groups, 1)
            return DiverseBeam(whole, groups, strength, results, penalty, stopping)
        if options.rule == "bert4keras":
            return Bert4kerasBeam(beams, _or(options.minimum_ends, 1), options.minimum_length)
        if options.rule == "sample":
            temperature = _or(options.temperature, 1.0)
            return PlacedSample(options.seed, results, temperature, more=self.truncations, rows=tuple(rows))
        return Greedy()

    @property
    def writable(self) -> Tensor:
        """Bool [V]: the tokens that stand for text."""
        known = len(self.tokenizer.vocabulary)
        return WritableTokens(1, known, self._padding, self.size, self.prompter.model.device).allowed()[0]

    @property
    def minimum_length(self) -> int:
        """Tokens before the end token is allowed; bert4keras' rule has its own way."""
        return 0 if self.options.rule == "bert4keras" else self.options.minimum_length

    def filters(self, prompts: Sequence[Sequence[int]]) -> list[Filter]:
        """Penalties, biases and what steers, in that order."""
        options = self.options
        found: list[Filter] = []
        counted = self._counted(prompts) if options.penalise_prompt else ()
        if options.repetition_penalty is not None:
            found.append(RepetitionPenalty(options.repetition_penalty, counted))
        if options.presence_penalty is not None or options.frequency_penalty is not None:
            presence, frequency = _or(options.presence_penalty, 0.0), _or(options.frequency_penalty, 0.0)
            found.append(CountPenalty(presence, frequency, counted))
        if options.no_repeat_ngram is not None:
            found.append(NoRepeat(options.no_repeat_ngram, counted))
        return [*found, *self._steering]

    def _counted(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """The prompts for penalties, ends in them as an id that none counts: a source, or a turn, that is closed must
        not keep the new text from ending.
        """
        return [[self.size if token == self.end_id else token for token in prompt] for prompt in prompts]

    @cached_property
    def _steering(self) -> tuple[Filter, ...]:
        options = self.options
        found: list[Filter] = []
        if options.bias:
            found.append(Bias({self._id(token, "bias"): value for token, value in options.bias.items()}))
        if options.suppress:
            found.append(Suppress([self._id(token, "suppress") for token in options.suppress]))
        if options.also_end and options.minimum_length > 1:
            # Such a token stays in the text: as the last of `minimum_length` tokens it may come.
            found.append(Suppress(self._also_end, range(options.minimum_length - 1)))
        if options.decay is not None:
            found.append(LengthDecay(*options.decay, self.end_id))
        if options.force:
            found.append(Force({step: self._id(token, "force") for step, token in options.force.items()}))
        return tuple(found)

    @cached_property
    def stop(self) -> Stop | None:
        """What finishes a text besides the end token."""
        found: list[Stop] = []
        if self.options.stop:
            found.append(StopStrings(self.tokenizer.decode, self.options.stop))
        if self.options.also_end:
            found.append(StopTokens(frozenset(self._also_end)))
        return (lambda tokens: any(stop(tokens) for stop in found)) if found else None

    @property
    def _also_end(self) -> list[int]:
        return [self._id(token, "also_end") for token in self.options.also_end]

    def constraint(self, prompts: Sequence[Sequence[int]], texts: Sequence[str]) -> Constraint | None:
        """What may be written after these prompts."""
        found = list(self._constraints(prompts, texts))
        if len(found) < 2:
            return found[0] if found else None
        return AllOf(found)

    def _constraints(self, prompts: Sequence[Sequence[int]], texts: Sequence[str]) -> Iterator[Constraint]:
        size, device = self.size, self.prompter.model.device
        if self._forbidden is not None:
            starts = [self._forbidden.start(self._before(prompt)) for prompt in prompts]
            yield AutomatonConstraint(self._forbidden, starts, size, device=device)
        if self._pattern is not None:
            states = [self._pattern.start] * len(prompts)
            yield AutomatonConstraint(self._pattern, states, size, device=device)
        passages = texts if self.options.copy_prompt else [self.options.passage] * len(texts)
        if self.options.copy_prompt or self.options.passage is not None:
            ngrams = PassageNgrams([self.prompter.bare(text or "") for text in passages], self.end_id)
            begun = [ngrams.start(number) for number in range(len(prompts))]
            yield AutomatonConstraint(ngrams, begun, size, device=device)
        known, padding = len(self.tokenizer.vocabulary), self._padding
        if known < size or padding is not None:
            yield WritableTokens(len(prompts), known, padding, size, device)

    @property
    def _padding(self) -> int | None:
        """The padding token, which is never text, where it does not end texts as well."""
        vocabulary = self.tokenizer.vocabulary
        found = vocabulary.ids.get(vocabulary.specials.pad or "")
        return None if found == self.end_id else found

    def _before(self, prompt: Sequence[int]) -> Sequence[int]:
        """The tokens that the new text goes on from: a forbidden word may begin there."""
        return prompt if self.prompter.continues else ()

    @cached_property
    def _forbidden(self) -> ForbiddenWords | None:
        words = [
            ids
            for word in self.options.forbidden
            for ids in spellings(self.prompter, word)
            if self.end_id not in ids
        ]
        return ForbiddenWords(words, self.size, self.end_id) if words else None

    @cached_property
    def _pattern(self) -> Pattern | None:
        if self.options.pattern is None:
            return None
        return Pattern(self.options.pattern, token_texts(self.tokenizer), self.end_id)

    def _truncations(self) -> Iterator[Filter]:
        for name, make in _TRUNCATIONS.items():
            value = getattr(self.options, name)
            if value is not None:
                made = make(value)
                yield KeepEnd(made, self.end_id) if self.options.consistent else made

    def _id(self, token: str, option: str) -> int:
        return token_id(self.tokenizer.vocabulary, token, option)


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _penalty(options: GenerationOptions) -> LengthPenalty:
    alpha = _or(options.length_penalty, 1.0)
    return Gnmt(alpha) if options.gnmt else Power(alpha)


def spellings(prompter: Prompter, word: str) -> list[list[int]]:
    """The ids of a word alone, after a blank, and inside a text where the vocabulary marks where words begin.

    一个词的各种编码方式：单独、空格之后、句中。
    """
    alone, after = prompter.bare(word), prompter.bare(f" {word}")
    return distinct([_inside(prompter.tokenizer.vocabulary, alone), alone, after])


def _inside(vocabulary: Vocabulary, ids: list[int]) -> list[int]:
    """The same without the mark of a word's beginning."""
    if not ids or not vocabulary.tokens[ids[0]].startswith(_BLANK):
        return ids
    rest = vocabulary.tokens[ids[0]].removeprefix(_BLANK)
    if rest and rest not in vocabulary:
        return ids
    return [*([vocabulary[rest]] if rest else []), *ids[1:]]


def token_texts(tokenizer: Tokenizer) -> list[str | None]:
    """What each token adds to a text, for `Pattern`; None for special tokens and parts of characters.

    每个词元给文本增加的字符；特殊词元与不完整字符为 None。

    Blanks that a vocabulary only implies (between the Latin words of WordPiece) are not seen.
    """
    special = set(tokenizer.vocabulary.specials.names())
    return [
        None if token in special else _added(tokenizer, number, token)
        for number, token in enumerate(tokenizer.vocabulary.tokens)
    ]


def _added(tokenizer: Tokenizer, number: int, token: str) -> str | None:
    if token.startswith(_WORD_GOES_ON) and len(token) > len(_WORD_GOES_ON):
        return token.removeprefix(_WORD_GOES_ON)
    text = tokenizer.decode([number])
    if token.startswith(_BLANK) and not text.startswith(" "):
        text = f" {text}"
    return None if "\ufffd" in text else text
