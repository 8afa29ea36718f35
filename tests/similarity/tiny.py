"""A vocabulary of a few ideographs, models of every kind over it, and folders of them."""

from __future__ import annotations

from pathlib import Path

import torch

from hanformer.config import ModelConfig
from hanformer.models import EncoderDecoder, Transformer, save
from hanformer.text.vocabulary import DEFAULT_SPECIALS, Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer
from tests.harness import random_model, tiny_config

CHARACTERS = "今天气很不错好坏晴雨风云山水火土"


def tiny_tokenizer() -> WordPieceTokenizer:
    """[PAD] to [MASK], and sixteen ideographs."""
    return WordPieceTokenizer(Vocabulary([*DEFAULT_SPECIALS.names(), *CHARACTERS]))


def tiny_encoder(heads: tuple[str, ...] = ("lm", "pool"), **changes: object) -> Transformer:
    """A random encoder over that vocabulary, float32."""
    config = tiny_config(vocab_size=len(tiny_tokenizer().vocabulary), **changes)
    return random_model(config, heads, torch.float32)


def tiny_t5() -> EncoderDecoder:
    """A random encoder-decoder, float32."""
    torch.manual_seed(2)
    config: ModelConfig = tiny_config(
        vocab_size=len(tiny_tokenizer().vocabulary),
        decoder_layers=1,
        position="relative_buckets",
        norm="rms",
        norm_place="pre",
        biases="none",
        segment_vocab_size=0,
        family="t5.1.0",
    )
    return EncoderDecoder(config).initialise().eval()


def tiny_folder(folder: Path, **changes: object) -> Path:
    """A saved encoder with its tokenizer."""
    save(tiny_encoder(**changes), folder)
    tiny_tokenizer().save(folder)
    return folder
