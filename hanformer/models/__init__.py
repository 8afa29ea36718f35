"""Families of models: build, load, save."""

from hanformer.models.store import build, load, save
from hanformer.models.transformer import Output, Transformer

__all__ = ["Output", "Transformer", "build", "load", "save"]
