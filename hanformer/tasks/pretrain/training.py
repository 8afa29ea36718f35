"""Pretraining into a run folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hanformer.data.sequences import SequenceBatch
from hanformer.errors import UserError
from hanformer.tasks.pretrain.corpus import Corpus, passages
from hanformer.tasks.pretrain.joining import mixture_of
from hanformer.tasks.pretrain.masking import special_ids
from hanformer.tasks.pretrain.recipe import PretrainRecipe
from hanformer.tasks.pretrain.row_set import BORDERS, RowSet, at_most, hold_out
from hanformer.tasks.pretrain.rows import Row, rows
from hanformer.tasks.pretrain.starting import starting_model, starting_tokenizer
from hanformer.tasks.pretrain.store import TokenStore, open_store, write_store
from hanformer.tasks.pretrain.words import reader
from hanformer.tasks.stop_head import describer, logits_at
from hanformer.text.load import load_tokenizer
from hanformer.text.protocols import Tokenizer
from hanformer.train.history import History
from hanformer.train.losses.chunked_cross_entropy import chunked_cross_entropy
from hanformer.train.objective import Loss
from hanformer.train.progress import Reporter
from hanformer.train.running import Prepared, train_run
from hanformer.train.sequence import predict_targets
from hanformer.train.tricks import tricks_named
from hanformer.train.workers import made_once

TASK = "pretrain"
#: Where a run keeps its tokens.
TOKENS = "tokens"


def train(
    recipe: PretrainRecipe,
    corpus: Corpus,
    run_folder: str | Path,
    *,
    device: torch.device | None = None,
    reporter: Reporter | None = None,
    resume: bool = False,
) -> History:
    """Pretrains by a recipe into a run folder; `resume` goes on with a run that was cut, in the middle of an epoch too.

    按配方预训练并写入运行目录；可从一轮中间继续。

    The text is read as a stream, once for the vocabulary where one is learned and once for its tokens. These then lie
    in RUN/tokens, from where batches are mapped: no step needs memory of the text's size. Raises UserError for
    unusable text, choices that contradict each other, a folder that already holds a run, and whatever cannot be
    written.
    """
    folder = Path(run_folder)
    recipe.check_together()

    def prepare(run: Path | None) -> Prepared[SequenceBatch]:
        if run is None:
            tokenizer = starting_tokenizer(recipe, (text for text, _ in passages(corpus.train, recipe.text)))
        else:
            tokenizer = load_tokenizer(run)
        learn, held = row_sets(recipe, corpus, tokenizer, folder / TOKENS, fresh=run is None)
        return _prepared(recipe, tokenizer, learn, held)

    return train_run(
        folder, TASK, corpus.source, recipe, prepare, device=device, reporter=reporter, resume=resume
    )


def row_sets(
    recipe: PretrainRecipe, corpus: Corpus, tokenizer: Tokenizer, folder: Path, *, fresh: bool
) -> tuple[RowSet, RowSet]:
    """Rows to learn from and to choose by, as stores in the folder: written where `fresh`, or where there is none.

    训练与验证的行；fresh 时重新写入。
    """
    size = len(tokenizer.vocabulary)

    def store(name: str, files: Sequence[Path]) -> TokenStore:
        given = (folder / name, token_rows(recipe, files, tokenizer), size)
        return made_once(partial(write_store if fresh else open_store, *given), partial(open_store, *given))

    learn = store("train", corpus.train)
    if corpus.valid:
        held = at_most(store("valid", corpus.valid), recipe.valid, recipe.train.seed)
        return RowSet.all(learn), held
    if len(learn) <= recipe.valid:
        raise UserError(
            f"{corpus.source}: gives {len(learn)} rows, {recipe.valid} are held out to choose by; take fewer, "
            f"such as --set valid={max(len(learn) // 10, 1)}, or name a validation file (--valid)"
        )
    return hold_out(learn, recipe.valid, recipe.train.seed)


def token_rows(recipe: PretrainRecipe, files: Sequence[Path], tokenizer: Tokenizer) -> Iterator[Row]:
    """Files as rows of tokens that fit the recipe's length; rows of unknown tokens alone are left out.

    把文件转为词元行；全为未知词元的行被略去。

    Raises UserError at the end of files that hold no other row.
    """
    specials = frozenset(special_ids(tokenizer.vocabulary))
    read = reader(tokenizer, recipe.mask.words)
    empty = True
    for row in rows(passages(files, recipe.text), read, recipe.maximum_length - BORDERS):
        if not specials.issuperset(row[0]):
            yield row
            empty = False
    if empty:
        raise UserError(
            f"{', '.join(map(str, files[:3]))}: no text with a known token; check that the files, and text.columns, "
            "are the ones you meant"
        )


def _prepared(
    recipe: PretrainRecipe, tokenizer: Tokenizer, learn: RowSet, held: RowSet
) -> Prepared[SequenceBatch]:
    mixture = mixture_of(recipe, tokenizer.vocabulary)
    model = recipe.stop.put_on(
        starting_model(recipe, tokenizer), tokenizer.vocabulary.sep_id, counts_prompt=True
    )
    whole = recipe.tricks or recipe.stop.chosen
    return Prepared(
        model,
        tricks_named(recipe.tricks)(predict_targets(logits_of=logits_at) if whole else predict_chunked),
        learn.batches(mixture, recipe.token_budget, seed=recipe.train.seed),
        lambda batch: batch.layout.total,
        tokenizer.save,
        describer(model),
        lambda judged: held.judge(judged, mixture, recipe.token_budget),
        {
            "training_rows": len(learn.rows),
            "training_tokens": learn.tokens,
            "validation_rows": len(held.rows),
            "validation_tokens": held.tokens,
        },
    )


def predict_chunked(model: nn.Module, batch: SequenceBatch) -> Loss:
    """−Σ log p of the labels; the head runs at predicting places alone, and never holds all logits.

    仅在预测位置计算、分块进行的交叉熵。
    """
    transformer: Any = model
    batch = batch.to(next(model.parameters()).device)
    hidden = transformer.body(transformer.embed(batch.token_ids, batch.layout), batch.layout)
    head = transformer.lm_head
    features = head.features(hidden.index_select(0, batch.predictors))
    return chunked_cross_entropy(features, head.table, batch.labels, bias=head.bias)
