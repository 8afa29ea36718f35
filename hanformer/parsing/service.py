"""A recurrent run at work: the perplexity of text, and the brackets of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from hanformer.errors import UserError
from hanformer.parsing.evaluation import measure_text
from hanformer.parsing.parser import Parser, load_parser
from hanformer.tasks.serving import Evaluated, Service, ServingOptions


class RecurrentService(Service):
    """Judges text by perplexity; answers a sentence with the brackets of its tree. 困惑度与句法树。"""

    def __init__(self, run: Path, device: str) -> None:
        self.run, self.device = run, device

    @cached_property
    def _parser(self) -> Parser:
        return load_parser(self.run, device=self.device)

    def evaluate(self, data: str, without: Path | None = None) -> Evaluated:
        """Perplexity of the parts valid and test of running text. Raises UserError for `without`.

        在验证、测试文本上的困惑度。
        """
        if without is not None:
            raise UserError("--without is for word problems; leave it out")
        found = measure_text(self.run, data, device=self.device)
        figures = {name: judged.perplexity for name, judged in found.items()}
        unknown = {f"{name}_unknown": judged.unknown for name, judged in found.items()}
        told = "\n".join(f"{name}: perplexity {judged}" for name, judged in found.items())
        return Evaluated(told, {**figures, **unknown})

    def _answers(self, texts: Sequence[str]) -> Sequence[str | UserError]:
        """The brackets of each sentence, or why there are none. 各句的括号表示。"""
        return [self._tree(text) for text in texts]

    def _tree(self, text: str) -> str | UserError:
        try:
            return self._parser.parse(text).text()
        except UserError as error:
            return error


def open_service(run: Path, options: ServingOptions) -> RecurrentService:
    """The service of a recurrent run. 打开循环语言模型的运行目录。"""
    return RecurrentService(run, options.device)
