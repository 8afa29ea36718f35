"""Sequence to sequence: texts rewritten as other texts, by one stack (UniLM) or by an encoder and a decoder."""

from hanformer.tasks.seq2seq.recipe import Seq2SeqRecipe
from hanformer.tasks.seq2seq.training import train

__all__ = ["Seq2SeqRecipe", "train"]
