"""The same BERT in `transformers`: its configuration, and our weights under its names."""

from __future__ import annotations

import torch
from torch import nn

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models.families import bert
from hanformer.models.transformer import Transformer

try:
    from transformers import BertConfig, BertForMaskedLM, BertLMHeadModel
except ImportError:
    raise SystemExit("this benchmark needs transformers: pip install 'hanformer[bench]'") from None


def build_peer(model: Transformer) -> nn.Module:
    """A BertForMaskedLM (encoder, unilm) or BertLMHeadModel (lm) with our weights, SDPA attention, no dropout.

    构建权重相同的 transformers 模型。

    Raises UserError for choices that this architecture does not have, or a parameter without a counterpart.
    """
    config = model.config
    if (config.norm_place, config.position) != ("post", "learned"):
        raise UserError("the peer is a post-norm BERT with learned positions")
    theirs = BertLMHeadModel if config.application == "lm" else BertForMaskedLM
    peer: nn.Module = theirs(peer_config(config)).to(next(model.parameters()).dtype)
    names = bert.names("transformers", config, frozenset())
    own = {name: value.clone() for name, value in names.save(model.state_dict()).items()}
    own["cls.predictions.decoder.weight"] = own["bert.embeddings.word_embeddings.weight"]
    own["cls.predictions.decoder.bias"] = own["cls.predictions.bias"]
    peer.load_state_dict(own, strict=True)
    count = sum(parameter.numel() for parameter in model.parameters())
    if count != sum(parameter.numel() for parameter in peer.parameters()):
        raise UserError("the two models differ in their number of parameters")
    return peer.eval()


def peer_config(config: ModelConfig) -> BertConfig:
    """Our sizes and choices as transformers writes them. 转为 transformers 的配置。"""
    return BertConfig(
        **bert.common_export(config), use_cache=config.application == "lm", attn_implementation="sdpa"
    )


def skewed_lengths(count: int, seed: int) -> list[int]:
    """Log-normal lengths cut to 5..128, mean about 32: how long Chinese sentences are. 对数正态长度。"""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.exp(torch.randn(count, generator=generator) * 0.65 + 3.25)
    return [int(length) for length in drawn.clamp(5, 128).round()]
