"""A model and the tokenizer that lies beside it. 模型及其旁边的分词器。"""

from __future__ import annotations

from pathlib import Path

from hanformer.errors import UserError
from hanformer.models.checkpoint import Checkpoint
from hanformer.models.loading import HEAD_PARAMETERS, saved_heads, skeleton
from hanformer.text.load import load_tokenizer
from hanformer.text.protocols import Tokenizer


def folder_of(checkpoint: Checkpoint) -> Path:
    """The folder that holds the weights, wherever they were named or fetched. 权重所在的文件夹。"""
    place = Path(checkpoint.source.origin)
    return place if place.is_dir() else place.parent


def tokenizer_of(checkpoint: Checkpoint, named: str | Path | None = None) -> Tokenizer:
    """The tokenizer that is named, else the one beside the weights.

    指定的分词器；未指定时取权重旁边的。

    Raises UserError where there is none, or it cannot be read.
    """
    if named is not None:
        return load_tokenizer(named)
    try:
        return load_tokenizer(folder_of(checkpoint))
    except UserError as error:
        raise UserError(f"{error}; or name a tokenizer that lies elsewhere (--tokenizer)") from None


def heads_in(checkpoint: Checkpoint, application: str | None = None) -> tuple[str, ...]:
    """The heads whose parameters a checkpoint holds, all of them. 检查点中齐全的输出头。"""
    if checkpoint.dialect == "own":
        return saved_heads(checkpoint)
    possible = checkpoint.known_family().heads
    config = checkpoint.config({} if application is None else {"application": application})
    expected = list(skeleton(config, possible).state_dict())
    _, left = checkpoint.name_map(config, expected).choose(expected, checkpoint.names)
    found = [head for head in possible if not any(name.startswith(HEAD_PARAMETERS[head]) for name in left)]
    return tuple(head for head in found if head != "nsp" or "pool" in found)
