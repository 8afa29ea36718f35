"""Training a chat model into a run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path

import torch
from torch import nn

from hanformer.chat.dialogues import EncodedDialogues
from hanformer.chat.layouts import LAYOUTS, layout_named
from hanformer.chat.models import make_model
from hanformer.chat.recipe import ChatRecipe
from hanformer.data.batches import TokenBudgetBatches
from hanformer.data.dialogues import DialogueData
from hanformer.data.sequences import SequenceBatch
from hanformer.errors import UserError
from hanformer.tasks.stop_head import describer, logits_at
from hanformer.tasks.text_recipe import make_tokenizer
from hanformer.tasks.token_figures import token_figures
from hanformer.text.load import load_tokenizer
from hanformer.text.protocols import Tokenizer
from hanformer.train.history import History
from hanformer.train.progress import Reporter
from hanformer.train.running import Prepared, train_run
from hanformer.train.sequence import predict_targets
from hanformer.train.tricks import tricks_named

TASK = "chat"


def train(
    recipe: ChatRecipe,
    data: DialogueData,
    run_folder: str | Path,
    *,
    device: torch.device | None = None,
    reporter: Reporter | None = None,
    resume: bool = False,
) -> History:
    """Trains by a recipe into a run folder; `resume` goes on with a run that was cut.

    按配方训练对话模型并写入运行目录。

    best/ is a model folder: `hanformer.load(RUN)` opens the language model, `hanformer chat RUN` talks with it.
    Raises UserError for unusable data, a folder that already holds a run, and whatever cannot be written.
    """

    def prepare(run: Path | None) -> Prepared[SequenceBatch]:
        if run is not None:
            return _prepared(recipe, data, load_tokenizer(run))
        texts = chain.from_iterable(data.train)
        return _prepared(recipe, data, make_tokenizer(recipe, texts, LAYOUTS[recipe.layout]))

    return train_run(
        run_folder, TASK, data.source, recipe, prepare, device=device, reporter=reporter, resume=resume
    )


def _prepared(recipe: ChatRecipe, data: DialogueData, tokenizer: Tokenizer) -> Prepared[SequenceBatch]:
    layout = layout_named(recipe.layout, tokenizer.vocabulary)
    learned, held = (
        EncodedDialogues.of(each, tokenizer, layout, learn=recipe.learn, longest=recipe.maximum_length)
        for each in (data.train, data.valid)
    )
    if not len(learned):
        raise UserError(
            f"{data.source}: no dialogue has two turns that fit into {recipe.maximum_length} tokens; "
            "raise --set maximum_length=..."
        )
    model = make_model(recipe, tokenizer)
    objective = predict_targets(recipe.label_smoothing, logits_at)
    return Prepared(
        model,
        tricks_named(recipe.tricks)(objective),
        TokenBudgetBatches(learned.lengths(), recipe.token_budget, learned.collate, seed=recipe.train.seed),
        size_of,
        tokenizer.save,
        describer(model),
        validation(recipe, held) if len(held) else None,
        {
            "training_examples": len(learned),
            "validation_examples": len(held),
            "left_out": learned.left_out + held.left_out,
        },
    )


def size_of(batch: SequenceBatch) -> int:
    """Tokens of a batch. 批次的词元数。"""
    return batch.layout.total


def validation(recipe: ChatRecipe, held: EncodedDialogues) -> Callable[[nn.Module], Mapping[str, float]]:
    """The mean −log p of learned tokens, without smoothing, and the share of them predicted right. 验证指标。"""
    batches = TokenBudgetBatches(held.lengths(), recipe.token_budget, held.collate, shuffle=False)
    objective = predict_targets(0.0, logits_at)
    return lambda model: token_figures(objective, model, batches.batches(0))
