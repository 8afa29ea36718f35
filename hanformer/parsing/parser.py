"""From a trained ON-LSTM to the trees of sentences, and how good they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.models.recurrent_lm import RecurrentLm
from hanformer.models.recurrent_store import load_recurrent
from hanformer.nn.layers.recurrent.on_lstm import OnLstmCell
from hanformer.parsing.brackets import Brackets
from hanformer.parsing.branching import BASELINES
from hanformer.parsing.scoring import CONVENTIONS, COUNTED, ParsingScore, most_possible, unlabelled_f1
from hanformer.parsing.splitting import RULES, by_chance, tree_of
from hanformer.parsing.training import TASK
from hanformer.parsing.words import Words
from hanformer.train.runs import open_run
from hanformer.train.validation import looking_only

_TOGETHER = 64


@dataclass(frozen=True, eq=False)
class Parser:
    """Reads trees out of the master forget gates of an ON-LSTM language model.

    由 ON-LSTM 语言模型的主遗忘门得到句法树。

    `layer` counts from 0; None is the middle one (the second of three, which serves best in English). `rule` is a name
    of `splitting.RULES`.
    Raises UserError for a model without ON-LSTM layers, a layer that is not there, and another rule.
    """

    model: RecurrentLm
    words: Words
    layer: int | None = None
    rule: str = "paper"

    def __post_init__(self) -> None:
        if not all(isinstance(cell, OnLstmCell) for cell in self.model.stack.layers):
            kind = self.model.config.kind
            raise UserError(f"trees need the master gates of an on_lstm, this model is of the kind {kind}")
        count = len(self.model.stack.layers)
        if self.layer is not None and not 0 <= self.layer < count:
            raise UserError(f"layer: expected 0 to {count - 1}, got {self.layer}")
        if self.rule not in RULES:
            raise UserError(f"rule: expected one of {', '.join(RULES)}, got {self.rule!r}")

    def distances(self, sentences: Sequence[Sequence[str]]) -> list[list[float]]:
        """1 - mean(master forget gate) at every word of sentences, each read after an <eos>. 每个词的句法距离。"""
        found: list[list[float]] = []
        with looking_only(self.model):
            for start in range(0, len(sentences), _TOGETHER):
                found += self._distances(sentences[start : start + _TOGETHER])
        return found

    def parse(self, text: str) -> Brackets:
        """The tree of a sentence; raises UserError where it has no words, or none that is known. 分析一个句子。"""
        return self.parse_all([self.words.read(text)])[0]

    def parse_all(self, sentences: Sequence[Sequence[str]]) -> list[Brackets]:
        """The trees of sentences that are cut into words already. 分析已分词的句子。"""
        return [
            tree_of(words, distances, self.rule)
            for words, distances in zip(sentences, self.distances(sentences), strict=True)
        ]

    def _distances(self, sentences: Sequence[Sequence[str]]) -> list[list[float]]:
        """Sentences of unequal length side by side: what follows the end of one changes nothing before it."""
        rows = [[self.words.end_id, *self.words.ids(words)] for words in sentences]
        longest = max(map(len, rows))
        padded = [row + [self.words.end_id] * (longest - len(row)) for row in rows]
        ids = torch.tensor(padded, device=self.model.device).T
        depths = self._forgetting(ids)[1:].T.tolist()
        return [depth[: len(words)] for depth, words in zip(depths, sentences, strict=True)]

    def _forgetting(self, ids: Tensor) -> Tensor:
        stack, layer = self.model.stack, self.layer
        layer = len(stack.layers) // 2 if layer is None else layer
        output, cell = self.model.read(ids), stack.layers[layer]
        assert isinstance(cell, OnLstmCell)
        below = output.raw[layer - 1] if layer else self.model.embedding(ids)
        first = cell.first_state(ids.shape[1])
        return cell.distances(below, output.raw[layer], first, stack.weight(cell))[0]


def load_parser(
    path: str | Path, *, layer: int | None = None, rule: str = "paper", device: str | torch.device = "cpu"
) -> Parser:
    """The parser of a run of the task "recurrent".

    打开训练好的运行目录用于句法分析。

    Raises UserError for a folder that is no such run, and what `Parser` refuses.
    """
    folder, _ = open_run(path, TASK)
    return Parser(load_recurrent(folder, device=device), Words.load(folder), layer, rule)


def score_parser(parser: Parser, gold: Sequence[Brackets]) -> dict[str, dict[str, ParsingScore]]:
    """Unlabelled F1 by convention, and by name: the model, the branching baselines, what the parser's rule makes of
    distances drawn by chance, and the best of binary trees.

    在各种约定下，比较模型、基线分支、随机距离与二叉树上限的 F1。

    Raises UserError where the model knows no word of the treebank.
    """
    sentences = [tree.words for tree in gold]
    if parser.words.unknown_share(sentences) == 1:
        raise UserError(
            "the model knows no word of the treebank: its trees would say nothing; its text was cut by "
            f"{parser.words.segment}, and a treebank is cut into words"
        )
    guesses: Mapping[str, list[Brackets]] = {
        "model": parser.parse_all(sentences),
        **{name: [guess(words) for words in sentences] for name, guess in BASELINES.items()},
        "by chance": [by_chance(words, parser.rule) for words in sentences],
        "upper bound": most_possible(gold),
    }
    return {
        convention: {name: unlabelled_f1(gold, trees, convention) for name, trees in guesses.items()}
        for convention in CONVENTIONS
    }


def score_table(parser: Parser, gold: Sequence[Brackets]) -> str:
    """`score_parser` as text: corpus F1 / mean sentence F1, in percent. 得分表。"""
    scores = score_parser(parser, gold)
    head = f"{'unlabelled F1':<14}" + "".join(f"{name:>16}" for name in CONVENTIONS)
    rows = [
        f"{name:<14}"
        + "".join(
            f"{scores[rule][name].corpus:>9.2f} /{scores[rule][name].sentences:>5.1f}" for rule in CONVENTIONS
        )
        for name in scores[COUNTED]
    ]
    count = scores[COUNTED]["model"].count
    said = (
        f"{count} sentences of at least two words; corpus / mean of sentences; "
        f"{parser.words.unknown_share(tree.words for tree in gold):.1%} of all words unknown to the model"
    )
    return "\n".join([said, head, *rows])
