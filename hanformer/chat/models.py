"""The language model of a chat run, with a head that must stop or without, made, opened and read from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from hanformer.chat.layouts import LAYOUTS, Prompt
from hanformer.chat.recipe import ChatRecipe
from hanformer.data.sequences import SequenceBatch
from hanformer.decode import prepacked
from hanformer.errors import UserError
from hanformer.models import Transformer, load
from hanformer.models.self_terminating import TerminatingState, TerminatingTransformer
from hanformer.nn.layers.self_terminating import StopHead, Termination, log_going_on, with_end
from hanformer.tasks.freezing import freeze_lowest
from hanformer.tasks.prompting import positions
from hanformer.tasks.text_recipe import make_transformer
from hanformer.text.protocols import Tokenizer
from hanformer.train.parts import load_part
from hanformer.train.sequence import target_logits

ChatModel = Transformer | TerminatingTransformer


class StoppingChat(nn.Module):
    """A language model and its head that must stop, as they are trained and saved: two parts.

    语言模型与自终止输出层（训练与保存时的两个部分）。
    """

    def __init__(self, transformer: Transformer, end_id: int, termination: Termination) -> None:
        super().__init__()
        self.transformer = transformer
        self.stop = StopHead(transformer.config.hidden_size, end_id, termination)


def logits_at(model: nn.Module, batch: SequenceBatch) -> Tensor:
    """[M, V] at the predicting places of a packed batch, with whatever head the model has.

    预测位置的 logits（或对数概率）。
    """
    if isinstance(model, StoppingChat):
        return _log_p(model.transformer, model.stop, batch)
    if isinstance(model, TerminatingTransformer):
        return _log_p(model.model, model.stop, batch)
    return target_logits(cast(Transformer, model), batch)


def _log_p(stack: Transformer, stop: StopHead, batch: SequenceBatch) -> Tensor:
    """log p [M, V]; the sums of the head start anew behind every end token: with every reply."""
    hidden = stack.body(stack.embed(batch.token_ids, batch.layout), batch.layout)
    hidden = hidden.index_select(0, batch.predictors)
    ends = (batch.labels == stop.end_id).nonzero().squeeze(1).tolist()
    lengths = [end - before for before, end in zip([-1, *ends], ends, strict=False)]
    going_on = log_going_on(stop.termination, stop.scores(hidden), lengths)
    return with_end(stack.lm_logits(hidden), going_on, stop.end_id)


def make_model(recipe: ChatRecipe, tokenizer: Tokenizer) -> Transformer | StoppingChat:
    """A new model of the recipe, or the pretrained one that it names; what `freeze` says learns nothing.

    新建或打开模型。

    Raises UserError where the model has too few positions or layers.
    """
    changes: dict[str, Any] = {}
    if LAYOUTS[recipe.layout]:
        changes = {"shared_segment_embeddings": True, "segment_vocab_size": 0}
    model = make_transformer(recipe, tokenizer, "lm", ("lm",), changes)
    places = positions(model)
    if places is not None and places < recipe.maximum_length:
        raise UserError(
            f"{recipe.start_from or 'the model'} has {places} positions, maximum_length is {recipe.maximum_length}; "
            f"lower it: --set maximum_length={places}"
        )
    freeze_lowest(model, recipe.freeze)
    termination = recipe.stop.termination()
    return model if termination is None else StoppingChat(model, tokenizer.vocabulary.sep_id, termination)


def open_model(
    folder: Path,
    recipe: ChatRecipe,
    tokenizer: Tokenizer,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> ChatModel:
    """The trained model of a run's best/, prepacked for decoding. 打开训练好的模型。"""
    model = load(folder, device=device, dtype=dtype)
    termination = recipe.stop.termination()
    if termination is None:
        return prepacked(model)
    stopping = TerminatingTransformer(model, tokenizer.vocabulary.sep_id, termination)
    load_part(stopping.stop, "stop", folder)
    return prepacked(stopping.eval())


def stack_of(model: ChatModel) -> Transformer:
    """The language model itself. 语言模型本身。"""
    return model.model if isinstance(model, TerminatingTransformer) else model


def read_prompts(model: ChatModel, prompts: Sequence[Prompt]) -> tuple[Tensor, Any]:
    """Reads prompts whose replies have one segment: next-token logits [P, V], and the state to go on from.

    读入提示；所追加的词元使用回复的段编号。
    """
    logits, state = model.prompt([prompt.ids for prompt in prompts], [prompt.segments for prompt in prompts])
    inner = state.inner if isinstance(state, TerminatingState) else state
    inner.segment = prompts[0].reply_segment
    return logits, state
