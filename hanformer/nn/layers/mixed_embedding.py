"""Characters that know the word they stand in: DGCNN's embedding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hanformer.errors import UserError
from hanformer.nn.layers.dropout import Dropout


class MixedEmbedding(nn.Module):
    """E(c) + W·w: a learned vector of the character, and the mapped, frozen vector of the word it stands in.

    字词混合嵌入：可训练的字向量加上（映射后的）固定词向量。

    `words` [words, D] are pretrained vectors, which are kept as they are; W has no bias. A word's vector stands at
    each of its characters. Shapes: ids [N] twice to [N, size]. Raises UserError for vectors that are not a matrix.
    Source: kexue.fm/archives/6671.
    """

    def __init__(self, characters: int, words: Tensor, size: int = 128, *, dropout: float = 0.1) -> None:
        super().__init__()
        if words.dim() != 2 or not words.is_floating_point():
            raise UserError(
                f"mixed embedding: expected word vectors [words, size] of floating-point numbers, got "
                f"{list(words.shape)} of {words.dtype}"
            )
        self.character = nn.Embedding(characters, size)
        self.word = nn.Embedding.from_pretrained(words.clone(), freeze=True)
        self.mapping = nn.Linear(words.shape[1], size, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self, character_ids: Tensor, word_ids: Tensor) -> Tensor:
        """Ids [N] of the characters and, for each of them, of the word it stands in, to [N, size]."""
        mixed: Tensor = self.dropout(self.character(character_ids) + self.mapping(self.word(word_ids)))
        return mixed


def word_of_each_character(text: str, words: Sequence[str]) -> list[int]:
    """For each character of a text the number of the word it stands in; the words must join to the text.

    每个字所在的词的序号；各词须恰好拼成原文。

    Raises UserError where they do not, as with segmenters that drop spaces.
    """
    if "".join(words) != text:
        joined = "".join(words)
        shared = next(
            (i for i, pair in enumerate(zip(text, joined, strict=False)) if len(set(pair)) > 1), None
        )
        place = min(len(text), len(joined)) if shared is None else shared
        raise UserError(
            f"words: expected words that join to the text, got {len(joined)} characters for {len(text)}, "
            f"which part at character {place}"
        )
    return [number for number, word in enumerate(words) for _ in word]


def spread(word_ids: Sequence[int], text: str, words: Sequence[str]) -> Tensor:
    """The id of its word for each character of a text: int64 [len(text)]. 把词编号铺到每个字上。"""
    return torch.tensor(
        [word_ids[number] for number in word_of_each_character(text, words)], dtype=torch.int64
    )
