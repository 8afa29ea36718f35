"""Encoding: sentences per second of a BERT-base encoder, beside transformers and sentence-transformers.

    python -m benchmarks.encoding

Random weights of BERT-base width, 256 random Chinese sentences, tokenisation included, the mean of the last layer as
the vector. "skewed" lengths are log-normal from 5 to 128 tokens (mean about 32); "uniform" ones are all 128, and there
are a quarter as many. hanformer packs sentences up to a budget of tokens; sentence-transformers sorts by length and
pads batches of 32, as it does by default; transformers gets the same by hand. 4 layers by default, so that a round
takes seconds; --layers 12 is the whole BERT-base. All sides use the same weights and dtype.
Vectors are compared first: in fp32 they must agree to 1e-4, in bf16 the cosine of ours with fp32 must be at least
0.9999 (that of theirs is printed beside it).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import runner
from benchmarks.measure import Case, Difference, Side
from benchmarks.peer import skewed_lengths
from hanformer import models
from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models.transformer import Transformer
from hanformer.similarity.encode import encode
from hanformer.text.vocabulary import DEFAULT_SPECIALS, Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer

try:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling
    from sentence_transformers.models import Transformer as PeerTransformer
    from transformers import BertModel, BertTokenizerFast
except ImportError:
    raise SystemExit("this benchmark needs its peers: pip install 'hanformer[bench]'") from None

SENTENCES, BATCH, CHARACTERS = 256, 32, 20000
TOLERANCE, COSINE = 1e-4, 0.9999
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def make_vocabulary() -> Vocabulary:
    """Special tokens and ideographs. 特殊词元与汉字。"""
    return Vocabulary([*DEFAULT_SPECIALS.names(), *map(chr, range(0x4E00, 0x4E00 + CHARACTERS))])


def make_texts(lengths: Sequence[int], seed: int) -> list[str]:
    """Random ideographs; lengths count [CLS] and [SEP]. 随机汉字句子。"""
    generator = torch.Generator().manual_seed(seed)
    texts = []
    for length in lengths:
        drawn = torch.randint(CHARACTERS, (length - 2,), generator=generator).tolist()
        texts.append("".join(chr(0x4E00 + number) for number in drawn))
    return texts


@dataclass(frozen=True)
class Contenders:
    """The same weights in the hands of all sides. 各方持有相同权重。"""

    ours: Transformer
    tokenizer: WordPieceTokenizer
    peer: nn.Module
    peer_tokenizer: Any
    sentences: Any

    def hanformer(self, texts: Sequence[str], budget: int) -> Tensor:
        """Ours."""
        return encode(self.ours, self.tokenizer, texts, pooling="mean", token_budget=budget)

    def sentence_transformers(self, texts: Sequence[str]) -> Tensor:
        """As its users call it."""
        found: Tensor = self.sentences.encode(
            list(texts), batch_size=BATCH, convert_to_tensor=True, show_progress_bar=False
        )
        return found

    @torch.inference_mode()
    def transformers(self, texts: Sequence[str]) -> Tensor:
        """Sorted by length, padded batches of 32, the mean over real tokens: what a careful user writes."""
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        parts = []
        for start in range(0, len(texts), BATCH):
            chosen = [texts[place] for place in order[start : start + BATCH]]
            batch = self.peer_tokenizer(chosen, padding=True, return_tensors="pt")
            hidden = self.peer(**batch).last_hidden_state
            mask = batch["attention_mask"][:, :, None].to(hidden.dtype)
            parts.append((hidden * mask).sum(1) / mask.sum(1))
        vectors = torch.cat(parts)
        return vectors[torch.tensor(order).argsort()]


def contenders(layers: int, seed: int, dtype: torch.dtype, folder: Path) -> Contenders:
    """Builds all sides; the peers read the model from a folder, as their users do. 构建各方。"""
    torch.manual_seed(seed)
    vocabulary = make_vocabulary()
    ours = models.build(ModelConfig(len(vocabulary), layers=layers), heads=()).eval()
    tokenizer = WordPieceTokenizer(vocabulary)
    tokenizer.save(folder)
    models.save(ours, folder, format="transformers")
    peer = BertModel.from_pretrained(folder, attn_implementation="sdpa").eval()
    peer_tokenizer = BertTokenizerFast.from_pretrained(folder)
    sentences = SentenceTransformer(
        modules=[PeerTransformer(str(folder)), Pooling(ours.config.hidden_size, "mean")], device="cpu"
    )
    return Contenders(
        ours.to(dtype),
        tokenizer,
        peer.to(dtype),
        peer_tokenizer,
        sentences.to(dtype),  # type: ignore[operator]
    )


def check(found: Contenders, texts: Sequence[str], budget: int, dtype: torch.dtype, exact: Tensor) -> str:
    """Equal vectors, or in bf16 vectors of equal direction. 向量须一致。"""
    ours = found.hanformer(texts, budget).float()
    others = [found.sentence_transformers(texts).float(), found.transformers(texts).float()]
    if dtype == torch.float32:
        worst = max(float((ours - other).abs().max()) for other in others)
        if not worst <= TOLERANCE:
            raise Difference(f"vectors differ by {worst:.1e}, more than {TOLERANCE}")
        return f"vectors differ by {worst:.1e} at most"
    cosines = [float(functional.cosine_similarity(side, exact).min()) for side in (ours, others[0])]
    if not cosines[0] >= COSINE:
        raise Difference(f"least cosine with fp32 is {cosines[0]:.6f}, below {COSINE}")
    return f"least cosine with fp32: {cosines[0]:.6f}; sentence-transformers {cosines[1]:.6f}"


def cases(chosen: argparse.Namespace) -> Iterator[Case]:
    """All dtypes and lengths. 全部案例。"""
    shapes = {
        "skewed": skewed_lengths(chosen.sentences, chosen.seed),
        "uniform 128": [128] * chosen.sentences,
    }
    exact: dict[str, Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        for word in chosen.dtypes.split(","):
            if word not in DTYPES:
                raise UserError(f"dtypes: expected some of {', '.join(DTYPES)}, got {word!r}")
            found = contenders(chosen.layers, chosen.seed, torch.float32, Path(folder))
            for shape, lengths in shapes.items():
                texts = make_texts(lengths, chosen.seed)
                if shape not in exact:
                    exact[shape] = found.hanformer(texts, chosen.budget)
            if DTYPES[word] != torch.float32:
                found = contenders(chosen.layers, chosen.seed, DTYPES[word], Path(folder))
            for shape, lengths in shapes.items():
                texts = make_texts(lengths, chosen.seed)
                sides = [
                    Side("hanformer", partial(found.hanformer, texts, chosen.budget)),
                    Side("sentence-transformers", partial(found.sentence_transformers, texts)),
                    Side("transformers, sorted", partial(found.transformers, texts)),
                ]
                confirm = partial(check, found, texts, chosen.budget, DTYPES[word], exact[shape])
                yield Case(f"{word}, {shape}", "sentence", len(texts), True, sides, confirm)


def main(arguments: Sequence[str]) -> int:
    """The command. 命令行入口。"""
    options = runner.parser("sentences encoded per second beside its peers", "encoding")
    options.add_argument("--layers", type=int, default=4, help="12 for the whole BERT-base; default: 4")
    options.add_argument("--sentences", type=int, default=SENTENCES)
    options.add_argument("--budget", type=int, default=2048, help="tokens of a batch; default: %(default)s")
    options.add_argument("--dtypes", default=",".join(DTYPES), help="comma-separated: %(default)s")
    return runner.main("encoding", options, cases, arguments)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
