"""The same GPT-2 in `transformers`, with our weights under its names."""

from __future__ import annotations

from torch import nn

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models.families import gpt2
from hanformer.models.transformer import Transformer

try:
    from transformers import GPT2Config, GPT2LMHeadModel
except ImportError:
    raise SystemExit("this benchmark needs transformers: pip install 'hanformer[bench]'") from None


def gpt2_config(
    vocabulary: int = 50257, width: int = 768, layers: int = 12, heads: int = 12, positions: int = 1024
) -> ModelConfig:
    """GPT-2's architecture, small by default. GPT-2 的配置，默认为 small。"""
    sizes = {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "layers": layers,
        "attention_heads": heads,
        "intermediate_size": 4 * width,
        "max_positions": positions,
    }
    choices = {**gpt2.FAMILY.defaults, **gpt2.FAMILY.fixed, "application": "lm", "family": "gpt2"}
    return ModelConfig.from_dict({**sizes, **choices})


def build_gpt2_peer(model: Transformer) -> nn.Module:
    """A GPT2LMHeadModel with a copy of our weights, SDPA attention, no dropout.

    构建权重相同的 transformers GPT-2。

    Raises UserError where the two differ in their number of parameters.
    """
    config = model.config
    peer: nn.Module = GPT2LMHeadModel(
        GPT2Config(**gpt2.exports(config, ("lm",)), attn_implementation="sdpa")
    ).to(next(model.parameters()).dtype)
    names = gpt2.names("transformers", config, frozenset(peer.state_dict()))
    own = {name: value.clone() for name, value in names.save(model.state_dict()).items()}
    own["lm_head.weight"] = own["transformer.wte.weight"]
    peer.load_state_dict(own, strict=True)
    count = sum(parameter.numel() for parameter in model.parameters())
    if count != sum(parameter.numel() for parameter in peer.parameters()):
        raise UserError("the two models differ in their number of parameters")
    return peer.eval()
