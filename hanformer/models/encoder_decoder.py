"""Encoder and decoder: two stacks, the second looking at the first (T5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models.belonging import check_batch
from hanformer.models.language_model import LanguageModel, refuse_training
from hanformer.models.output import Output
from hanformer.models.stack import Stack, prompt_tensors
from hanformer.models.transformer import head_names, real_tokens
from hanformer.nn.attention.passing import Pass
from hanformer.nn.attention.state import DecodingState
from hanformer.nn.functional.packing import Layout, Packing, find_packing
from hanformer.nn.functional.visibility import Causal, Full
from hanformer.nn.layers.embedding import Embeddings
from hanformer.nn.layers.heads import vocabulary_head


class EncoderDecoder(LanguageModel):
    """An encoder stack, a decoder stack that looks at it, one token table for both, and a vocabulary head.

    编码器—解码器：两个层堆叠共用词嵌入表，解码器通过交叉注意力读取编码结果。

    The decoder starts with `start_id` (T5: the padding id 0, which is a real token there). With
    `config.convention` "bert4keras" its relative positions act in cross attention too, and hidden states are always
    divided by √C before the vocabulary head. Heads: "lm".
    Source: Raffel et al. 2019, arXiv 1910.10683; kexue.fm/archives/7867.
    """

    def __init__(self, config: ModelConfig, heads: Sequence[str] = ("lm",), start_id: int = 0) -> None:
        super().__init__()
        heads = head_names(heads)
        if set(heads) - {"lm"}:
            raise UserError(f"heads: an encoder-decoder has lm alone, got {', '.join(heads)}")
        self.config, self.start_id = config, start_id
        self.embeddings = Embeddings(config)
        self.encoder = Stack(config, Full())
        self.decoder = Stack(
            config,
            Causal(),
            layers=config.decoder_layers,
            crosses=True,
            cross_bias=config.convention == "bert4keras",
        )
        scaled = config.changed({"scale_lm": config.scale_lm or config.convention == "bert4keras"})
        self.lm_head = vocabulary_head(scaled, self.embeddings.token) if "lm" in heads else None

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that this model was built with."""
        return () if self.lm_head is None else ("lm",)

    @property
    def writing(self) -> Stack:
        """The decoder."""
        return self.decoder

    def encode(self, token_ids: Tensor, layout: Layout) -> Tensor:
        """[N] packed ids to encoder states [N, C]."""
        embedded = self.embeddings(token_ids, layout)
        hidden: Tensor = self.encoder(embedded, self.encoder.begin(layout))
        return hidden

    def decode(self, token_ids: Tensor, layout: Layout, memory: Tensor, memory_layout: Layout) -> Tensor:
        """[N] packed ids to decoder states [N, C], row b of them looking at row b of the memory."""
        cross = self.decoder.begin_cross(layout, memory_layout)
        embedded = self.embeddings(token_ids, layout)
        hidden: Tensor = self.decoder(embedded, self.decoder.begin(layout), memory=(memory, cross))
        return hidden

    def forward(
        self,
        input_ids: Tensor,
        *,
        decoder_input_ids: Tensor,
        attention_mask: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        hidden_states: bool = False,
        attention_scores: bool = False,
    ) -> Output:
        """Padded batches [B, L'] and [B, L] to `Output`, with every layer and every attention on request.

        填充批次的前向计算；可要求输出各层状态与注意力。

        In the decoder, padding stands on the right and the first token of every row is real, whatever its id:
        T5's decoder starts with the padding id. `decoder_attention_mask` says otherwise where needed.
        """
        check_batch("input_ids", input_ids)
        check_batch("decoder_input_ids", decoder_input_ids)
        if decoder_input_ids.shape[:1] != input_ids.shape[:1]:
            raise UserError(
                f"decoder_input_ids: expected {input_ids.shape[0]} rows, as input_ids has, "
                f"got {decoder_input_ids.shape[0]}"
            )
        source = find_packing(real_tokens(input_ids, attention_mask, self.config))
        target = find_packing(self._real_targets(decoder_input_ids, decoder_attention_mask))
        encoder = self.encoder.begin(source.layout, keep=attention_scores)
        read: list[Tensor] | None = [] if hidden_states else None
        written: list[Tensor] | None = [] if hidden_states else None
        memory = self._run(self.encoder, source, input_ids, encoder, read)
        decoder = self.decoder.begin(target.layout, keep=attention_scores)
        cross = self.decoder.begin_cross(target.layout, source.layout, keep=attention_scores)
        hidden = self._run(self.decoder, target, decoder_input_ids, decoder, written, (memory, cross))
        return Output(
            target.unpack(hidden),
            lm_logits=None if self.lm_head is None else target.unpack(self.lm_logits(hidden)),
            encoder_sequence=source.unpack(memory),
            hidden_states=_unpacked(target, written),
            attention_scores=tuple(decoder.weights) if attention_scores else None,
            encoder_hidden_states=_unpacked(source, read),
            encoder_attention_scores=tuple(encoder.weights) if attention_scores else None,
            cross_attention_scores=tuple(cross.weights) if attention_scores else None,
        )

    def _real_targets(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        """Bool [B, L]: what the decoder reads; its first token is real, whatever its id."""
        real = real_tokens(ids, mask, self.config)
        if mask is not None or not real.shape[1]:
            return real
        return torch.cat([torch.ones_like(real[:, :1]), real[:, 1:]], 1)

    def _run(
        self,
        stack: Stack,
        packing: Packing,
        ids: Tensor,
        batch: Pass,
        collect: list[Tensor] | None,
        memory: tuple[Tensor, Pass] | None = None,
    ) -> Tensor:
        """[B, L] ids to packed states [N, C]; `collect` receives the embeddings and every layer."""
        embedded = self.embeddings(packing.pack(ids), packing.layout)
        if collect is not None:
            collect.append(embedded)
        hidden: Tensor = stack(embedded, batch, memory=memory, collect=collect)
        return hidden

    @torch.no_grad()
    def read(
        self,
        rows: Sequence[Sequence[int]],
        segments: Sequence[Sequence[int]] | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, DecodingState]:
        """Encodes the rows and starts the decoder: its states [B, C] at the start tokens, and the state to go on from.

        编码输入并启动解码器，返回起始词元处的隐状态与解码状态。

        `segments` and `condition` have no meaning here and must be None. Raises UserError for a model in training mode.
        """
        if segments is not None or condition is not None:
            raise UserError("prompt: an encoder-decoder has no segments and takes no condition")
        refuse_training(self)
        ids, _ = prompt_tensors(rows, None, self.device)
        source = Layout.of([len(row) for row in rows], device=self.device)
        memory = (self.encode(ids, source), source)
        layout = Layout.of(self.states_read(rows), device=self.device)
        starts = torch.full((len(rows),), self.start_id, device=self.device)
        cache = self.decoder.open_cache(layout, 0, memory)
        return self.decoder.read(self.embeddings(starts, layout), layout, cache, memory), cache

    def states_read(self, rows: Sequence[Sequence[int]]) -> list[int]:
        """How many states `read` gives for each prompt: that of the decoder's start token. 每个提示的隐状态个数。"""
        return [1] * len(rows)


def _unpacked(packing: Packing, states: list[Tensor] | None) -> tuple[Tensor, ...] | None:
    return None if states is None else tuple(packing.unpack(state) for state in states)
