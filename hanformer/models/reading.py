"""From published tensors to parameters, several at a time. 由发布的张量得到参数，多线程并行。"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from hanformer.errors import UserError
from hanformer.models.checkpoint import Checkpoint
from hanformer.models.laid_out import is_whole
from hanformer.models.names import Entry
from hanformer.models.token_rows import TOKEN_PARAMETERS, TokenRows
from hanformer.weights.mapping import let_go

#: Makes a tensor of the given shape of a parameter's published one, or leaves it as it is.
Fit = Callable[[str, Tensor, torch.Size], Tensor]

#: Memory is what limits the copies: more threads would wait for it.
_MOST_THREADS = 8
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Read:
    """Parameters by our names, and a line for each published tensor that has another shape.

    读出的参数，以及形状不符的说明。
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    misshapen: list[str] = field(default_factory=list)


def read_parameters(
    checkpoint: Checkpoint, chosen: Sequence[Entry], expected: Mapping[str, Tensor], rows: TokenRows, fit: Fit
) -> Read:
    """Parameters from the chosen entries; `expected` tells their shapes.

    按名称表读取参数。

    As many threads work as torch has: kernels of TensorFlow are laid out anew, and checksums computed. Raises
    UserError as the source does, and for tensors of whole numbers.
    """
    whole = Read()
    for part in _in_threads(partial(_read_entry, checkpoint, expected, rows, fit), chosen):
        whole.state.update(part.state)
        whole.misshapen.extend(part.misshapen)
    return whole


def _in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """The results in order; the first error ends the work."""
    threads = min(torch.get_num_threads(), _MOST_THREADS)
    if threads < 2:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, items)


def _read_entry(
    checkpoint: Checkpoint, expected: Mapping[str, Tensor], rows: TokenRows, fit: Fit, found: Entry
) -> Read:
    theirs = [_numbers(checkpoint, name) for name in found.theirs]
    ours = _transformed(found, theirs)
    source, read = " + ".join(found.theirs), Read()
    if len(ours) != len(found.ours):
        read.misshapen.append(f"{source} {[list(value.shape) for value in theirs]}")
        return read
    for name, value in zip(found.ours, ours, strict=True):
        wanted = expected[name].shape
        value = rows.apply(value) if rows.changes and name in TOKEN_PARAMETERS and value.dim() else value
        value = value if value.shape == wanted else fit(name, value, wanted)
        if value.shape == wanted:
            read.state[name] = value
        else:
            read.misshapen.append(f"{source} {list(value.shape)} instead of {list(wanted)}")
    return read


def _numbers(checkpoint: Checkpoint, name: str) -> Tensor:
    """A published tensor of floating-point numbers; raises UserError for one of whole numbers."""
    found = checkpoint.source.read(name)
    if not found.is_floating_point():
        raise UserError(
            f"{checkpoint.origin}: tensor {name} holds {str(found.dtype).removeprefix('torch.')}, expected "
            "floating-point numbers; the file is damaged, or of another model"
        )
    return found


def _transformed(found: Entry, theirs: Sequence[Tensor]) -> Sequence[Tensor]:
    """Parameters of an entry, as they lie in the file where nothing lies between; none where shapes forbid it.

    What was copied out of a mapped file is let go there.
    """
    try:
        ours = [value if is_whole(value) else value.contiguous() for value in found.transform.load(theirs)]
    except (RuntimeError, IndexError, ValueError):
        return ()
    kept = {value.untyped_storage().data_ptr() for value in ours}
    for value in theirs:
        if value.untyped_storage().data_ptr() not in kept:
            let_go(value)
    return ours
