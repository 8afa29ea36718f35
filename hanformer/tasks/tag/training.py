"""Training a tagger into a run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import nn

from hanformer.data.batches import TokenBudgetBatches
from hanformer.errors import UserError
from hanformer.models import write_config
from hanformer.tasks.tag.batches import Example, TagBatch, examples_of, pack
from hanformer.tasks.tag.cutting import Cutter
from hanformer.tasks.tag.data import TagData
from hanformer.tasks.tag.heads import CHAINS
from hanformer.tasks.tag.labels import LabelSet, kinds_of, load_kinds, save_kinds
from hanformer.tasks.tag.model import (
    PART,
    TaggingModel,
    balanced_weights,
    label_set,
    make_model,
    tagging_loss,
)
from hanformer.tasks.tag.recipe import TagRecipe
from hanformer.tasks.tag.scoring import score_entities, score_words, total_of
from hanformer.tasks.tag.spans import TaggedText, cut_at, overlapping
from hanformer.tasks.tag.tagger import Tagger
from hanformer.tasks.text_recipe import make_tokenizer
from hanformer.text.load import load_tokenizer
from hanformer.text.protocols import Tokenizer
from hanformer.train.history import History
from hanformer.train.parts import inherit_part
from hanformer.train.progress import Reporter
from hanformer.train.running import Prepared, train_run
from hanformer.train.tricks import tricks_named
from hanformer.weights.atomic import write_text

TASK = "tag"
WORDS_FILE = "training_words.txt"


def train(
    recipe: TagRecipe,
    data: TagData,
    run_folder: str | Path,
    *,
    device: torch.device | None = None,
    reporter: Reporter | None = None,
    resume: bool = False,
) -> History:
    """Trains by a recipe into a run folder; `resume` goes on with a run that was cut.

    按配方训练标注模型并写入运行目录。

    best/ is a model folder (`hanformer.load(RUN)` gives the encoder) with tagger.safetensors, kinds.json and, for
    segmentation, the training words beside it. Raises UserError for unusable data, entities that overlap where the head
    is a chain, a folder that already holds a run, and whatever cannot be written.
    """
    _check_overlaps(recipe, data)

    def prepare(run: Path | None) -> Prepared[TagBatch]:
        if run is None:
            tokenizer = make_tokenizer(recipe, (text.text for text in data.train))
            return _prepared(recipe, data, tokenizer, kinds_of(data.train))
        return _prepared(recipe, data, load_tokenizer(run), load_kinds(run))

    return train_run(
        run_folder, TASK, data.source, recipe, prepare, device=device, reporter=reporter, resume=resume
    )


def cutter_of(recipe: TagRecipe, tokenizer: Tokenizer) -> Cutter:
    """How a recipe cuts texts. 配方的切分方式。"""
    return Cutter(tokenizer, recipe.unit, recipe.maximum_length, recipe.overlap)


def _check_overlaps(recipe: TagRecipe, data: TagData) -> None:
    if recipe.head not in CHAINS:
        return
    for text in (*data.train, *data.valid):
        if pair := overlapping(text.spans):
            raise UserError(
                f"{text.place}: {pair[0]} and {pair[1]} overlap, which a chain of labels cannot say; "
                "use --head global_pointer"
            )


def _prepared(
    recipe: TagRecipe, data: TagData, tokenizer: Tokenizer, kinds: Sequence[str]
) -> Prepared[TagBatch]:
    labels = label_set(recipe, kinds)
    cutter = cutter_of(recipe, tokenizer)
    examples, held = (_examples(texts, cutter, labels) for texts in (data.train, data.valid))
    if not examples:
        raise UserError(f"{data.source}: no training text has a token; check the tokenizer and the data")
    model = make_model(recipe, tokenizer, labels, balanced_weights(recipe, labels, examples))
    recipe.check_head(
        inherit_part(model.tagger, PART, recipe.start_from, lambda run: load_kinds(run) == tuple(kinds))
    )
    source = TokenBudgetBatches(
        _lengths(examples),
        recipe.token_budget,
        lambda indices, random: pack([examples[index] for index in indices]),
        seed=recipe.train.seed,
    )

    words = _words(data.train) if recipe.scheme == "segmentation" else []

    def companions(folder: Path) -> None:
        tokenizer.save(folder)
        save_kinds(kinds, folder)
        if words:
            write_text(folder / WORDS_FILE, "".join(f"{word}\n" for word in words))

    return Prepared(
        model,
        tricks_named(recipe.tricks)(tagging_loss),
        source,
        lambda batch: batch.layout.total,
        companions,
        lambda folder: write_config(model.transformer, folder),
        _validation(recipe, data.valid, held, cutter, kinds),
        {"training_texts": len(data.train), "validation_texts": len(data.valid), "windows": len(examples)},
    )


def _examples(texts: Sequence[TaggedText], cutter: Cutter, labels: LabelSet) -> list[Example]:
    kinds = {kind: number for number, kind in enumerate(labels.kinds)}
    found: list[Example] = []
    for text in texts:
        cut = cutter.cut(text.text)
        found.extend(examples_of(cut, cut.to_tokens(text.spans, kinds), labels))
    return found


def _lengths(examples: Sequence[Example]) -> list[int]:
    return [len(example.window.ids) for example in examples]


def _words(texts: Sequence[TaggedText]) -> list[str]:
    return sorted({word for text in texts for word in text.words})


def _validation(
    recipe: TagRecipe,
    texts: Sequence[TaggedText],
    held: Sequence[Example],
    cutter: Cutter,
    kinds: Sequence[str],
) -> Callable[[nn.Module], Mapping[str, float]]:
    """The mean loss, and precision, recall and F1 of what is found in the held-out texts."""
    batches = TokenBudgetBatches(
        _lengths(held),
        recipe.token_budget,
        lambda indices, random: pack([held[index] for index in indices]),
        shuffle=False,
    )

    def validate(model: nn.Module) -> Mapping[str, float]:
        total = count = 0.0
        for batch in batches.batches(0):
            loss = tagging_loss(model, batch)
            total, count = total + float(loss.total), count + float(loss.count)
        tagger = Tagger(cast(TaggingModel, model), cutter, kinds, recipe.token_budget)
        return {"loss": total / count, **found_figures(recipe, texts, tagger)}

    return validate


def found_figures(recipe: TagRecipe, texts: Sequence[TaggedText], tagger: Tagger) -> dict[str, float]:
    """Precision, recall and F1 of a tagger on texts. 标注结果的准确率、召回率与 F1。"""
    found = tagger.tag([text.text for text in texts])
    if recipe.scheme == "segmentation":
        words = [
            cut_at(text.text, [span.start for span in spans])
            for text, spans in zip(texts, found, strict=True)
        ]
        counts = score_words([text.words for text in texts], words, ()).words
    else:
        counts = total_of(score_entities([text.spans for text in texts], found))
    return {"precision": counts.precision, "recall": counts.recall, "f1": counts.f1}
