"""A sequence-to-sequence run at work: it rewrites texts, and is scored by what it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from hanformer.data.published import open_splits
from hanformer.errors import UserError
from hanformer.models.terminating_files import WritingModel, load_writing, stack_of
from hanformer.nn.layers.prepacked import prepacked
from hanformer.runtime import inference_dtype
from hanformer.tasks.generation import Writer
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.tasks.scoring import score_texts
from hanformer.tasks.seq2seq.conditions import check_conditions, likelihoods
from hanformer.tasks.seq2seq.pairs import TextPair, read_pairs
from hanformer.tasks.seq2seq.recipe import Seq2SeqRecipe
from hanformer.tasks.seq2seq.training import TASK
from hanformer.tasks.serving import Evaluated, Service, ServingOptions, spread
from hanformer.text.load import load_tokenizer
from hanformer.text.protocols import Tokenizer
from hanformer.train.runs import open_run, recipe_of


class Seq2SeqService(Service):
    """Writes the target of each source, under its condition where the run has some. 由原文（与条件）生成译文。"""

    def __init__(
        self,
        model: WritingModel,
        tokenizer: Tokenizer,
        recipe: Seq2SeqRecipe,
        options: GenerationOptions,
        rows: int | None = None,
    ) -> None:
        self.model, self.tokenizer, self.recipe = model, tokenizer, recipe
        self.options, self.rows = options, rows
        self.conditions = stack_of(model).config.conditions

    def evaluate(self, data: str, without: Path | None = None) -> Evaluated:
        """Character BLEU, chrF, ROUGE and repetition on the test file of a folder or a zip, or on a file; where there
        are conditions, the share of texts whose own makes them likeliest.

        在测试集上按字计算 BLEU、chrF、ROUGE 与重复率；若有条件，另报告由文本认出条件的比例。

        Raises UserError for `without`, which has no meaning here.
        """
        if without is not None:
            raise UserError("--without is for word problems; leave it out")
        with open_splits(data) as splits:
            split = next(name for name in ("test", "valid", "train") if name in splits)
            pairs = spread(read_pairs(splits[split], self.recipe.columns), self.rows)
        check_conditions(pairs, self.conditions, data)
        told = self._told_apart(pairs) if self.conditions else Evaluated("", {})
        compared = Evaluated("", {}) if self.recipe.columns.sourceless else self._compared(pairs)
        parts = [f"{data} ({split}): {len(pairs)} texts", compared.text, told.text]
        figures = {**compared.figures, **told.figures}
        nothing: Mapping[str, Any] = {}
        both = zip_longest(compared.rows, told.rows, fillvalue=nothing)
        rows = [{**one, **other} for one, other in both]
        return Evaluated("\n".join(part for part in parts if part), figures, rows)

    def _compared(self, pairs: Sequence[TextPair]) -> Evaluated:
        """What is written beside what should be."""
        written = self._write(pairs)
        texts = ["" if isinstance(text, UserError) else text for text in written]
        scores = score_texts(texts, [pair.target for pair in pairs])
        unread = sum(isinstance(text, UserError) for text in written)
        note = f"\n{unread} sources could not be read, and count as empty texts" if unread else ""
        rows = [{**_known(pair), "written": text} for pair, text in zip(pairs, texts, strict=True)]
        figures = {"bleu": scores.corpus.bleu, "chrf": scores.corpus.chrf, "rouge_l": scores.rouge_l}
        return Evaluated(f"{scores.table()}{note}", figures, rows)

    def _told_apart(self, pairs: Sequence[TextPair]) -> Evaluated:
        """Whether texts are likeliest under their own conditions: by Bayes, with conditions of equal chance."""
        found = likelihoods(self.model, self.tokenizer, pairs)
        best = [self.conditions[number] for number in found.argmax(1).tolist()]
        rows = [{**_known(pair), "likeliest": name} for pair, name in zip(pairs, best, strict=True)]
        share = mean(pair.condition == name for pair, name in zip(pairs, best, strict=True))
        text = f"likeliest under their own condition: {100 * share:.2f} % of the texts"
        return Evaluated(text, {"condition_accuracy": share}, rows)

    def _answers(self, texts: Sequence[str]) -> Sequence[str | UserError]:
        """The target of each text, or why it cannot be read; with conditions, of lines of condition and text. 生成。"""
        if not self.conditions:
            return self._write([TextPair(text, "") for text in texts])
        read = [self._asked(text) for text in texts]
        written = iter(self._write([each for each in read if isinstance(each, TextPair)]))
        return [next(written) if isinstance(each, TextPair) else each for each in read]

    def _asked(self, line: str) -> TextPair | UserError:
        condition, tab, source = line.partition("\t")
        if condition.strip() not in self.conditions or bool(tab) == self.recipe.columns.sourceless:
            form = "a condition" if self.recipe.columns.sourceless else "a condition, a tab and a text"
            return UserError(f"expected {form}; the conditions are {', '.join(self.conditions[:20])}")
        return TextPair(source.strip(), "", condition.strip())

    def _write(self, asked: Sequence[TextPair]) -> list[str | UserError]:
        """The text of each, those under one condition together."""
        results: dict[int, str | UserError] = {}
        for condition in dict.fromkeys(each.condition for each in asked):
            places = [place for place, each in enumerate(asked) if each.condition == condition]
            options = replace(self.options, condition=condition or None)
            writer = Writer(self.model, self.tokenizer, options)
            results.update(
                zip(places, _written(writer, [asked[place].source for place in places]), strict=True)
            )
        return [results[place] for place in range(len(asked))]


def _known(pair: TextPair) -> dict[str, str]:
    """The fields of a pair that say something, by name."""
    return {name: value for name, value in pair._asdict().items() if value}


def _written(writer: Writer, texts: Sequence[str]) -> list[str | UserError]:
    results: list[str | UserError] = []
    readable: list[str] = []
    for text in texts:
        try:
            writer.prompter(text)
            readable.append(text)
            results.append("")
        except UserError as error:
            results.append(error)
    written = iter(writer.write(readable, batch=32) if readable else [])
    return [result if isinstance(result, UserError) else next(written)[0].text for result in results]


def open_service(run: Path, options: ServingOptions) -> Seq2SeqService:
    """The writer of a run. Raises UserError as `open_run` does. 打开训练好的模型。"""
    best, description = open_run(run, TASK)
    recipe = recipe_of(Seq2SeqRecipe(), description, best.parent)
    generation = GenerationOptions(maximum_length=recipe.target_length)
    if options.beams > 1:
        generation = replace(generation, rule="beam", beams=options.beams)
    dtype = inference_dtype(options.precision, torch.device(options.device))
    model = prepacked(load_writing(best, device=options.device, dtype=dtype))
    return Seq2SeqService(model, load_tokenizer(best), recipe, generation, options.rows)
