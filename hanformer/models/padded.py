"""A model on padded batches, with masks in the place of packing: every shape follows from the batch's."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from hanformer.errors import UserError
from hanformer.models.transformer import Transformer
from hanformer.nn.attention.rolling import WindowedAttention
from hanformer.nn.attention.softmax import SoftmaxAttention
from hanformer.nn.functional.attend import attend_explicit
from hanformer.nn.functional.positions import rotary_table
from hanformer.nn.functional.visibility import Tokens


class PaddedTransformer(nn.Module):
    """The same parameters and the same function as a `Transformer`, computed on rectangles.

    与原模型参数相同、结果相同，但在填充批次上用掩码计算，便于导出。

    Shapes: `input_ids`, `segment_ids` and `attention_mask` (1: token, 0: padding) int64 [B, L]; a dict of what the
    model has of sequence [B, L, C], pooled [B, C], nsp_logits [B, 2], lm_logits [B, L, V] and
    discriminator_logits [B, L], padding being zeros. Rows need at least one token. Nothing depends on values, so
    that it can be traced; packing, which saves the work on padding, depends on them.
    Raises UserError for another model or mechanism of attention, and for one with conditions or in training mode.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        if not isinstance(model, Transformer) or model.config.condition_size is not None:
            raise UserError(
                "a padded form is there for models of one stack without conditions, "
                f"not for this {type(model).__name__}"
            )
        if model.training:
            raise UserError(
                "a padded form is for inference, the model is in training mode: call model.eval()"
            )
        kinds = {type(block.attention) for _, block in model.stack.each()} - {
            SoftmaxAttention,
            WindowedAttention,
        }
        if kinds:
            raise UserError(
                f"a padded form is there for softmax attention, this model has {model.config.attention.name!r}"
            )
        self.model = model
        self.eval()

    def forward(self, input_ids: Tensor, segment_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """[B, L] thrice to the outputs by name."""
        real = attention_mask.bool()
        batch = _Rectangle(self.model, real, segment_ids)
        hidden = self.model.embeddings.look_up(input_ids, segment_ids, batch.tokens.index)
        for _, block in self.model.stack.each():
            hidden = block(hidden, partial(batch.attend, block.attention))
        return self._outputs(self.model.stack.finish(hidden), real)

    def _outputs(self, hidden: Tensor, real: Tensor) -> dict[str, Tensor]:
        model, padding = self.model, ~real[..., None]
        found = {"sequence": hidden.masked_fill(padding, 0.0)}
        if model.pooler is not None:
            first = real.to(torch.int64).argmax(1)[:, None, None].expand(-1, 1, hidden.shape[-1])
            found["pooled"] = model.pooler(hidden.gather(1, first).squeeze(1))
        if model.nsp_head is not None:
            found["nsp_logits"] = model.nsp_head(found["pooled"])
        if model.lm_head is not None:
            found["lm_logits"] = model.lm_logits(hidden).masked_fill(padding, 0.0)
        if model.discriminator is not None:
            found["discriminator_logits"] = model.discriminator(hidden).masked_fill(~real, 0.0)
        return found


class _Rectangle:
    """What the layers share of one padded batch: positions, who sees whom, and the logits below."""

    def __init__(self, model: Transformer, real: Tensor, segments: Tensor) -> None:
        counted = real.to(torch.int64)
        index = (counted.cumsum(1) - 1).clamp(min=0)
        self.tokens = Tokens(index, segments, (segments * counted).cumsum(1))
        allowed = model.rule.allows(self.tokens.as_queries(), self.tokens.as_keys())
        # Padded queries see everything, so that no row of the softmax is empty.
        self.visible = ((allowed & real[:, None, :]) | ~real[:, :, None])[:, None]
        self.relative, self.residual = model.stack.relative, model.stack.residual
        self.distance = index[:, None, :] - index[:, :, None]
        self._below: Tensor | None = None

    def attend(self, attention: SoftmaxAttention, hidden: Tensor) -> Tensor:
        """[B, L, C] to the same, through the four steps of an attention."""
        query, key, value = attention.project(hidden)
        if attention.rotate is not None:
            table = rotary_table(self.tokens.index, attention.key_size, attention.rotary_base, query.dtype)
            query, key = attention.rotate(query, table), attention.rotate(key, table)
        share = query.shape[2] // key.shape[2]
        key, value = key.repeat_interleave(share, 2), value.repeat_interleave(share, 2)
        query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        return attention.merge(self._mix(query, key, value, attention.scale).transpose(1, 2))

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        if self.relative is None and not self.residual:
            return functional.scaled_dot_product_attention(
                query, key, value, attn_mask=self.visible, scale=scale
            )
        logits = (query * scale) @ key.transpose(-1, -2)
        if self.relative is not None:
            logits = logits + self.relative.logits(query * scale, self.distance)
        if self.residual:
            logits = logits if self._below is None else logits + self._below
            self._below = logits
        mixed, weights = attend_explicit(logits, value, self.visible)
        moved = None if self.relative is None else self.relative.values(weights, self.distance)
        return mixed if moved is None else mixed + moved
