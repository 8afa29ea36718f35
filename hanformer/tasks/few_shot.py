"""Few-shot prompting: solved examples in one pattern, then a question, and the answer up to where the pattern ends.

少样本提示：按同一模板写出若干例子，再接问题，答案到模板结尾为止。

Source: kexue.fm/archives/7912; Brown et al. 2020, arXiv 2005.14165.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hanformer.errors import UserError
from hanformer.models.loading import Model
from hanformer.tasks.generation import Generated, generate_texts
from hanformer.tasks.generation_options import DEFAULTS, GenerationOptions
from hanformer.text.protocols import Tokenizer

QUESTION: Final = "{question}"
ANSWER: Final = "{answer}"


@dataclass(frozen=True)
class FewShot:
    """A pattern with a question and an answer, and examples of it: what stands around them is kept to the letter.

    少样本模板：含 {question} 与 {answer}，以及若干例子。

    `FewShot("{question}的首都是{answer}", (("美国", "华盛顿"), ("法国", "巴黎")))` asks for capitals, one a line.
    Raises UserError for a template without exactly one {question} before one {answer}, without an end (text after the
    answer, or a separator), and for an example whose answer holds that end.
    """

    template: str
    examples: tuple[tuple[str, str], ...] = ()
    separator: str = "\n"
    introduction: str = ""

    def __post_init__(self) -> None:
        counts = (self.template.count(QUESTION), self.template.count(ANSWER))
        if counts != (1, 1) or self.template.index(QUESTION) > self.template.index(ANSWER):
            raise UserError(
                f"template: expected one {QUESTION} and after it one {ANSWER}, as in "
                f"'{QUESTION}的首都是{ANSWER}'; got {self.template!r}"
            )
        if not self.ending:
            raise UserError(
                "template: expected text after {answer}, or a separator; else no answer would end"
            )
        for _, answer in self.examples:
            if self.ending in answer:
                raise UserError(f"the answer {answer!r} holds {self.ending!r}, with which answers end")

    @property
    def ending(self) -> str:
        """What closes an answer: the text after it in the template, or the separator."""
        return self.template.split(ANSWER)[1] or self.separator

    def prompt(self, question: str) -> str:
        """The introduction, the examples, and the question up to where its answer begins."""
        opening, closing = self.template.split(ANSWER)
        solved = [
            opening.replace(QUESTION, asked) + answer + closing + self.separator
            for asked, answer in self.examples
        ]
        return self.introduction + "".join(solved) + opening.replace(QUESTION, question)


def complete(
    model: Model,
    tokenizer: Tokenizer,
    pattern: FewShot,
    questions: Sequence[str],
    options: GenerationOptions = DEFAULTS,
    *,
    batch: int = 8,
) -> list[list[Generated]]:
    """The answers to each question: what a language model writes after the examples, until the pattern's end.

    用语言模型按例子回答每个问题，答案在模板结尾处截断。

    Arguments and errors are those of `generate_texts`. Source: kexue.fm/archives/7912.
    """
    if isinstance(questions, str):
        raise UserError(f"expected a list of questions, got one text: write [{questions[:20]!r}]")
    prompts = [pattern.prompt(question) for question in questions]
    ended = replace(options, stop=(*options.stop, pattern.ending))
    return generate_texts(model, tokenizer, prompts, ended, batch=batch)
