"""The Transformer: embed, body, heads, and what decoding needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.nn.attention.cache import KeyValueCache
from hanformer.nn.functional.packing import Layout, find_packing
from hanformer.nn.functional.visibility import Causal, Full, Rule, UniLM
from hanformer.nn.layers.block import Block
from hanformer.nn.layers.embedding import Embeddings
from hanformer.nn.layers.heads import Pooler, VocabularyHead

RULES: dict[str, Rule] = {"encoder": Full(), "lm": Causal(), "unilm": UniLM()}


@dataclass(frozen=True, eq=False)
class Output:
    """What a model returns for a padded batch; padding positions hold zeros.

    模型对填充批次的输出；填充位置为零。

    `sequence` [B, L, C]; `pooled` [B, C] or None; `lm_logits` [B, L, V] or None.
    """

    sequence: Tensor
    pooled: Tensor | None = None
    lm_logits: Tensor | None = None


class Transformer(nn.Module):
    """One stack of blocks between embeddings and heads; the application decides who sees whom.

    单栈 Transformer；应用方式（encoder、lm、unilm）决定可见性。

    `embed`, `body` and `lm_logits` are public and work on packed tokens; calling the model composes them on a
    padded batch. Heads: "lm" (vocabulary), "pool" (first token).
    """

    def __init__(self, config: ModelConfig, heads: Sequence[str] = ("lm",)) -> None:
        super().__init__()
        unknown = set(heads) - {"lm", "pool"}
        if unknown:
            raise UserError(f"heads: expected some of lm, pool; got {', '.join(sorted(unknown))}")
        self.config = config
        self.rule = RULES[config.application]
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.final_norm: nn.Module = (
            nn.LayerNorm(config.hidden_size, eps=config.norm_epsilon)
            if config.norm_place == "pre"
            else nn.Identity()
        )
        self.lm_head = VocabularyHead(config, self.embeddings.token) if "lm" in heads else None
        self.pooler = Pooler(config) if "pool" in heads else None

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that this model was built with."""
        present = (("lm", self.lm_head), ("pool", self.pooler))
        return tuple(name for name, head in present if head is not None)

    def _blocks(self) -> Iterator[Block]:
        """The blocks by their type, which nn.ModuleList does not tell."""
        return (cast(Block, block) for block in self.blocks)

    def initialise(self) -> Transformer:
        """Truncated normal weights of deviation `config.initial_deviation`; zero biases; unit gains.

        截断正态初始化。
        """
        deviation = self.config.initial_deviation
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.trunc_normal_(module.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        return self

    def embed(self, token_ids: Tensor, layout: Layout) -> Tensor:
        """[N] ids to [N, C]: the seam where perturbations and attributions work."""
        embedded: Tensor = self.embeddings(token_ids, layout)
        return embedded

    def body(self, embedded: Tensor, layout: Layout) -> Tensor:
        """[N, C] to [N, C]: all blocks, and the final norm of pre-norm models."""
        visibility = self.rule.bind(layout)
        hidden = embedded
        for block in self._blocks():
            hidden = block(hidden, partial(block.attention, visibility=visibility))
        normed: Tensor = self.final_norm(hidden)
        return normed

    def lm_logits(self, hidden: Tensor) -> Tensor:
        """[M, C] to [M, V]. Raises UserError where the model has no vocabulary head."""
        if self.lm_head is None:
            raise UserError('this model has no vocabulary head: build or load it with heads=("lm",)')
        logits: Tensor = self.lm_head(hidden)
        return logits

    def forward(
        self,
        input_ids: Tensor,
        segment_ids: Tensor | None = None,
        *,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Output:
        """A padded batch [B, L] to `Output`; padding is stripped once and put back at the end.

        填充批次的前向计算：内部去掉填充，输出时还原。

        Without `attention_mask`, padding is where the id equals `config.pad_id`, if there is one. Padding may
        stand on either side.
        """
        packing = find_packing(self._real(input_ids, attention_mask), segment_ids, position_ids)
        hidden = self.body(self.embed(packing.pack(input_ids), packing.layout), packing.layout)
        sequence = packing.unpack(hidden)
        logits = None if self.lm_head is None else packing.unpack(self.lm_logits(hidden))
        return Output(sequence, self._pooled(hidden, packing.layout), logits)

    def _real(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
        if attention_mask is not None:
            if attention_mask.shape != input_ids.shape:
                raise UserError(
                    f"attention_mask: expected the shape of input_ids {list(input_ids.shape)}, "
                    f"got {list(attention_mask.shape)}"
                )
            return attention_mask.bool()
        if self.config.pad_id is None:
            return torch.ones_like(input_ids, dtype=torch.bool)
        return input_ids != self.config.pad_id

    def _pooled(self, hidden: Tensor, layout: Layout) -> Tensor | None:
        if self.pooler is None:
            return None
        if not min(layout.lengths, default=1):
            raise UserError("pooling needs at least one token in every row; one row is empty")
        first = torch.tensor(layout.offsets[:-1], dtype=torch.int64, device=hidden.device)
        pooled: Tensor = self.pooler(hidden[first])
        return pooled

    @torch.no_grad()
    def prompt(
        self, rows: Sequence[Sequence[int]], segments: Sequence[Sequence[int]] | None = None
    ) -> tuple[Tensor, KeyValueCache]:
        """Reads prompts in one pass: next-token logits [B, V] at their ends, and the state to go on from.

        一次读入全部提示，返回各提示末尾的下一词元 logits 与解码状态。

        Arguments and errors are those of `read`.
        """
        hidden, cache = self.read(rows, segments)
        ends = torch.tensor(list(accumulate(map(len, rows))), device=hidden.device) - 1
        return self.lm_logits(hidden[ends]), cache

    @torch.no_grad()
    def step(self, tokens: Tensor, state: KeyValueCache) -> Tensor:
        """Appends tokens [R, T] to the rows of the state; returns next-token logits [R, T, V].

        向每行追加词元并返回下一词元的 logits。

        Errors are those of `advance`.
        """
        return self.lm_logits(self.advance(tokens, state).flatten(0, 1)).unflatten(0, tokens.shape)

    @torch.no_grad()
    def read(
        self, rows: Sequence[Sequence[int]], segments: Sequence[Sequence[int]] | None = None
    ) -> tuple[Tensor, KeyValueCache]:
        """Reads prompts in one pass: hidden states [N, C] of all their tokens, and the state to go on from.

        一次读入全部提示，返回所有词元的隐状态与解码状态。

        `segments` default to 0. What is appended later carries segment 1 under UniLM, and otherwise the segment
        0. Raises UserError for an encoder, a model in training mode, an empty prompt or no prompt, or segments
        of other lengths.
        """
        if self.config.application == "encoder":
            raise UserError('an encoder does not generate: load it with application="lm" or "unilm"')
        self._refuse_training()
        device = self.embeddings.token.weight.device
        ids = torch.tensor([token for row in rows for token in row], dtype=torch.int64, device=device)
        named = None
        if segments is not None:
            if [len(row) for row in segments] != [len(row) for row in rows]:
                raise UserError("prompt: segments must have one entry for every token of every row")
            named = torch.tensor(
                [value for row in segments for value in row], dtype=torch.int64, device=device
            )
        layout = Layout.of([len(row) for row in rows], named, device=device)
        segment = 1 if self.config.application == "unilm" else 0
        cache = KeyValueCache(self.rule, layout, self.config.layers, segment)
        visibility = self.rule.bind(layout)
        hidden = self.embed(ids, layout)
        for layer, block in enumerate(self._blocks()):
            hidden = block(
                hidden, partial(block.attention.remember, visibility=visibility, cache=cache, layer=layer)
            )
        return self.final_norm(hidden), cache

    @torch.no_grad()
    def advance(self, tokens: Tensor, state: KeyValueCache) -> Tensor:
        """Appends tokens [R, T] to the rows of the state; returns their hidden states [R, T, C].

        向每行追加词元并返回其隐状态。

        Raises UserError for a model in training mode, and for tokens of another shape.
        """
        self._refuse_training()
        if tokens.dim() != 2 or tokens.shape[0] != state.rows:
            raise UserError(f"step: expected tokens [{state.rows}, T], got {list(tokens.shape)}")
        layout = state.begin(tokens.shape[1])
        hidden = self.embed(tokens.flatten(), layout)
        for layer, block in enumerate(self._blocks()):
            hidden = block(hidden, partial(block.attention.extend, cache=state, layer=layer))
        state.commit()
        normed: Tensor = self.final_norm(hidden)
        return normed.unflatten(0, tokens.shape)

    def _refuse_training(self) -> None:
        if self.training:
            raise UserError("decoding: the model is in training mode, where dropout acts; call model.eval()")
