"""The Transformer: embed, body, heads, and what decoding needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models.belonging import check_batch
from hanformer.models.language_model import LanguageModel, refuse_training
from hanformer.models.output import Output
from hanformer.models.stack import Stack, prompt_tensors
from hanformer.nn.attention.state import DecodingState
from hanformer.nn.functional.packing import Layout, find_packing
from hanformer.nn.functional.visibility import Causal, Full, Rule, UniLM
from hanformer.nn.layers.embedding import Embeddings
from hanformer.nn.layers.heads import DiscriminatorHead, NextSentenceHead, Pooler, vocabulary_head

RULES: dict[str, Rule] = {"encoder": Full(), "lm": Causal(), "unilm": UniLM()}
HEADS = ("lm", "pool", "nsp", "discriminator")


class Transformer(LanguageModel):
    """One stack of blocks between embeddings and heads; the application decides who sees whom.

    单栈 Transformer；应用方式（encoder、lm、unilm）决定可见性。

    `embed`, `body` and `lm_logits` are public and work on packed tokens; calling the model composes them on a
    padded batch. Heads: "lm" (vocabulary; "mlm" is the same), "pool" (first token), "nsp" (next sentence, with
    the pooler), "discriminator" (ELECTRA's).
    """

    def __init__(self, config: ModelConfig, heads: Sequence[str] = ("lm",)) -> None:
        super().__init__()
        heads = head_names(heads)
        self.config = config
        self.embeddings = Embeddings(config)
        self.stack = Stack(config, RULES[config.application])
        self.lm_head = vocabulary_head(config, self.embeddings.token) if "lm" in heads else None
        self.pooler = Pooler(config) if {"pool", "nsp"} & set(heads) else None
        self.nsp_head = NextSentenceHead(config) if "nsp" in heads else None
        self.discriminator = DiscriminatorHead(config) if "discriminator" in heads else None
        width = config.condition_size
        self.conditions = nn.Embedding(len(config.conditions), width) if config.conditions and width else None

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that this model was built with."""
        parts = (self.lm_head, self.pooler, self.nsp_head, self.discriminator)
        return tuple(name for name, head in zip(HEADS, parts, strict=True) if head is not None)

    @property
    def writing(self) -> Stack:
        """The one stack."""
        return self.stack

    @property
    def rule(self) -> Rule:
        """Who sees whom."""
        return self.stack.rule

    def embed(self, token_ids: Tensor, layout: Layout, condition: Tensor | None = None) -> Tensor:
        """[N] ids to [N, C]: the seam where perturbations and attributions work."""
        embedded: Tensor = self.embeddings(token_ids, layout, condition)
        return embedded

    def learned_condition(self, numbers: Tensor, layout: Layout) -> Tensor:
        """The vectors [N, c] of the tokens of rows whose conditions have these numbers [R] in `config.conditions`.

        各行所选条件的向量，按词元展开。

        Raises UserError for a model that has learned none.
        """
        if self.conditions is None:
            raise UserError(
                "this model has learned no conditions: build it with conditions and condition_size"
            )
        vectors: Tensor = self.conditions(numbers)
        return vectors[layout.row_of_token]

    def body(self, embedded: Tensor, layout: Layout, condition: Tensor | None = None) -> Tensor:
        """[N, C] to [N, C]: all blocks, and the final norm of pre-norm models."""
        hidden: Tensor = self.stack(embedded, self.stack.begin(layout), condition=condition)
        return hidden

    def forward(
        self,
        input_ids: Tensor,
        segment_ids: Tensor | None = None,
        *,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        condition: Tensor | None = None,
        hidden_states: bool = False,
        attention_scores: bool = False,
    ) -> Output:
        """A padded batch [B, L] to `Output`; padding is stripped once and put back at the end.

        填充批次的前向计算：内部去掉填充，输出时还原。

        Without `attention_mask`, padding is where the id equals `config.pad_id`, if there is one. Padding may
        stand on either side. `condition` [B, c] is what conditional norms are given.
        """
        packing = find_packing(real_tokens(input_ids, attention_mask, self.config), segment_ids, position_ids)
        layout = packing.layout
        condition = self._of_tokens(condition, layout)
        embedded = self.embed(packing.pack(input_ids), layout, condition)
        batch = self.stack.begin(layout, keep=attention_scores)
        states = [embedded] if hidden_states else None
        hidden = self.stack(embedded, batch, condition=condition, collect=states)
        pooled = self._pooled(hidden, layout)
        return Output(
            packing.unpack(hidden),
            pooled,
            None if self.nsp_head is None or pooled is None else self.nsp_head(pooled),
            None if self.lm_head is None else packing.unpack(self.lm_logits(hidden, condition)),
            None if self.discriminator is None else packing.unpack(self.discriminator(hidden)),
            hidden_states=None if states is None else tuple(packing.unpack(state) for state in states),
            attention_scores=tuple(batch.weights) if attention_scores else None,
        )

    def _of_tokens(self, condition: Tensor | None, layout: Layout) -> Tensor | None:
        """A condition of every token [N, c] from one of every row [B, c]."""
        if condition is None:
            return None
        expected = [layout.rows, self.config.condition_size]
        if self.config.condition_size is None or list(condition.shape) != expected:
            raise UserError(
                f"condition: expected shape {expected}, got {list(condition.shape)}; "
                "the model takes one where it was built with condition_size"
            )
        return condition[layout.row_of_token]

    def _pooled(self, hidden: Tensor, layout: Layout) -> Tensor | None:
        if self.pooler is None:
            return None
        if not min(layout.lengths, default=1):
            raise UserError("pooling needs at least one token in every row; one row is empty")
        first = torch.tensor(layout.offsets[:-1], dtype=torch.int64, device=hidden.device)
        pooled: Tensor = self.pooler(hidden[first])
        return pooled

    @torch.no_grad()
    def read(
        self,
        rows: Sequence[Sequence[int]],
        segments: Sequence[Sequence[int]] | None = None,
        condition: Tensor | None = None,
    ) -> tuple[Tensor, DecodingState]:
        """Reads prompts in one pass: hidden states [N, C] of all their tokens, and the state to go on from.

        一次读入全部提示，返回所有词元的隐状态与解码状态。

        `segments` default to 0. What is appended later carries segment 1 under UniLM, and otherwise the segment
        0. Raises UserError for an encoder, a model in training mode, an empty prompt or no prompt, or segments
        of other lengths.
        """
        if self.config.application == "encoder":
            raise UserError('an encoder does not generate: load it with application="lm" or "unilm"')
        refuse_training(self)
        if segments is not None and [len(row) for row in segments] != [len(row) for row in rows]:
            raise UserError("prompt: segments must have one entry for every token of every row")
        ids, named = prompt_tensors(rows, segments, self.device)
        layout = Layout.of([len(row) for row in rows], named, device=self.device)
        segment = 1 if self.config.application == "unilm" else 0
        cache = self.stack.open_cache(layout, segment, condition=condition)
        embedded = self.embed(ids, layout, self._of_tokens(condition, layout))
        return self.stack.read(embedded, layout, cache), cache

    def states_read(self, rows: Sequence[Sequence[int]]) -> list[int]:
        """How many hidden states `read` gives for each prompt: one a token. 每个提示的隐状态个数。"""
        return [len(row) for row in rows]


def head_names(heads: Sequence[str]) -> tuple[str, ...]:
    """The heads by our names; raises UserError for unknown ones. 规范输出头名称。"""
    if isinstance(heads, str):
        raise UserError(f'heads: expected a list of names, such as ("{heads}",); got the text {heads!r}')
    named = tuple("lm" if name == "mlm" else name for name in heads)
    unknown = sorted(str(name) for name in set(named) - set(HEADS))
    if unknown:
        raise UserError(f"heads: expected some of {', '.join(HEADS)}; got {', '.join(unknown)}")
    return named


def real_tokens(input_ids: Tensor, attention_mask: Tensor | None, config: ModelConfig) -> Tensor:
    """Bool [B, L]: what is not padding, by the mask if there is one, else by the padding id.

    非填充位置。

    Raises UserError for what is no batch of ids, and for a mask of another shape.
    """
    check_batch("input_ids", input_ids)
    if attention_mask is not None:
        if attention_mask.shape != input_ids.shape:
            raise UserError(
                f"attention_mask: expected the shape of input_ids {list(input_ids.shape)}, "
                f"got {list(attention_mask.shape)}"
            )
        return attention_mask.bool()
    if config.pad_id is None:
        return torch.ones_like(input_ids, dtype=torch.bool)
    return input_ids != config.pad_id
