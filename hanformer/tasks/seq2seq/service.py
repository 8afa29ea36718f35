"""A sequence-to-sequence run at work: it rewrites texts, and is scored by what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from hanformer.data.published import open_splits
from hanformer.errors import UserError
from hanformer.records import read_record
from hanformer.runtime import inference_dtype
from hanformer.tasks.generation import Writer, open_writer
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.tasks.scoring import score_texts
from hanformer.tasks.seq2seq.pairs import read_pairs
from hanformer.tasks.seq2seq.recipe import Seq2SeqRecipe
from hanformer.tasks.seq2seq.training import TASK
from hanformer.tasks.serving import Evaluated, Service, ServingOptions, spread
from hanformer.train.runs import open_run


class Seq2SeqService(Service):
    """Writes the target of each source. 由输入文本生成目标文本。"""

    def __init__(self, writer: Writer, recipe: Seq2SeqRecipe, rows: int | None = None) -> None:
        self.writer, self.recipe, self.rows = writer, recipe, rows

    def evaluate(self, data: str, without: Path | None = None) -> Evaluated:
        """Character BLEU, chrF, ROUGE and repetition on the test file of a folder or a zip, or on a file.

        在测试集上按字计算 BLEU、chrF、ROUGE 与重复率。

        Raises UserError for `without`, which has no meaning here.
        """
        if without is not None:
            raise UserError("--without is for word problems; leave it out")
        with open_splits(data) as splits:
            split = next(name for name in ("test", "valid", "train") if name in splits)
            pairs = spread(read_pairs(splits[split], self.recipe.source, self.recipe.target), self.rows)
        written = self._write([source for source, _ in pairs])
        texts = ["" if isinstance(text, UserError) else text for text in written]
        scores = score_texts(texts, [target for _, target in pairs])
        unread = sum(isinstance(text, UserError) for text in written)
        note = f"\n{unread} sources could not be read, and count as empty texts" if unread else ""
        rows = [
            {"source": source, "target": target, "written": text}
            for (source, target), text in zip(pairs, texts, strict=True)
        ]
        figures = {"bleu": scores.corpus.bleu, "chrf": scores.corpus.chrf, "rouge_l": scores.rouge_l}
        return Evaluated(f"{data} ({split}): {len(pairs)} texts\n{scores.table()}{note}", figures, rows)

    def _answers(self, texts: Sequence[str]) -> Sequence[str | UserError]:
        """The target of each text, or why it cannot be read. 逐条生成。"""
        return self._write(texts)

    def _write(self, texts: Sequence[str]) -> list[str | UserError]:
        results: list[str | UserError] = []
        readable: list[str] = []
        for text in texts:
            try:
                self.writer.prompter(text)
                readable.append(text)
                results.append("")
            except UserError as error:
                results.append(error)
        written = iter(self.writer.write(readable, batch=32) if readable else [])
        return [result if isinstance(result, UserError) else next(written)[0].text for result in results]


def open_service(run: Path, options: ServingOptions) -> Seq2SeqService:
    """The writer of a run. Raises UserError as `open_run` does. 打开训练好的模型。"""
    best, description = open_run(run, TASK)
    recipe = read_record(Seq2SeqRecipe(), description["recipe"])
    generation = GenerationOptions(maximum_length=recipe.target_length)
    if options.beams > 1:
        generation = replace(generation, rule="beam", beams=options.beams)
    dtype = inference_dtype(options.precision, torch.device(options.device))
    writer = open_writer(best, generation, device=options.device, dtype=dtype)
    return Seq2SeqService(writer, recipe, options.rows)
