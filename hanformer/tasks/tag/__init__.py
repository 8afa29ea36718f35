"""Tagging: words or named entities found in texts, each with its exact place."""

from hanformer.tasks.tag.recipe import TagRecipe
from hanformer.tasks.tag.training import train

__all__ = ["TagRecipe", "train"]
