"""Masks filled in: what a masked language model would write at each [MASK].

完形填空：掩码语言模型在每个 [MASK] 处的候选词元。
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hanformer.errors import UserError
from hanformer.models.belonging import check_vocabulary
from hanformer.models.transformer import Transformer
from hanformer.nn.functional.packing import Layout
from hanformer.text.protocols import Encoding, Tokenizer


@dataclass(frozen=True)
class Candidate:
    """A token for a mask, with its probability. 候选词元及其概率。"""

    token: str
    id: int
    probability: float


@torch.inference_mode()
def fill_mask(model: Transformer, tokenizer: Tokenizer, text: str, *, top: int = 5) -> list[list[Candidate]]:
    """The `top` likeliest tokens of every mask in the text, likeliest first; all masks are predicted at once.

    每个掩码的前若干候选，按概率降序；多个掩码同时预测。

        p = softmax(logits at the mask), in float32 at least

    Raises UserError where the text has no mask, the vocabulary no mask token, the tokenizer more tokens than the
    model, or the model is no encoder with a vocabulary head.
    """
    if not isinstance(model, Transformer) or model.config.application != "encoder":
        raise UserError('fill_mask needs a masked language model: load an encoder, with heads=("mlm",)')
    if top < 1:
        raise UserError(f"top: expected at least 1, got {top}")
    check_vocabulary(model.config, tokenizer)
    encoding, places = _masked(tokenizer, text)
    layout = Layout.of([len(encoding)], torch.tensor(encoding.segments, device=model.device))
    ids = torch.tensor(encoding.ids, device=model.device)
    hidden = model.body(model.embed(ids, layout), layout)
    logits = model.lm_logits(hidden[torch.tensor(places, device=model.device)])
    chances = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)
    best = chances.topk(min(top, chances.shape[-1]))
    tokens = tokenizer.vocabulary.tokens
    return [
        [
            Candidate(tokens[number] if number < len(tokens) else f"<{number}>", number, chance)
            for number, chance in zip(numbers, own, strict=True)
        ]
        for numbers, own in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _masked(tokenizer: Tokenizer, text: str) -> tuple[Encoding, list[int]]:
    """The encoding, and where its masks stand."""
    mask = tokenizer.vocabulary.specials.mask
    if mask is None or mask not in tokenizer.vocabulary:
        raise UserError("fill_mask: this vocabulary has no mask token; use the vocabulary of a BERT")
    encoding = tokenizer.encode(text)
    places = [place for place, number in enumerate(encoding.ids) if number == tokenizer.vocabulary[mask]]
    if not places:
        raise UserError(f"fill_mask: expected {mask} in the text, as in 今天天气{mask}错; got {_short(text)}")
    return encoding, places


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
