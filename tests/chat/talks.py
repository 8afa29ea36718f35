"""A few dialogues, and a tiny recipe that learns them by heart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hanformer.chat import ChatRecipe, train
from hanformer.chat.opening import OpenedChat, open_chat
from hanformer.data.dialogues import DialogueData
from hanformer.tasks.stop_head import StopOptions
from hanformer.tasks.text_recipe import VocabularyOptions
from hanformer.train.options import TrainOptions
from hanformer.train.sizes import Sizes

TALKS = (
    ("你好", "好呀", "去哪里", "去山上"),
    ("今天下雨", "那就在家"),
    ("吃了吗", "吃了", "吃的什么"),
)
DATA = DialogueData("talks", TALKS, TALKS)
RECIPE = ChatRecipe(
    sizes=Sizes(hidden_size=32, layers=2, attention_heads=2, intermediate_size=64, dropout=0.0),
    vocabulary=VocabularyOptions(minimum_count=1),
    train=TrainOptions(updates=60, learning_rate=1e-2, warm_up=5, log_every=50, precision="fp32"),
    token_budget=128,
    maximum_length=32,
)
#: For pretrained models, which have sizes of their own.
TUNED = replace(RECIPE, sizes=ChatRecipe().sizes)


def learned(folder: Path, layout: str = "alternating", stop: str = "none") -> OpenedChat:
    """A run that knows the dialogues by heart, opened."""
    train(replace(RECIPE, layout=layout, stop=StopOptions(stop)), DATA, folder)
    return open_chat(folder)
