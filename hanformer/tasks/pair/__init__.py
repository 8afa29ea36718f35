"""Pairs of texts: their class, read together, or how alike they are, read apart."""

from hanformer.tasks.pair.recipe import PairRecipe
from hanformer.tasks.pair.training import train

__all__ = ["PairRecipe", "train"]
