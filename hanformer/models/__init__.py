"""Families of models: build, load, save."""

from hanformer.models.encoder_decoder import EncoderDecoder
from hanformer.models.loading import build, load
from hanformer.models.output import Output
from hanformer.models.saving import save, write_config
from hanformer.models.transformer import Transformer

__all__ = ["EncoderDecoder", "Output", "Transformer", "build", "load", "save", "write_config"]
