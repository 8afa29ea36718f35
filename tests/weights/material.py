"""What the tests of checkpoint formats share: tensors of every dtype, hand-made bundles, and files with damage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hanformer.weights.bundle import data_path
from hanformer.weights.bundle_records import NUMBERS, Entry, Extent, Header, part_key
from hanformer.weights.crc32c import masked_crc32c
from hanformer.weights.protocols import Source
from hanformer.weights.table import table_bytes

GOLDEN = Path(__file__).parent.parent / "golden"
NUMERIC = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.bool,
    torch.complex64,
]
Parts = Mapping[tuple[Extent, ...], Tensor]


def every_dtype() -> dict[str, Tensor]:
    """A tensor of each dtype, a scalar, empty ones, a transposed one; names that are not ASCII."""
    tensors = {
        f"层_{number}/x": torch.arange(6).reshape(2, 3).to(dtype) for number, dtype in enumerate(NUMERIC)
    }
    return tensors | {
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4),
        "transposed": torch.arange(12.0).reshape(3, 4).T,
    }


def same(first: Tensor, second: Tensor) -> bool:
    """Equal dtype, shape and bits."""
    if (first.dtype, first.shape) != (second.dtype, second.shape):
        return False
    return raw(first) == raw(second)


def raw(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def read_all(source: Source) -> dict[str, Tensor]:
    return {name: source.read(name) for name in source.names()}


def make_bundle(
    prefix: Path,
    tensors: Mapping[str, Tensor],
    parts: Mapping[str, tuple[tuple[int, ...], Parts]] | None = None,
    changes: Mapping[str, Mapping[str, object]] | None = None,
    shards: int = 1,
    extra: Mapping[bytes, bytes] | None = None,
) -> Path:
    """A bundle with one data file; `parts` are partitioned variables, `changes` falsify fields of entries."""
    entries: dict[bytes, bytes] = {b"": Header(shards).encoded()}
    stored = bytearray()

    def store(key: bytes, tensor: Tensor, name: str) -> None:
        content = raw(tensor)
        fields: dict[str, object] = {
            "kind": NUMBERS[tensor.dtype],
            "shape": tuple(tensor.shape),
            "shard": 0,
            "offset": len(stored),
            "size": len(content),
            "checksum": masked_crc32c(content),
        }
        entries[key] = Entry(**{**fields, **(changes or {}).get(name, {})}).encoded()  # type: ignore[arg-type]
        stored.extend(content)

    for name, tensor in tensors.items():
        store(name.encode(), tensor, name)
    for name, (shape, pieces) in (parts or {}).items():
        kind = NUMBERS[next(iter(pieces.values())).dtype]
        entries[name.encode()] = Entry(kind, shape, 0, 0, 0, 0, tuple(pieces)).encoded()
        for extents, piece in pieces.items():
            store(part_key(name.encode(), extents), piece, f"{name}/part")
    entries |= extra or {}
    Path(f"{prefix}.index").write_bytes(table_bytes(sorted(entries.items())))
    data_path(prefix, 0, shards).write_bytes(stored)
    return prefix


def damaged(content: bytes, generator: np.random.Generator) -> bytes:
    """A copy with some bytes changed, cut off, doubled or put in."""
    changed = bytearray(content)
    for _ in range(generator.integers(1, 4)):
        place = int(generator.integers(0, max(len(changed), 1)))
        kind = generator.integers(0, 6)
        if kind <= 2 and changed:
            changed[place] = int(generator.choice([0, 1, 0x7F, 0x80, 0xFF, int(generator.integers(0, 256))]))
        elif kind == 3:
            del changed[place : place + int(generator.integers(1, 9))]
        elif kind == 4:
            changed[place:place] = generator.bytes(int(generator.integers(1, 12)))
        else:
            changed[place:place] = changed[place : place + int(generator.integers(1, 40))]
    if generator.integers(0, 8) == 0:
        del changed[int(generator.integers(0, len(changed) + 1)) :]
    return bytes(changed)


def put(path: Path, content: bytes) -> None:
    """Writes a file anew: some file systems flush one that is cut short and written again, which takes long."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
