"""A tiny model of any family, made from its published defaults, with every parameter random."""

from __future__ import annotations

from typing import Any

import torch

from hanformer.config import ModelConfig
from hanformer.models import EncoderDecoder, Transformer
from hanformer.models.families import family_of

SIZES: dict[str, Any] = {
    "vocab_size": 23,
    "hidden_size": 16,
    "layers": 2,
    "attention_heads": 2,
    "intermediate_size": 24,
    "max_positions": 40,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}
#: What transformers has no room for.
EXPORTED: dict[str, dict[str, Any]] = {
    "gpt": {"segment_vocab_size": 0, "activation": "gelu_tanh"},
    "roberta": {"heads": ("lm",)},
}
#: Sizes that a family has of its own.
OWN: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 12},
    "albert_unshared": {"embedding_size": 12},
    "electra": {"embedding_size": 12},
    "electra_generator": {"embedding_size": 12},
    "roformer_v2": {"embedding_size": 12},
    "t5.1.0": {"decoder_layers": 3},
    "t5.1.1": {"decoder_layers": 3, "attention_head_size": 6},
    "mt5.1.1": {"decoder_layers": 3},
    "llama": {"key_value_heads": 1},
    "gpt": {"intermediate_size": 64},
}


def tiny_config_of(name: str, **changes: Any) -> ModelConfig:
    """The config of a tiny model of that family."""
    family = family_of(name)
    said = {**family.defaults, **SIZES, **family.fixed, **OWN.get(name, {})}
    return ModelConfig(application=family.application, family=family.name, **said).changed(changes)


def tiny_family(
    name: str,
    dtype: torch.dtype = torch.float32,
    seed: int = 4,
    heads: tuple[str, ...] | None = None,
    **changes: Any,
) -> Any:
    """A model of that family with all its heads, unless told; the layers of an unshared ALBERT begin as one."""
    torch.manual_seed(seed)
    config = tiny_config_of(name, **changes)
    kind = EncoderDecoder if config.decoder_layers else Transformer
    model = kind(config, family_of(name).heads if heads is None else heads).initialise()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
        if name == "albert_unshared":
            for block in model.stack.blocks:
                block.load_state_dict(model.stack.blocks[0].state_dict())
    return model.to(dtype).eval()
