"""Classification: texts with one label or many."""

from hanformer.tasks.classify.recipe import ClassifyRecipe
from hanformer.tasks.classify.training import train

__all__ = ["ClassifyRecipe", "train"]
