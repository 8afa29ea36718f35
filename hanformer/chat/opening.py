"""A chat opened from a run folder, or from the folder of a model that learned dialogues elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hanformer.chat.layouts import DialogueLayout, layout_named
from hanformer.chat.models import ChatModel
from hanformer.chat.recipe import ChatRecipe
from hanformer.chat.replies import LONGEST_REPLY, Replier, reply_options
from hanformer.chat.training import TASK
from hanformer.errors import UserError
from hanformer.models.terminating_files import load_writing
from hanformer.nn.layers.prepacked import prepacked
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.tasks.prompting import positions
from hanformer.text.load import load_tokenizer
from hanformer.text.protocols import Tokenizer
from hanformer.train.runs import RUN_FILE, open_run, recipe_of, run_of


@dataclass(frozen=True, eq=False)
class OpenedChat:
    """A model with what it takes to talk with it; `longest` are the tokens that it learned to read at once.

    打开的对话模型及其分词器、布局与最大长度。
    """

    model: ChatModel
    tokenizer: Tokenizer
    layout: DialogueLayout
    longest: int
    recipe: ChatRecipe

    def options(self, words: Mapping[str, Any] | None = None, *, plain: bool = False) -> GenerationOptions:
        """`reply_options`, whose replies leave half of the room to the history. 适合此模型的回复选项。"""
        longest = {"maximum_length": max(1, min(LONGEST_REPLY, self.longest // 2))}
        given = {name: value for name, value in (words or {}).items() if value is not None}
        return reply_options({**longest, **given}, plain=plain)

    def replier(self, options: GenerationOptions) -> Replier:
        """The same with options. Raises UserError as `Replier` does. 按选项构造回复器。"""
        return Replier(self.model, self.tokenizer, self.layout, options, self.longest)


def open_chat(
    path: str | Path,
    *,
    layout: str | None = None,
    family: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> OpenedChat:
    """Opens a run of the task chat, or a model folder whose dialogues have the `layout` (alternating by default),
    of the `family` where it is not recognised.

    打开对话任务的运行目录，或普通模型文件夹（可指定布局与模型家族）。

    Raises UserError for a folder that is neither, a run of another task, a layout that is not the run's, and a
    vocabulary without the tokens that the layout needs.
    """
    if not (run_of(path) / RUN_FILE).exists():
        return _open_model_folder(path, layout or "alternating", family, device, dtype)
    best, description = open_run(path, TASK)
    recipe = recipe_of(ChatRecipe(), description, best.parent)
    if layout not in (None, recipe.layout):
        raise UserError(
            f"{path}: was trained with the layout {recipe.layout}, not {layout}; leave --layout out"
        )
    if family is not None:
        raise UserError(f"{path}: a run knows its own family; leave --family out")
    tokenizer = load_tokenizer(best)
    model = load_writing(best, device=device, dtype=dtype)
    spoken = layout_named(recipe.layout, tokenizer.vocabulary)
    return OpenedChat(prepacked(model), tokenizer, spoken, recipe.maximum_length, recipe)


def _open_model_folder(
    path: str | Path,
    layout: str,
    family: str | None,
    device: str | torch.device,
    dtype: torch.dtype | None,
) -> OpenedChat:
    tokenizer = load_tokenizer(path)
    spoken = layout_named(layout, tokenizer.vocabulary)
    changes = {"shared_segment_embeddings": True} if layout == "speakers" else None
    model = load_writing(
        path, family=family, application="lm", heads=("lm",), changes=changes, device=device, dtype=dtype
    )
    longest = positions(model) or model.config.max_positions
    recipe = ChatRecipe(layout=layout, maximum_length=longest)
    return OpenedChat(prepacked(model), tokenizer, spoken, longest, recipe)
