"""The language model of a chat run, with a head that must stop or without, made and read from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from hanformer.chat.layouts import LAYOUTS, Prompt
from hanformer.chat.recipe import ChatRecipe
from hanformer.errors import UserError
from hanformer.models import Transformer
from hanformer.models.self_terminating import TerminatingState, TerminatingTransformer
from hanformer.tasks.freezing import freeze_lowest
from hanformer.tasks.prompting import positions
from hanformer.tasks.text_recipe import make_transformer
from hanformer.text.protocols import Tokenizer

ChatModel = Transformer | TerminatingTransformer


def make_model(recipe: ChatRecipe, tokenizer: Tokenizer) -> ChatModel:
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
    made: Any = recipe.stop.put_on(model, tokenizer.vocabulary.sep_id)
    return made


def read_prompts(model: ChatModel, prompts: Sequence[Prompt]) -> tuple[Tensor, Any]:
    """Reads prompts whose replies have one segment: next-token logits [P, V], and the state to go on from.

    读入提示；所追加的词元使用回复的段编号。
    """
    logits, state = model.prompt([prompt.ids for prompt in prompts], [prompt.segments for prompt in prompts])
    inner = state.inner if isinstance(state, TerminatingState) else state
    inner.segment = prompts[0].reply_segment
    return logits, state
