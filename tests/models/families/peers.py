"""Tiny models of transformers with every parameter random, and what to compare of the two libraries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

TOLERANCES = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.float64: {"rtol": 1e-10, "atol": 1e-10},
}
VOCABULARY = 43
#: Our output -> theirs.
MASKED = {"lm_logits": "logits"}
SEQUENCE = {"sequence": "last_hidden_state"}
POOLED = {"pooled": "pooler_output", **SEQUENCE}
PRETRAINED = {"lm_logits": "prediction_logits", "nsp_logits": "seq_relationship_logits"}
TRANSLATED = {"lm_logits": "logits", "encoder_sequence": "encoder_last_hidden_state"}


@dataclass(frozen=True)
class Peer:
    """A class of transformers, its config, the family that it must turn out to be, and the outputs to compare."""

    kind: str
    values: Mapping[str, Any]
    family: str
    outputs: Mapping[str, str]
    heads: tuple[str, ...] | None = None
    segments: int = 0
    places: bool = True  # whether it takes position_ids
    pad: int = 0
    config_kind: str = ""
    changed: Mapping[str, Any] = field(default_factory=dict)  # what the config of ours must say

    @property
    def name(self) -> str:
        """For the ids of tests."""
        return self.kind


BERT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
    "type_vocab_size": 2,
}
NARROW = {**BERT, "embedding_size": 12, "hidden_act": "gelu"}
GPT = {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 20}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "d_kv": 6,
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 3,
    "num_heads": 2,
    "decoder_start_token_id": 0,
}
T5_SECOND = {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 20,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
}
ROBERTA = {**BERT, "pad_token_id": 1, "type_vocab_size": 1}

PEERS = (
    Peer("BertForMaskedLM", BERT, "bert", MASKED, ("lm",), 2),
    Peer("BertForPreTraining", {**BERT, "hidden_act": "gelu_new"}, "bert", PRETRAINED, ("lm", "nsp"), 2),
    Peer("BertModel", {**BERT, "layer_norm_eps": 1e-5}, "bert", POOLED, None, 2),
    Peer("BertLMHeadModel", {**BERT, "is_decoder": True}, "bert", MASKED, None, 2),
    Peer("RobertaForMaskedLM", ROBERTA, "roberta", MASKED, ("lm",), 0, False, 1),
    Peer("RobertaModel", ROBERTA, "roberta", POOLED, None, 0, False, 1),
    Peer("XLMRobertaForMaskedLM", ROBERTA, "roberta", MASKED, ("lm",), 0, False, 1),
    Peer("AlbertForMaskedLM", NARROW, "albert", MASKED, ("lm",), 2),
    Peer("AlbertModel", {**NARROW, "hidden_act": "gelu_new"}, "albert", POOLED, None, 2),
    Peer(
        "AlbertForPreTraining",
        NARROW,
        "albert",
        {"lm_logits": "prediction_logits", "nsp_logits": "sop_logits"},
        ("lm", "nsp"),
        2,
    ),
    Peer(
        "ElectraForPreTraining", NARROW, "electra", {"discriminator_logits": "logits"}, ("discriminator",), 2
    ),
    Peer("ElectraForMaskedLM", NARROW, "electra_generator", MASKED, ("lm",), 2),
    Peer("ElectraModel", {**NARROW, "embedding_size": 16}, "electra", SEQUENCE, None, 2),
    Peer("RoFormerForMaskedLM", NARROW, "roformer", MASKED, ("lm",), 2, False),
    Peer("RoFormerModel", {**NARROW, "embedding_size": 16}, "roformer", SEQUENCE, None, 2, False),
    Peer("OpenAIGPTLMHeadModel", GPT, "gpt", MASKED, config_kind="OpenAIGPTConfig"),
    Peer("OpenAIGPTModel", GPT, "gpt", SEQUENCE, (), config_kind="OpenAIGPTConfig"),
    Peer("GPT2LMHeadModel", {**GPT, "n_inner": 24}, "gpt2", MASKED, config_kind="GPT2Config"),
    Peer("GPT2Model", GPT, "gpt2", SEQUENCE, (), config_kind="GPT2Config"),
    Peer("T5ForConditionalGeneration", T5, "t5.1.0", TRANSLATED, config_kind="T5Config"),
    Peer("T5ForConditionalGeneration", T5_SECOND, "t5.1.1", TRANSLATED, config_kind="T5Config"),
    Peer("MT5ForConditionalGeneration", T5_SECOND, "mt5.1.1", TRANSLATED, config_kind="MT5Config"),
    Peer("T5EncoderModel", T5, "t5.1.0", SEQUENCE, None, 0, False, config_kind="T5Config"),
    Peer("T5EncoderModel", T5_SECOND, "t5.1.1", SEQUENCE, None, 0, False, config_kind="T5Config"),
    Peer("MT5EncoderModel", T5_SECOND, "mt5.1.1", SEQUENCE, None, 0, False, config_kind="MT5Config"),
    Peer("LlamaForCausalLM", LLAMA, "llama", MASKED),
    Peer("LlamaForCausalLM", {**LLAMA, "tie_word_embeddings": True, "head_dim": 6}, "llama", MASKED),
    Peer("LlamaModel", LLAMA, "llama", SEQUENCE, ()),
    Peer("Qwen2ForCausalLM", LLAMA, "llama", MASKED),
    Peer("Qwen2ForCausalLM", {**LLAMA, "tie_word_embeddings": True}, "llama", MASKED),
)
ENDINGS = (
    "ForMaskedLM",
    "ForPreTraining",
    "LMHeadModel",
    "EncoderModel",
    "Model",
    "ForCausalLM",
    "ForConditionalGeneration",
)


def config_name(peer: Peer) -> str:
    """BertConfig of BertForMaskedLM."""
    ending = next(ending for ending in ENDINGS if peer.kind.endswith(ending))
    return peer.config_kind or peer.kind.removesuffix(ending) + "Config"


@contextmanager
def computing_in(dtype: torch.dtype) -> Iterator[None]:
    """Inside, transformers computes in that dtype throughout: in float64 also what it casts to float32 (norms,
    softmax, angles), which would hide differences below 1e-7."""
    if dtype == torch.float32:
        yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    with (
        mock.patch.object(torch, "float32", dtype),
        mock.patch.object(torch, "float", dtype),
        mock.patch.object(torch.Tensor, "float", torch.Tensor.double),
    ):
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def peer_model(peer: Peer, dtype: torch.dtype = torch.float32, seed: int = 3) -> Any:
    """The peer with every parameter random, gains and biases too, so that a swapped one shows."""
    import transformers

    torch.manual_seed(seed)
    with computing_in(dtype):
        config = getattr(transformers, config_name(peer))(**peer.values)
        config._attn_implementation = "eager"
        model = getattr(transformers, peer.kind)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.add_(0.15 * torch.randn_like(parameter))
    exact_angles(model)
    if not isinstance(head := getattr(model, "lm_head", None), torch.nn.Linear):
        return model
    if "tie_word_embeddings" in peer.values and not peer.values["tie_word_embeddings"]:
        head.weight = torch.nn.Parameter(torch.randn_like(head.weight))
    return model


def exact_angles(model: Any) -> None:
    """RoFormer's table of sines and cosines, which transformers rounds to float32, in the model's dtype."""
    for name, parameter in model.named_parameters():
        if name.endswith("embed_positions.weight"):
            count, width = parameter.shape
            angles = np.arange(count)[:, None] / 10000 ** (2 * np.arange(width // 2) / width)
            table = np.concatenate([np.sin(angles), np.cos(angles)], -1)
            parameter.data.copy_(torch.from_numpy(table))


@dataclass(frozen=True)
class Batch:
    """Ragged rows with padding on one side."""

    ids: Tensor
    real: Tensor
    segments: Tensor
    target: Tensor
    target_real: Tensor


def ragged(peer: Peer, left: bool, lengths: tuple[int, ...] = (7, 3, 9, 1)) -> Batch:
    """Rows of unequal length, with segments where the peer has them, and rows for a decoder."""
    generator = torch.Generator().manual_seed(11)
    width = max(lengths)
    real = torch.arange(width) < torch.tensor(lengths)[:, None]
    real = real.flip(1) if left else real
    ids = torch.randint(2, VOCABULARY, real.shape, generator=generator).masked_fill(~real, peer.pad)
    segments = torch.randint(max(peer.segments, 1), real.shape, generator=generator)
    target_real = torch.arange(6) < torch.tensor((4, 6, 1, 3))[:, None]
    target = torch.randint(1, VOCABULARY, target_real.shape, generator=generator)
    target[:, 0] = 0
    return Batch(ids, real, segments * real, target.masked_fill(~target_real, 0), target_real)


@torch.no_grad()
def ask_peer(model: Any, peer: Peer, batch: Batch, **more: Any) -> Any:
    """What transformers gives for the batch."""
    given = {"input_ids": batch.ids, "attention_mask": batch.real.long(), **more}
    if peer.segments:
        given["token_type_ids"] = batch.segments
    if "encoder_last_hidden_state" in peer.outputs.values():
        given.update(decoder_input_ids=batch.target, decoder_attention_mask=batch.target_real.long())
    elif peer.places:
        given["position_ids"] = (batch.real.cumsum(1) - 1).clamp(min=0)
    with computing_in(model.dtype):
        return model(**given)


@torch.no_grad()
def ask_ours(model: Any, peer: Peer, batch: Batch, **more: Any) -> Any:
    """What our model gives for the batch."""
    if "encoder_last_hidden_state" in peer.outputs.values():
        return model(batch.ids, decoder_input_ids=batch.target, **more)
    if model.config.pad_id is None:
        more["attention_mask"] = batch.real
    return model(batch.ids, batch.segments if peer.segments else None, **more)


def compare(ours: Any, theirs: Any, peer: Peer, batch: Batch, dtype: torch.dtype) -> None:
    """All outputs of the peer at real positions."""
    for our_name, their_name in peer.outputs.items():
        found, expected = getattr(ours, our_name), getattr(theirs, their_name)
        assert found is not None, our_name
        assert found.dtype == expected.dtype == dtype
        if our_name not in ("pooled", "nsp_logits"):
            decoded = "encoder_last_hidden_state" in peer.outputs.values() and our_name != "encoder_sequence"
            real = batch.target_real if decoded else batch.real
            found, expected = found[real], expected[real]
        torch.testing.assert_close(found, expected, **TOLERANCES[dtype])
