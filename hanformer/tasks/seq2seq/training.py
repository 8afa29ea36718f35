"""Training sequence to sequence into a run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import nn

from hanformer.data.batches import TokenBudgetBatches
from hanformer.data.sequences import Pair, join_pairs
from hanformer.errors import UserError
from hanformer.models import EncoderDecoder
from hanformer.models.loading import room_for
from hanformer.models.terminating_files import WritingModel
from hanformer.tasks.freezing import freeze_lowest
from hanformer.tasks.seq2seq.conditions import check_conditions, conditions_of
from hanformer.tasks.seq2seq.objectives import objective_of
from hanformer.tasks.seq2seq.pairs import EncodedPairs, PairData, TextPair
from hanformer.tasks.seq2seq.recipe import Seq2SeqRecipe
from hanformer.tasks.stop_head import describer
from hanformer.tasks.text_recipe import make_tokenizer, make_transformer
from hanformer.tasks.token_figures import token_figures
from hanformer.text.load import load_tokenizer
from hanformer.text.protocols import Tokenizer
from hanformer.train.history import History
from hanformer.train.progress import Reporter
from hanformer.train.running import Prepared, train_run
from hanformer.train.tricks import tricks_named
from hanformer.train.tricks.crossing import CrossingBatch, cross_pairs
from hanformer.train.tricks.replacement import replacing

TASK = "seq2seq"


def train(
    recipe: Seq2SeqRecipe,
    data: PairData,
    run_folder: str | Path,
    *,
    device: torch.device | None = None,
    reporter: Reporter | None = None,
    resume: bool = False,
) -> History:
    """Trains by a recipe into a run folder; `resume` goes on with a run that was cut.

    按配方训练序列到序列模型并写入运行目录。

    best/ is a model folder: `hanformer.load(RUN)` and `hanformer generate RUN` open it. Raises UserError for unusable
    data, choices that contradict each other, a folder that already holds a run, and whatever cannot be written.
    """
    recipe.check_together()

    def prepare(run: Path | None) -> Prepared[Any]:
        tokenizer = make_tokenizer(recipe, _texts(data)) if run is None else load_tokenizer(run)
        return _prepared(recipe, data, tokenizer)

    return train_run(
        run_folder, TASK, data.source, recipe, prepare, device=device, reporter=reporter, resume=resume
    )


def _texts(data: PairData) -> Iterator[str]:
    """What a vocabulary is learned from."""
    return chain.from_iterable((pair.source, pair.target) for pair in data.train)


def make_model(recipe: Seq2SeqRecipe, tokenizer: Tokenizer, conditions: Sequence[str] = ()) -> WritingModel:
    """A new model of the recipe's architecture, or the pretrained one that it names, with its head and conditions.

    新建或打开模型。
    """
    vocabulary = tokenizer.vocabulary
    if recipe.architecture == "unilm":
        changes = {"condition_size": recipe.condition_size, "conditions": tuple(conditions)}
        model = make_transformer(recipe, tokenizer, "unilm", ("lm",), changes if conditions else None)
        freeze_lowest(model, recipe.freeze)
        return recipe.stop.put_on(model, vocabulary.sep_id)
    config = recipe.shape.config(
        len(vocabulary),
        "encoder",
        max(recipe.maximum_length, recipe.target_length, 512),
        {"decoder_layers": recipe.decoder_layers, "pad_id": vocabulary.pad_id},
    )
    with room_for(config):
        two_stacks = EncoderDecoder(config).initialise()
    return recipe.stop.put_on(two_stacks, vocabulary.sep_id)


def _prepared(recipe: Seq2SeqRecipe, data: PairData, tokenizer: Tokenizer) -> Prepared[Any]:
    conditions = conditions_of(data.train, data.source)
    if bool(conditions) != bool(recipe.condition):
        there = "have conditions" if conditions else "have none"
        raise UserError(
            f"{data.source}: the pairs {there}, the recipe says condition={recipe.condition!r}: read them by "
            "recipe.columns"
        )
    check_conditions(data.valid, conditions, data.source)

    def encoded(pairs: Sequence[TextPair]) -> EncodedPairs:
        return EncodedPairs.of(
            pairs,
            tokenizer,
            sources=recipe.maximum_length,
            targets=recipe.target_length,
            conditions=conditions,
        )

    pairs, held = encoded(data.train), encoded(data.valid)
    if not len(pairs):
        raise UserError(
            f"{data.source}: no pair fits into {recipe.maximum_length} and {recipe.target_length} tokens; "
            "raise --set maximum_length=... and target_length=..."
        )
    model = make_model(recipe, tokenizer, conditions)
    join = join_pairs if recipe.architecture == "unilm" else cross_pairs
    collate = _collate(pairs, join)
    if recipe.architecture == "unilm":
        collate = replacing(collate, recipe.replacement.of_vocabulary(len(tokenizer.vocabulary)))
    source = TokenBudgetBatches(pairs.lengths(), recipe.token_budget, collate, seed=recipe.train.seed)
    return Prepared(
        model,
        tricks_named(recipe.tricks)(objective_of(recipe, recipe.label_smoothing)),
        source,
        size_of,
        tokenizer.save,
        describer(model),
        _validation(recipe, held) if len(held) else None,
        {
            "training_pairs": len(pairs),
            "validation_pairs": len(held),
            "left_out_as_too_long": pairs.left_out + held.left_out,
        },
    )


def _collate(
    pairs: EncodedPairs, join: Callable[[Sequence[Pair]], Any]
) -> Callable[[Sequence[int], Random], Any]:
    return lambda indices, random: join([pairs[index] for index in indices])


def size_of(batch: Any) -> int:
    """Tokens of a batch, sources and targets. 批次的词元数。"""
    total: int = batch.layout.total
    return total + (batch.source_layout.total if isinstance(batch, CrossingBatch) else 0)


def _validation(recipe: Seq2SeqRecipe, held: EncodedPairs) -> Callable[[nn.Module], Mapping[str, float]]:
    """The mean −log p of target tokens, without smoothing, and the share of tokens predicted right."""
    join = join_pairs if recipe.architecture == "unilm" else cross_pairs
    batches = TokenBudgetBatches(held.lengths(), recipe.token_budget, _collate(held, join), shuffle=False)
    objective = objective_of(recipe, 0.0)
    return lambda model: token_figures(objective, model, batches.batches(0))
