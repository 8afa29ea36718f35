"""Texts to vectors, in stages that can be replaced: tokenize, pack, run, finish.

文本编码为向量：分词、打包、运行（含池化）、后处理，每一步都可替换。
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torch.nn import functional

from hanformer.config import ModelConfig
from hanformer.data.batches import TokenBudgetBatches
from hanformer.errors import UserError
from hanformer.models.belonging import check_vocabulary
from hanformer.models.encoder_decoder import EncoderDecoder
from hanformer.models.loading import load
from hanformer.models.transformer import Transformer
from hanformer.nn.functional.packing import Layout
from hanformer.nn.layers.prepacked import prepacked
from hanformer.similarity.pooling import Run, check_pooling, run_of
from hanformer.text.batch import encode_batch
from hanformer.text.protocols import Encoding, Tokenizer

Model = Transformer | EncoderDecoder
#: So many texts at least are sorted by length together; what is held at a time stays small.
WINDOW = 4096
#: Characters from which on laying the weights out takes less time than it saves.
_PACKING_PAYS = 4_000


@dataclass(frozen=True, eq=False)
class Block:
    """The vectors of neighbouring texts, in their order, and what became of the texts.

    一段相邻文本的向量与统计。

    `vectors` [m, C] on the CPU; `tokens` that were run; `cut`, the texts that were longer than the limit; `empty`,
    those without a token, whose vectors are zero.
    """

    vectors: Tensor
    tokens: int
    cut: int
    empty: int


@dataclass(frozen=True)
class Encoder:
    """The stages of encoding, each a function; `encoder_of` fills them in for a model.

    编码的各个阶段；可逐个替换。

    `tokenize` gives the encodings of texts; `run` maps packed ids [N] to pooled vectors [B, C]; `finish` is applied
    to those. A batch holds at most `token_budget` tokens, or one longer text.
    """

    tokenize: Callable[[Sequence[str]], list[Encoding]]
    run: Run
    finish: Callable[[Tensor], Tensor]
    size: int
    dtype: torch.dtype
    device: torch.device
    token_budget: int = 2048

    def blocks(
        self, texts: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> Iterator[Block]:
        """The vectors of all texts, some thousands at a time; `progress` is told how many more are done."""
        window = max(WINDOW, self.token_budget)
        for start in range(0, len(texts), window):
            yield self._block(texts[start : start + window], progress or _silent)

    def _block(self, texts: Sequence[str], progress: Callable[[int], object]) -> Block:
        encodings = self.tokenize(texts)
        vectors = torch.zeros(len(texts), self.size, dtype=self.dtype)
        filled = [place for place, encoding in enumerate(encodings) if len(encoding)]
        # A text longer than the budget counts as all of it: it gets a batch of its own.
        lengths = [min(len(encodings[place]), self.token_budget) for place in filled]
        if filled:
            collate = partial(self._batch, encodings, filled)
            batches = TokenBudgetBatches(lengths, self.token_budget, collate, shuffle=False).batches(0)
            for places, found in batches:
                vectors[places] = found.cpu()
                progress(len(places))
        progress(len(texts) - len(filled))
        cut = sum(encoding.truncated for encoding in encodings)
        return Block(vectors, sum(map(len, encodings)), cut, len(texts) - len(filled))

    def _batch(
        self, encodings: Sequence[Encoding], filled: Sequence[int], chosen: Sequence[int], _: Random
    ) -> tuple[list[int], Tensor]:
        """Which texts these are, and their vectors."""
        places = [filled[number] for number in chosen]
        return places, self.vectors([encodings[place] for place in places])

    @torch.inference_mode()
    def vectors(self, encodings: Sequence[Encoding]) -> Tensor:
        """One batch, none of its rows empty: [B, C]. 一个批次的向量。"""
        ids = [number for encoding in encodings for number in encoding.ids]
        segments = [number for encoding in encodings for number in encoding.segments]
        layout = Layout.of(
            [len(encoding) for encoding in encodings],
            torch.tensor(segments, dtype=torch.int64, device=self.device),
        )
        return self.finish(self.run(torch.tensor(ids, dtype=torch.int64, device=self.device), layout))


def _silent(done: int) -> None:
    return None


def encoder_of(
    model: Model,
    tokenizer: Tokenizer,
    *,
    pooling: str = "cls",
    token_budget: int = 2048,
    maximum_length: int | None = None,
    normalise: bool = False,
    packed: bool = True,
) -> Encoder:
    """The stages for a model and its tokenizer. 为模型与分词器配置各阶段。

    `packed` lays the weights out for the processor, as `hanformer.prepacked` does: faster, at the price of a second
    copy of them. Raises UserError for an unknown pooling, a budget below 1, a vocabulary that is larger than the
    model's, and a maximum length beyond the model's positions.
    """
    if token_budget < 1:
        raise UserError(f"token_budget: expected at least 1, got {token_budget}")
    check_vocabulary(model.config, tokenizer)
    model = prepacked(model) if packed else model
    return Encoder(
        partial(encode_batch, tokenizer, maximum_length=_limit(model.config, maximum_length), workers=1),
        run_of(pooling, model),
        normalised if normalise else _unchanged,
        model.config.hidden_size,
        model.embeddings.token.weight.dtype,
        model.device,
        token_budget,
    )


def open_encoder(
    path: str | Path,
    tokenizer: Tokenizer,
    *,
    family: str | None = None,
    config: str | Path | None = None,
    pooling: str = "cls",
    token_budget: int = 2048,
    maximum_length: int | None = None,
    normalise: bool = False,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
) -> Encoder:
    """The stages for the model of a path, loaded with the head that its pooling needs alone.

    从路径加载模型并配置各阶段，只带池化所需的输出头。

    Raises UserError as `load` and `encoder_of` do; for an unknown pooling before anything is read.
    """
    check_pooling(pooling)
    heads = ("pool",) if pooling == "pooled" else ()
    model = load(path, family=family, config=config, heads=heads, device=device, dtype=dtype)
    return encoder_of(
        model,
        tokenizer,
        pooling=pooling,
        token_budget=token_budget,
        maximum_length=maximum_length,
        normalise=normalise,
    )


def encode(
    model: Model,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    pooling: str = "cls",
    token_budget: int = 2048,
    maximum_length: int | None = None,
    normalise: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    """The vectors [n, C] of texts, in their order and in the model's dtype, on the CPU.

    把文本编码为向量 [n, C]：按长度排序、按词元预算组批、无填充地运行，再恢复原顺序。

    On a CPU, where the texts are many, the weights are laid out anew for it, which takes memory for a second copy.
    Texts are sorted by length, cut into batches of at most `token_budget` tokens and run packed, without padding:
    the result is that of every text alone. `pooling`: cls, mean, pooled or last. Texts longer than
    `maximum_length` (by default what the model can hold) are cut, and texts without a token give zeros; a warning
    says how many. `normalise` makes every vector one of length 1. `progress` is called with the number of texts
    that were done since its last call. Dropout acts in a model in training mode: load gives it in evaluation mode.
    Raises UserError, as `encoder_of`, and for a single text instead of a list.
    """
    if isinstance(texts, str):
        raise UserError("encode: expected a list of texts, got one text; write [text]")
    stages = encoder_of(
        model,
        tokenizer,
        pooling=pooling,
        token_budget=token_budget,
        maximum_length=maximum_length,
        normalise=normalise,
        packed=sum(map(len, texts)) >= _PACKING_PAYS,
    )
    blocks = list(stages.blocks(texts, progress))
    for complaint in complaints(blocks, len(texts)):
        warnings.warn(complaint, stacklevel=2)
    return torch.cat([block.vectors for block in blocks]) if blocks else _nothing(stages)


def complaints(blocks: Sequence[Block], count: int) -> list[str]:
    """What a user should hear of texts that were cut, or had no token. 截断与空文本的提示。"""
    cut, empty = sum(block.cut for block in blocks), sum(block.empty for block in blocks)
    found = []
    if cut:
        found.append(
            f"{cut:,} of {count:,} texts were longer than the maximum length and were cut at their end"
        )
    if empty:
        found.append(f"{empty:,} of {count:,} texts have no token; their vectors are zero")
    return found


def normalised(vectors: Tensor) -> Tensor:
    """x / ‖x‖ for every row, computed in float32 at least; zeros stay zeros. 归一化到单位长度。"""
    wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    return functional.normalize(wide, dim=-1).to(vectors.dtype)


def _unchanged(vectors: Tensor) -> Tensor:
    return vectors


def _limit(config: ModelConfig, asked: int | None) -> int | None:
    """The longest row that is run, in tokens; None where the model has no limit and none was asked for."""
    if config.position != "learned":
        return asked
    most = config.max_positions if config.hierarchical_positions is None else config.max_positions**2
    if asked is not None and asked > most:
        raise UserError(f"maximum_length: the model has {most} positions, got {asked}")
    return most if asked is None else asked


def _nothing(stages: Encoder) -> Tensor:
    return torch.zeros(0, stages.size, dtype=stages.dtype)
