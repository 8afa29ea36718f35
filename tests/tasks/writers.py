"""Tiny models that write, over a vocabulary of a few ideographs: one of every kind."""

from __future__ import annotations

from pathlib import Path

from hanformer.models import save
from hanformer.models.loading import Model
from tests.similarity.tiny import tiny_encoder, tiny_t5, tiny_tokenizer

KINDS = ("lm", "unilm", "t5")
PROMPTS = ["今天", "今天天气很好", "雨", "风云山水火土好坏"]


def tiny_writer(kind: str) -> Model:
    """A random language model, UniLM or encoder-decoder, float32."""
    return tiny_t5() if kind == "t5" else tiny_encoder(("lm",), application=kind)


def tiny_writer_folder(folder: Path, kind: str = "lm") -> Path:
    """A saved one with its tokenizer."""
    save(tiny_writer(kind), folder)
    tiny_tokenizer().save(folder)
    return folder
