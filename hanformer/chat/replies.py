"""Replies to a history: what is left of it fits, the reply ends, and it does not repeat itself.

由对话历史生成回复。
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from itertools import groupby
from typing import Any, Final

from hanformer.chat.dialogues import utterance_ids
from hanformer.chat.layouts import DialogueLayout, Prompt, first_that_fits
from hanformer.chat.models import ChatModel, read_prompts
from hanformer.decode import Hypothesis, cut_at, stream_text
from hanformer.decode import generate as search
from hanformer.decode import stream as search_stepwise
from hanformer.errors import UserError
from hanformer.models.terminating_files import stack_of
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.tasks.generation_parts import Parts
from hanformer.tasks.prompting import Prompter
from hanformer.tasks.stop_head import ended_by_head
from hanformer.text.protocols import Tokenizer
from hanformer.text.vocabulary import Vocabulary

#: What a chat does unless told otherwise: the end token is never cut off, nothing is said twice.
NUCLEUS: Final = {"top_p": 0.9, "consistent": True}
NO_REPEAT: Final = {"no_repeat_ngram": 3}
LONGEST_REPLY: Final = 64
_TRUNCATIONS: Final = ("top_p", "top_k", "min_p", "typical", "epsilon", "eta", "mirostat")
#: Choices of generation that have no meaning in a chat.
_REFUSED: Final = (
    *("results", "guidance", "without", "prompt_lookup", "alternatives"),
    *("frame", "prompt_length", "copy_prompt", "time_limit", "condition"),
)


def reply_options(words: Mapping[str, Any] | None = None, *, plain: bool = False) -> GenerationOptions:
    """How replies are written: nucleus sampling that keeps the end token, no 3-gram twice, at most 64 tokens; `words`
    are options by name that change this, None leaving one as it is.

    回复的生成选项；默认核采样（保留结束符）、三元组不重复、至多 64 个词元。

    Another rule or truncation takes the place of the nucleus; `no_repeat_ngram` 0 allows repetition; with `plain`
    nothing is added to the words. Raises UserError as `GenerationOptions` does.
    """
    known = {entry.name for entry in fields(GenerationOptions)}
    given = {name: value for name, value in (words or {}).items() if name in known and value is not None}
    values: dict[str, Any] = {"rule": "sample", "maximum_length": LONGEST_REPLY}
    if not plain:
        samples = given.get("rule", "sample") == "sample"
        chosen = {"consistent": True} if given.keys() & set(_TRUNCATIONS) else NUCLEUS
        values |= {**(chosen if samples else {}), **({} if given.get("rule") == "contrastive" else NO_REPEAT)}
    values |= given
    if not values.get("no_repeat_ngram", 1):
        del values["no_repeat_ngram"]
    return GenerationOptions(**values)


@dataclass(frozen=True)
class Reply:
    """A reply, its tokens without the end, and whether it ended rather than was cut. 回复。"""

    text: str
    tokens: tuple[int, ...]
    finished: bool


class Replier:
    """A chat model, its tokenizer, layout and options, ready to reply; `longest` bounds history and reply together.

    可以回复的对话模型。

    Whole turns of the history are left out from its beginning until it fits; borders and other special tokens are never
    written. Raises UserError for options that have no meaning in a chat, or do not fit the model.
    """

    def __init__(
        self,
        model: ChatModel,
        tokenizer: Tokenizer,
        layout: DialogueLayout,
        options: GenerationOptions,
        longest: int,
    ) -> None:
        self.model, self.tokenizer, self.layout = model, tokenizer, layout
        ended = ended_by_head(options, model, tokenizer.vocabulary)
        self.options = _suited(ended, tokenizer.vocabulary)
        self.room = longest - options.maximum_length + 1
        if self.room < layout.opening + 2:
            raise UserError(
                f"replies of {options.maximum_length} tokens leave no room for a history in {longest}: "
                "lower maximum_length (--maximum-length)"
            )
        if stack_of(model).config.conditions:
            raise UserError(
                "a model that writes under conditions does not chat: fold one of them into it first "
                "(hanformer.models.conditioning.under_condition)"
            )
        self.parts = Parts(Prompter(stack_of(model), tokenizer, self.options))

    def prompt(self, history: Sequence[str]) -> Prompt:
        """What the model reads of a history. 由历史构造提示。

        Raises UserError for no history, one text in its place, a turn without tokens, and a last turn that does not fit
        alone.
        """
        if isinstance(history, str):
            raise UserError(f"a history is a sequence of turns, got one text: write [{history[:20]!r}]")
        turns = [utterance_ids(self.tokenizer, turn) for turn in history]
        if not turns or not all(turns):
            raise UserError("the utterance is empty: write some text")
        lengths = [len(turn) for turn in turns]
        first = first_that_fits(lengths, self.layout, self.room)
        if first == len(turns):
            raise UserError(
                f"the utterance has {lengths[-1]} tokens, the model has room for "
                f"{self.room - self.layout.opening - 1} beside a reply: shorten it, or lower maximum_length"
            )
        return self.layout.prompt(turns[first:], first)

    def reply(self, history: Sequence[str], *, number: int = 0) -> Reply:
        """The reply to a history whose last turn waits for one; `number` names it for the draws. 回复一条。"""
        return self.replies([history], numbers=[number])[0]

    def replies(
        self,
        histories: Sequence[Sequence[str]],
        *,
        batch: int = 32,
        numbers: Sequence[int] | None = None,
    ) -> list[Reply]:
        """A reply to every history; by `numbers` (their places) sampling draws for each. 批量回复。

        Raises UserError as `prompt` does.
        """
        if batch < 1:
            raise UserError(f"batch: expected at least 1, got {batch}")
        prompts = [self.prompt(history) for history in histories]
        named = range(len(prompts)) if numbers is None else numbers
        order = sorted(
            range(len(prompts)), key=lambda place: (prompts[place].reply_segment, len(prompts[place].ids))
        )
        found: dict[int, Reply] = {}
        for _, group in groupby(order, key=lambda place: prompts[place].reply_segment):
            alike = list(group)
            for start in range(0, len(alike), batch):
                places = alike[start : start + batch]
                begun = self._begin([prompts[place] for place in places], [named[place] for place in places])
                written = search(*begun[0], **begun[1])
                found.update(zip(places, (self._reply(each[0]) for each in written), strict=True))
        return [found[place] for place in range(len(prompts))]

    def stream(self, history: Sequence[str], *, number: int = 0) -> Iterator[str]:
        """The reply piece by piece, where the rule follows one path; else in one piece. 流式回复。"""
        if self.options.rule not in ("greedy", "sample"):
            yield self.reply(history, number=number).text
            return
        start, arguments = self._begin([self.prompt(history)], [number])
        with closing(search_stepwise(*start, **arguments)) as searches:  # type: ignore[type-var]
            yield from stream_text(searches, self.tokenizer.decode, self.options.stop)

    def _begin(
        self, prompts: Sequence[Prompt], numbers: Sequence[int]
    ) -> tuple[tuple[Any, Any, Any], dict[str, Any]]:
        """What the loop of decoding takes."""
        logits, state = read_prompts(self.model, prompts)
        rows = [prompt.ids for prompt in prompts]
        return (self.model.step, state, logits), {
            "rule": self.parts.rule(numbers),
            "end_id": self.parts.end_id,
            "maximum_length": self.options.maximum_length,
            "minimum_length": self.parts.minimum_length,
            "constraint": self.parts.constraint(rows, [""] * len(rows)),
            "filters": self.parts.filters(rows),
            "stop": self.parts.stop,
        }

    def _reply(self, found: Hypothesis) -> Reply:
        text = cut_at(self.tokenizer.decode(found.tokens), self.options.stop)
        return Reply(text, found.tokens, found.finished)


def _suited(options: GenerationOptions, vocabulary: Vocabulary) -> GenerationOptions:
    """The options with the end of a turn as the end, and the other special tokens forbidden."""
    if options.rule == "contrastive":
        raise UserError("the rule contrastive does not know how dialogues are laid out; choose another rule")
    unfit = sorted(set(_REFUSED) & options.chosen().keys())
    if unfit:
        raise UserError(f"{', '.join(unfit)}: no meaning in a chat; leave it out")
    end = vocabulary.tokens[vocabulary.sep_id] if options.end is None else options.end
    signs = tuple(token for token in vocabulary.atomic if token != end)
    return replace(options, end=end, suppress=tuple(dict.fromkeys([*options.suppress, *signs])))
