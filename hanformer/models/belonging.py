"""What a caller puts into a model: ids in a batch, a tokenizer beside it, a device and a dtype to load it on.

调用者交给模型的东西是否合适：输入批次、分词器、设备与数值类型。
"""

from __future__ import annotations

import torch
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.text.protocols import Tokenizer

_ID_TYPES = (torch.int64, torch.int32)


def check_vocabulary(config: ModelConfig, tokenizer: Tokenizer) -> None:
    """Raises UserError where the tokenizer has ids that the model has not. 检查分词器与模型是否匹配。"""
    known = len(tokenizer.vocabulary.tokens)
    if known > config.vocab_size:
        raise UserError(
            f"the tokenizer has {known} tokens and the model {config.vocab_size}: tokenizer and model do not belong "
            "together; use the vocabulary that was published with the model"
        )


def check_batch(name: str, ids: object) -> None:
    """Raises UserError for what is no padded batch of ids: a whole-number tensor [B, L].

    检查输入是否为整数张量 [B, L]。
    """
    if not isinstance(ids, Tensor):
        raise UserError(
            f"{name}: expected a tensor of token ids [B, L], got {type(ids).__name__}; "
            "make one of it with torch.tensor(...), its rows padded to one length"
        )
    if ids.dtype not in _ID_TYPES:
        raise UserError(f"{name}: expected ids as torch.int64, got {ids.dtype}; convert them with .long()")
    if ids.dim() != 2:
        raise UserError(f"{name}: expected a batch of ids [rows, length], got the shape {list(ids.shape)}")


def check_dtype(dtype: object) -> None:
    """Raises UserError for what is no floating point dtype, nor None. 检查数值类型。"""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise UserError(
            f"dtype: expected torch.float32, torch.bfloat16, another floating dtype of torch, or None, got {dtype!r}"
        )


def device_named(device: str | torch.device) -> torch.device:
    """The device of that name; raises UserError for one that torch does not know, or a GPU that is not there.

    按名称取设备。
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise UserError(f"device: expected cpu, cuda[:number] or a torch.device, got {device!r}") from None
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"device: {str(found)!r} was asked for, and torch finds {torch.cuda.device_count()} GPUs; use cpu"
        )
    return found
