"""A tagging run at work: it segments texts or finds their entities, and is judged by what it finds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hanformer.data.files import lines
from hanformer.errors import UserError
from hanformer.runtime import inference_dtype
from hanformer.tasks.serving import Evaluated, Service, ServingOptions
from hanformer.tasks.tag.data import texts_to_judge
from hanformer.tasks.tag.labels import load_kinds
from hanformer.tasks.tag.model import label_set, load_model
from hanformer.tasks.tag.recipe import TagRecipe
from hanformer.tasks.tag.scoring import entity_table, score_entities, score_words, total_of, word_table
from hanformer.tasks.tag.spans import TextSpan, cut_at
from hanformer.tasks.tag.tagger import Tagger
from hanformer.tasks.tag.training import TASK, WORDS_FILE, cutter_of
from hanformer.text.load import load_tokenizer
from hanformer.train.runs import open_run, recipe_of


class SegmentationService(Service):
    """Cuts texts into words. 分词服务。"""

    def __init__(self, tagger: Tagger, recipe: TagRecipe, known: frozenset[str]) -> None:
        self.tagger, self.recipe, self.known = tagger, recipe, known

    def evaluate(self, data: str, without: Path | None = None) -> Evaluated:
        """The bakeoff's figures on the test file of a folder, or a file; unknown words are those of no training text.

        按 SIGHAN 规则评测；未登录词指训练集中没有的词。

        Raises UserError for `without`, which has no meaning here.
        """
        _refuse(without)
        source, texts = texts_to_judge(data, self.recipe.reading)
        gold = [text.words for text in texts]
        found = self.segment(["".join(words) for words in gold])
        score = score_words(gold, found, self.known)
        rows = [
            {"text": "".join(words), "words": words, "found": others}
            for words, others in zip(gold, found, strict=True)
        ]
        head = f"{source}: {len(texts):,} texts, {score.words.gold:,} words"
        return Evaluated(f"{head}\n{word_table(score)}", score.figures, rows)

    def _answers(self, texts: Sequence[str]) -> Sequence[str | UserError]:
        """The words of each text with a blank between them. 以空格分隔的词。"""
        return [" ".join(words) for words in self.segment(texts)]

    def segment(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of each text; blanks separate words and belong to none. 切成词；空白处必切。"""
        stretches = [text.split() for text in texts]
        found = iter(self.tagger.tag([stretch for parts in stretches for stretch in parts]))
        return [
            [word for part in parts for word in cut_at(part, [span.start for span in next(found)])]
            for parts in stretches
        ]


class EntityService(Service):
    """Finds named entities. 实体识别服务。"""

    def __init__(self, tagger: Tagger, recipe: TagRecipe) -> None:
        self.tagger, self.recipe = tagger, recipe

    def evaluate(self, data: str, without: Path | None = None) -> Evaluated:
        """Precision, recall and F1 of whole entities, by type and together, on a test file.

        按类型与合计给出实体级得分。

        Raises UserError for `without`, which has no meaning here.
        """
        _refuse(without)
        source, texts = texts_to_judge(data, self.recipe.reading)
        found = self.tagger.tag([text.text for text in texts])
        counts = score_entities([text.spans for text in texts], found)
        total = total_of(counts)
        rows = [
            {
                "text": text.text,
                "entities": _plain(text.text, text.spans),
                "found": _plain(text.text, spans),
            }
            for text, spans in zip(texts, found, strict=True)
        ]
        figures = {"precision": total.precision, "recall": total.recall, "f1": total.f1}
        return Evaluated(f"{source}: {len(texts):,} texts\n{entity_table(counts)}", figures, rows)

    def _answers(self, texts: Sequence[str]) -> Sequence[str | UserError]:
        """A JSON record of each text: its entities with type, start, end (exclusive) and text. 逐条输出 JSON。"""
        return [
            json.dumps({"text": text, "entities": _plain(text, spans)}, ensure_ascii=False)
            for text, spans in zip(texts, self.tagger.tag(texts), strict=True)
        ]


def open_service(run: Path, options: ServingOptions) -> Service:
    """The tagger of a run. Raises UserError as `open_run` does. 打开训练好的标注模型。"""
    best, description = open_run(run, TASK)
    recipe = recipe_of(TagRecipe(), description, best.parent)
    kinds = load_kinds(best)
    device = torch.device(options.device)
    dtype = inference_dtype(options.precision, device)
    model = load_model(best, recipe, label_set(recipe, kinds), device, dtype)
    tagger = Tagger(model, cutter_of(recipe, load_tokenizer(best)), kinds, recipe.token_budget)
    if recipe.scheme == "segmentation":
        return SegmentationService(tagger, recipe, frozenset(lines(best / WORDS_FILE)))
    return EntityService(tagger, recipe)


def _plain(text: str, spans: Sequence[TextSpan]) -> list[dict[str, Any]]:
    return [
        {"type": span.kind, "start": span.start, "end": span.end, "text": text[span.start : span.end]}
        for span in spans
    ]


def _refuse(without: Path | None) -> None:
    if without is not None:
        raise UserError("--without is for word problems; leave it out")
