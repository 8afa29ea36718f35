"""Files of torch.save (.bin, .pt, .pth, .ckpt): weights only, never code."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.weights.checks import shortened
from hanformer.weights.protocols import TensorInfo, unknown

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
#: Under these names trainers keep the weights beside other things.
_INNER = ("state_dict", "model_state_dict", "model", "module", "net")
#: How torch begins when it refuses a pickle, and what it then says of an object or a function that is no tensor.
_REFUSED = "Weights only load failed"
_OBJECTS = re.compile(
    rf"^{_REFUSED}.*(unsupported global|unrecognized (function|class)|allowlisted"
    r"|must be imported|Can only (append|extend|set|create|build))",
    re.DOTALL | re.IGNORECASE,
)
_LLAMA2_C = b"24ka"


class TorchFile:
    """One file of torch.save, mapped where it is of the zip form (torch 1.6 and later).

    torch.save 写出的文件：只读权重，绝不执行代码。

    Of a trainer's checkpoint the weights are taken (state_dict, model and the like). Raises UserError for damage,
    for other Python objects than tensors, and for files that torch did not write.
    """

    format = "torch"

    def __init__(self, path: str | Path) -> None:
        self.origin = str(path)
        beginning = _beginning(Path(path))
        if not beginning.startswith((_ZIP, _PICKLE)):
            raise UserError(f"{path}: {_stranger(beginning)}")
        content = _load(Path(path), mapped=beginning.startswith(_ZIP))
        self._tensors = _weights(self.origin, content)
        _check_storages(Path(path), self._tensors)

    def names(self) -> tuple[str, ...]:
        """All names of tensors. 全部张量名。"""
        return tuple(self._tensors)

    def info(self, name: str) -> TensorInfo:
        """Shape and dtype of a tensor. 张量的形状与类型。"""
        tensor = self._find(name)
        return TensorInfo(name, tuple(tensor.shape), tensor.dtype)

    def read(self, name: str) -> Tensor:
        """The tensor, without history; contiguous. 读取张量。"""
        return self._find(name).detach().contiguous()

    def _find(self, name: str) -> Tensor:
        if name not in self._tensors:
            raise unknown(self.origin, name, self._tensors)
        return self._tensors[name]


def _beginning(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(28)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def _stranger(beginning: bytes) -> str:
    """What a file is that torch did not write."""
    if beginning.startswith(_LLAMA2_C) or _is_llama2_header(beginning):
        return (
            "this is a raw export of llama2.c, which has no names or shapes; use the .pt file that it was exported "
            "from, or a safetensors file of the model"
        )
    return "expected a file of torch.save (a zip or a pickle), got something else; is the download whole?"


def _is_llama2_header(beginning: bytes) -> bool:
    if len(beginning) < 28:
        return False
    width, hidden, layers, heads, key_heads, vocabulary, length = struct.unpack("<7i", beginning)
    sizes = (width, hidden, layers, heads, key_heads, abs(vocabulary), length)
    return all(0 < size < 1 << 24 for size in sizes) and width % heads == heads % key_heads == 0


def _load(path: Path, *, mapped: bool) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except UserError:
        raise
    except Exception as error:
        # A damaged file can break torch's reader at any point, with any kind of error.
        if _OBJECTS.search(str(error)):
            raise UserError(
                f"{path}: it holds Python objects other than tensors, and those are never run; where it comes from, "
                "save model.state_dict() alone, or convert it to safetensors"
            ) from None
        reason = _reason(error)
        raise UserError(f"{path}: not a whole file of torch.save ({reason}); get it again") from None


def _reason(error: Exception) -> str:
    """What broke the reader, without its advice on how to run what the file holds."""
    text = str(error)
    own = text.rpartition("WeightsUnpickler error:")[2] if text.startswith(_REFUSED) else text
    lines = own.strip().splitlines() or [type(error).__name__]
    return lines[0][:150]


def _weights(origin: str, content: object) -> dict[str, Tensor]:
    """The tensors of a state dict, or of the first one that a checkpoint holds under a usual name."""
    if isinstance(content, Mapping):
        for inner in (content, *(content.get(name) for name in _INNER)):
            tensors = _dense(inner)
            if tensors:
                return tensors
    held = (
        shortened([str(key) for key in content]) if isinstance(content, Mapping) else type(content).__name__
    )
    raise UserError(
        f"{origin}: expected a mapping from names to tensors, at the top or under {', '.join(_INNER)}; "
        f"found {held or 'nothing'}"
    )


def _dense(content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {name: value for name, value in content.items() if isinstance(name, str) and _is_dense(value)}


def _is_dense(value: object) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _check_storages(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """torch gives a tensor all the memory that its shape asks for, stored or not."""
    sizes = {
        tensor.untyped_storage().data_ptr(): (tensor.untyped_storage().nbytes(), name)
        for name, tensor in tensors.items()
    }
    available = path.stat().st_size
    for size, name in sizes.values():
        if size > available:
            raise UserError(
                f"{path}: tensor {name!r} claims {size} bytes, more than the file's {available}; get it again"
            )
