"""What the writers share: the bytes of one tensor at a time, and the division of tensors among files."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hanformer.errors import UserError


def stored_size(name: str, tensor: Tensor) -> int:
    """How many bytes a tensor takes in a file.

    张量写入文件所需字节数。

    Raises UserError for a tensor that has no values to write (meta) or not one for every place (sparse).
    """
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        raise UserError(
            f"expected dense tensors with values, got {name!r} of {tensor.layout} on {tensor.device}"
        )
    return tensor.numel() * tensor.element_size()


def content_of(tensor: Tensor) -> memoryview:
    """The bytes of a tensor in row-major order; a copy only of what is not so already. 张量的原始字节。"""
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    content: memoryview = flat.view(torch.uint8).numpy().data
    return content


def grouped(sizes: Mapping[str, int], groups: int) -> list[list[str]]:
    """The names in their order, divided into so many groups of about equal size; some may be empty.

    按顺序分为大小相近的若干组。
    """
    total = max(sum(sizes.values()), 1)
    result: list[list[str]] = [[] for _ in range(groups)]
    before = 0
    for name, size in sizes.items():
        result[min(before * groups // total, groups - 1)].append(name)
        before += size
    return result


def check_name(where: str, name: str) -> None:
    """Raises UserError for a name that UTF-8 cannot write. 名字须能以 UTF-8 写出。"""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{where}: the tensor name {name!r} is not valid text; rename it") from None
