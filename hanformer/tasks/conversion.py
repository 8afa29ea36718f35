"""Checkpoints from one format to another, with the tokenizer that belongs to them.

检查点格式转换，分词器一并带上。
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hanformer.errors import UserError
from hanformer.models.checkpoint import Checkpoint, open_checkpoint
from hanformer.models.loading import load
from hanformer.models.saving import FORMATS, save
from hanformer.tasks.opening import folder_of, heads_in, tokenizer_of
from hanformer.text.cpm import CpmTokenizer
from hanformer.text.protocols import Tokenizer
from hanformer.text.sentencepiece_tokenizer import SentencePieceTokenizer
from hanformer.text.trimming import trimmed
from hanformer.text.vocabulary import Vocabulary
from hanformer.text.wordpiece import WordPieceTokenizer
from hanformer.weights.atomic import saving, write_bytes

#: Files that tokenizers live in.
TOKENIZER_FILES = (
    "vocab.txt",
    "vocab.json",
    "encoder.json",
    "merges.txt",
    "vocab.bpe",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.model",
    "tok*.bin",
)


@dataclass(frozen=True)
class Conversion:
    """What was written. 转换结果。"""

    family: str
    heads: tuple[str, ...]
    parameters: int
    tokenizer: tuple[str, ...]


def convert(
    source: str | Path,
    target: str | Path,
    *,
    to: str = "safetensors",
    family: str | None = None,
    application: str | None = None,
    heads: Sequence[str] | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    keep_tokens: Sequence[int] | None = None,
    unshare: bool = False,
    force: bool = False,
) -> Conversion:
    """Loads a checkpoint of any format and writes it as a folder of another, with its tokenizer.

    读入任意格式的检查点，写成另一种格式的文件夹，并带上分词器。

    `to`: safetensors (ours), transformers or tensorflow. All heads that the checkpoint holds are taken unless
    `heads` names some. `keep_tokens` are the ids of the vocabulary that stay, in their new order: the tokenizer is
    cut down alike. `unshare` gives every layer of an ALBERT weights of its own, equal at first. Other arguments
    are those of `load`. Raises UserError as `load` and `save` do, and for a target that holds something, unless
    `force` is true.
    """
    if to not in FORMATS:
        raise UserError(f"--to: expected one of {', '.join(FORMATS)}, got {to!r}")
    with saving(target):
        _check_target(Path(target), force)
    checkpoint = open_checkpoint(source, family=family, config=config)
    files = _tokenizer_files(checkpoint) if keep_tokens is None else {}
    cut = None if keep_tokens is None else cut_down(tokenizer_of(checkpoint), keep_tokens)
    model = load(
        source,
        family=family,
        application=application,
        heads=heads_in(checkpoint, application) if heads is None else heads,
        config=config,
        dtype=dtype,
        keep_tokens=keep_tokens,
        share_layers=False if unshare else None,
    )
    save(model, target, format=to)
    for name, content in files.items():
        write_bytes(Path(target) / name, content)
    if cut is not None:
        cut.save(target)
    found = sorted({file.name for pattern in TOKENIZER_FILES for file in Path(target).glob(pattern)})
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Conversion(model.config.family, model.heads, parameters, tuple(found))


def _check_target(target: Path, force: bool) -> None:
    if target.exists() and not target.is_dir():
        raise UserError(f"{target}: expected a folder to write, found a file; choose another name")
    if not force and target.is_dir() and any(target.iterdir()):
        raise UserError(
            f"{target}: the folder is not empty; choose another one, or say --force to write into it"
        )


def _tokenizer_files(checkpoint: Checkpoint) -> dict[str, bytes]:
    folder = folder_of(checkpoint)
    found = sorted({file for pattern in TOKENIZER_FILES for file in folder.glob(pattern) if file.is_file()})
    try:
        return {file.name: file.read_bytes() for file in found}
    except OSError as error:
        raise UserError(f"{folder}: the tokenizer cannot be read ({error.strerror or error})") from None


def cut_down(tokenizer: Tokenizer, keep: Sequence[int]) -> Tokenizer:
    """The tokenizer with the tokens of these ids alone, in this order. 只保留指定编号的分词器。

    Raises UserError for a kind that cannot be cut down, or ids that it does not have.
    """
    if isinstance(tokenizer, CpmTokenizer):
        return CpmTokenizer(trimmed(tokenizer.model, keep))
    if isinstance(tokenizer, SentencePieceTokenizer):
        return SentencePieceTokenizer(trimmed(tokenizer.model, keep), tokenizer.kind)
    if not isinstance(tokenizer, WordPieceTokenizer):
        raise UserError(
            f"--keep-tokens: a {type(tokenizer).__name__} cannot be cut down; WordPiece and SentencePiece can"
        )
    old = tokenizer.vocabulary
    tokens = old.tokens_of(keep)
    kept = set(tokens)
    vocabulary = Vocabulary(tokens, old.specials, [token for token in old.added if token in kept])
    return WordPieceTokenizer(
        vocabulary,
        tokenizer.rules.lowercase,
        strip_accents=tokenizer.rules.strip_accents,
        split_chinese=tokenizer.rules.split_chinese,
        longest_word=tokenizer.longest_word,
        read_specials=tokenizer.read_specials,
        convention=tokenizer.convention,
        segmenter=tokenizer.segmenter,
    )
