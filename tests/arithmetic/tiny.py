"""A few problems and a model small enough to learn them in a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hanformer.arithmetic.data_sets import DataSet
from hanformer.arithmetic.generated import generate
from hanformer.arithmetic.layouts import Noise
from hanformer.arithmetic.recipe import Recipe
from hanformer.arithmetic.slot_layout import SlotOptions
from hanformer.arithmetic.training import train
from hanformer.train.options import TrainOptions
from hanformer.train.sizes import Sizes

KINDS = ("年龄", "归一")

RECIPE = Recipe(
    sizes=Sizes(hidden_size=32, layers=2, attention_heads=2, intermediate_size=64, dropout=0.0),
    slots=SlotOptions(pieces=300),
    noise=Noise(piece_dropout=0.0, mask=0.0),
    train=TrainOptions(
        updates=120,
        learning_rate=1e-2,
        warm_up=5,
        best_by="accuracy",
        higher_is_better=True,
        checkpoint_seconds=None,
        validate_every=60,
        checkpoint_every=60,
    ),
    token_budget=1024,
)


def tiny_data(count: int = 48) -> DataSet:
    """Generated problems of two types; validation on some of the training problems, so that it can be learned."""
    problems = generate(count, 0, "train", KINDS)
    return DataSet("generated", problems, problems[:16], {"test": problems[:16]})


def tiny_run(folder: Path, recipe: Recipe = RECIPE, updates: int = 120) -> Path:
    """A finished run in `folder`."""
    train(replace(recipe, train=replace(recipe.train, updates=updates)), tiny_data(), folder)
    return folder
