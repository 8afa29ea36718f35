"""Pretraining from plain text: masked, causal and mixed (UniLM) language models, new or continued."""

from hanformer.tasks.pretrain.recipe import PretrainRecipe
from hanformer.tasks.pretrain.training import train

__all__ = ["PretrainRecipe", "train"]
