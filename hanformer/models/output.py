"""What a model returns for a padded batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Output:
    """What a model returns for a padded batch; padding positions hold zeros.

    模型对填充批次的输出；填充位置为零。

    `sequence` [B, L, C] (of a decoder: its own); `pooled` [B, C]; `nsp_logits` [B, 2]; `lm_logits` [B, L, V];
    `discriminator_logits` [B, L]; `encoder_sequence` [B, L', C]: None where the model has no such part. On
    request `hidden_states`, of embeddings and every layer, the last after the final norm, [B, L, C] each, and
    `attention_scores`, weights after softmax, [B, H, Q, K] each over rows whose padding was moved to the right end.
    Of an encoder-decoder these are the decoder's; the encoder's, and those of decoder over encoder, stand beside them.
    """

    sequence: Tensor
    pooled: Tensor | None = None
    nsp_logits: Tensor | None = None
    lm_logits: Tensor | None = None
    discriminator_logits: Tensor | None = None
    encoder_sequence: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attention_scores: tuple[Tensor, ...] | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    encoder_attention_scores: tuple[Tensor, ...] | None = None
    cross_attention_scores: tuple[Tensor, ...] | None = None

    @property
    def mlm_logits(self) -> Tensor | None:
        """`lm_logits` by the name that masked language models give them. 掩码语言模型的 logits。"""
        return self.lm_logits
