"""What a training run keeps in memory: arithmetic on a config, exact for weights and an estimate for activations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models import EncoderDecoder, Transformer
from hanformer.nn.layers.block import Block

GIBIBYTE = 1 << 30
_FLOAT, _HALF = 4, 2

#: CPM-LM, 2.6 billion parameters.
CPM_LM = ModelConfig(
    vocab_size=30000,
    hidden_size=2560,
    layers=32,
    attention_heads=32,
    intermediate_size=10240,
    max_positions=1024,
    segment_vocab_size=0,
    norm_place="pre",
    lm_head="tied",
    application="lm",
)
#: mT5-XL, 3.7 billion parameters.
MT5_XL = ModelConfig(
    vocab_size=250112,
    hidden_size=2048,
    layers=24,
    decoder_layers=24,
    attention_heads=32,
    attention_head_size=64,
    intermediate_size=5120,
    segment_vocab_size=0,
    norm="rms",
    norm_place="pre",
    biases="none",
    feedforward="gated",
    activation="gelu_tanh",
    position="relative_buckets",
    scale_attention=False,
    lm_head="untied",
)


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that each worker keeps in a training step, and the model's number of parameters.

    训练一步时每个进程所占的内存（字节）。

    `copies` are bf16 copies of weights that products keep for the way back, and weights and gradients made whole of
    shards while they are used.
    """

    parameters: int
    weights: int
    gradients: int
    optimizer: int
    average: int
    copies: int
    activations: int

    @property
    def total(self) -> int:
        """All of it; logits, and what the allocator and messages between workers take, come on top."""
        kept = self.weights + self.gradients + self.optimizer + self.average
        return kept + self.copies + self.activations


def parameter_count(config: ModelConfig) -> int:
    """The parameters of the model that a config describes, with its vocabulary head; nothing is allocated.

    配置所描述的模型的参数量（不分配内存）。
    """
    return _size(_unallocated(config))


def training_memory(
    config: ModelConfig,
    tokens: int,
    *,
    workers: int = 1,
    shard: bool = False,
    recompute: bool = False,
    average: bool = False,
) -> TrainingMemory:
    """The arithmetic of a step with AdamW, bf16 over fp32 weights, for `tokens` tokens a worker.

    用 AdamW、bf16 计算、fp32 权重训练一步的内存估算。

    Weights, gradients and an average take 4 bytes a parameter, AdamW's moments 8; `shard` divides them by `workers`,
    and makes whole what is outside the blocks and one block at a time. bf16 copies take 2 bytes a parameter; with
    `recompute` those of one block. Activations are an estimate: `activation_bytes` of each block, or, with `recompute`,
    4 bytes a channel for each and the inside of one. Logits are left out: 10 bytes for each predicted token and word,
    or nearly none with `chunked_cross_entropy`. Raises UserError for counts below 1.
    """
    if tokens < 1 or workers < 1:
        raise UserError(f"memory: expected at least 1 token and 1 worker, got {tokens} and {workers}")
    model = _unallocated(config)
    blocks = [_size(module) for module in model.modules() if isinstance(module, Block)]
    parameters, largest = _size(model), max(blocks, default=0)
    own = -(-parameters // workers) if shard else parameters
    outside = parameters - sum(blocks)
    copies = _HALF * (largest + outside if recompute else parameters)
    if shard:
        copies += 2 * _FLOAT * (outside + largest)
    inside, layers = activation_bytes(config), config.layers + (config.decoder_layers or 0)
    kept = layers * _FLOAT * config.hidden_size + inside if recompute else layers * inside
    return TrainingMemory(
        parameters=parameters,
        weights=_FLOAT * own,
        gradients=_FLOAT * own,
        optimizer=2 * _FLOAT * own,
        average=_FLOAT * own if average else 0,
        copies=copies,
        activations=tokens * kept,
    )


def activation_bytes(config: ModelConfig) -> int:
    """About how many bytes a block keeps of a token for the way back, in bf16, with a fused attention kernel.

    一层为每个词元保留的字节数（近似）。

    In fp32 two norms' inputs and the residual stream (and RMS norms' products); in bf16 the inputs of linear layers,
    query, key, value and what attention gives, and the feed-forward's inner layer on both sides of its activation
    (twice in a gated one). Dropout's masks and a decoder's look at its memory come on top, and on a CPU the weights of
    attention, 2 bytes a head and key in rows of at most 512.
    """
    wide = (5 if config.norm.startswith("rms") else 3) * config.hidden_size
    heads = 2 * (config.attention_heads + config.groups) * config.head_size
    inner = config.intermediate_size * (4 if config.feedforward == "gated" else 2)
    return _FLOAT * wide + _HALF * (2 * config.hidden_size + heads + inner)


def _unallocated(config: ModelConfig) -> nn.Module:
    with torch.device("meta"):
        return EncoderDecoder(config) if config.decoder_layers else Transformer(config, ("lm",))


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
