"""Export: a model as a program that runs without this package."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.models.padded import PaddedTransformer
from hanformer.models.transformer import Transformer
from hanformer.weights.atomic import write_bytes

INPUTS = ("input_ids", "segment_ids", "attention_mask")
#: The largest difference that an export may have, beside outputs of size 1 or the largest output.
TOLERANCE = 1e-5
#: Rows and length of the batches on which an export is compared with its model.
TRIALS = ((2, 7), (1, 1), (3, 12), (1, 5), (5, 2))
_LARGEST_ONNX = (1 << 31) - 1

Arguments = tuple[Tensor, Tensor, Tensor]
#: Runs what was exported: input tensors to outputs by name.
Runner = Callable[[Arguments], Mapping[str, Tensor]]


def export(model: torch.nn.Module, path: str | Path, *, format: str = "torch") -> float:
    """Writes a model of one stack as a program on padded batches of any size, and checks it against the model.

    把单栈模型导出为可独立运行的程序，并与原模型的输出核对。

    `format`: "torch" (torch.export; `torch.export.load(path).module()` runs it) or "onnx" (needs the extra `onnx`).
    Inputs `input_ids`, `segment_ids`, `attention_mask`: int64 [B, L], with 1 ≤ L ≤ the model's positions and 1 ≤ B;
    outputs as `PaddedTransformer` gives them. Returns the largest difference to the model on ragged batches.
    Raises UserError for a model that cannot be exported, where the file cannot be written, and, writing nothing,
    where the difference is above 1e-5 (of 1, or of the largest output where that is more).
    """
    writers = {"torch": _torch_program, "onnx": _onnx_program}
    if format not in writers:
        raise UserError(f"format: expected one of {', '.join(writers)}, got {format!r}")
    padded = PaddedTransformer(model)
    _check(padded.model)
    with _quietly():
        content, runner = writers[format](padded)
    difference = largest_difference(padded.model, runner)
    if not difference <= TOLERANCE:
        raise UserError(
            f"export: the {format} program differs from its model by {difference:.1e}, more than {TOLERANCE:.0e}; "
            f"nothing was written to {path}"
        )
    write_bytes(Path(path), content)
    return difference


def _check(model: Transformer) -> None:
    weight = model.embeddings.token.weight
    if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.float64):
        raise UserError(
            f"export: expected a model in float32 on the CPU, got {weight.dtype} on {weight.device}; "
            'call model.to("cpu", torch.float32)'
        )
    if model.config.max_positions < 2:
        raise UserError("export: expected a model of at least 2 positions")


@contextmanager
def _quietly() -> Iterator[None]:
    """Inside, torch's exporters keep to themselves what they think of their own libraries."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def largest_difference(model: Transformer, runner: Runner) -> float:
    """max|Δ| / max(1, max|output|) over all outputs and trial batches, ragged, padded on either side.

    导出程序与原模型输出的最大差异。
    """
    found = 0.0
    for trial, (rows, length) in enumerate(TRIALS):
        batch = trial_batch(model.config, rows, length, seed=trial)
        with torch.inference_mode():
            expected = model(batch[0], batch[1], attention_mask=batch[2])
            given = runner(batch)
        for name, value in given.items():
            wanted: Tensor = getattr(expected, name)
            if value.shape != wanted.shape or not bool(value.isfinite().all()):
                return float("inf")
            difference = float((value - wanted).abs().max()) / max(1.0, float(wanted.abs().max()))
            found = max(found, difference)
    return found


def trial_batch(config: ModelConfig, rows: int, length: int, seed: int) -> Arguments:
    """Random ids, segments and masks [B, L]; every second row is padded on the left. 用于核对的随机批次。"""
    generator = torch.Generator().manual_seed(seed)
    length = min(length, config.max_positions)

    def draw(low: int, high: int, shape: Sequence[int]) -> Tensor:
        return torch.randint(low, max(high, low + 1), list(shape), generator=generator)

    lengths = draw(1, length + 1, (rows, 1))
    lengths[0] = length
    mask = (torch.arange(length)[None] < lengths).to(torch.int64)
    mask[1::2] = mask[1::2].flip(1)
    ids = draw(0, config.vocab_size, (rows, length))
    segments = draw(0, min(config.segment_vocab_size, 2), (rows, length))
    return ids, segments, mask


def _program(padded: PaddedTransformer) -> Any:
    """The traced program, with a free number of rows and a free length."""
    from torch.export import Dim, export

    config = padded.model.config
    batch = trial_batch(config, 3, 5, seed=0)
    sizes = {0: Dim("batch", min=1), 1: Dim("length", min=1, max=config.max_positions)}
    # A first pass makes what is made once, such as tables of positions, outside the trace.
    with torch.no_grad():
        padded(*batch)
        return export(padded, batch, dynamic_shapes=(sizes, sizes, sizes), strict=False)


def _torch_program(padded: PaddedTransformer) -> tuple[bytes, Runner]:
    import torch.export

    buffer = io.BytesIO()
    torch.export.save(_program(padded), buffer)
    buffer.seek(0)
    module = torch.export.load(buffer).module()
    return buffer.getvalue(), lambda batch: module(*batch)


def _onnx_program(padded: PaddedTransformer) -> tuple[bytes, Runner]:
    runtime = _onnx_runtime()
    if sum(parameter.nbytes for parameter in padded.parameters()) > _LARGEST_ONNX:
        raise UserError("export: an ONNX file holds at most 2 GB; use the format torch")
    with torch.no_grad():
        names = list(padded(*trial_batch(padded.model.config, 1, 1, seed=0)))
    made = torch.onnx.export(
        _program(padded), dynamo=True, input_names=list(INPUTS), output_names=names, verbose=False
    )
    assert made is not None
    content = made.model_proto.SerializeToString()
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(batch: Arguments) -> dict[str, Tensor]:
        wanted = {entry.name for entry in session.get_inputs()}
        given = {name: value.numpy() for name, value in zip(INPUTS, batch, strict=True) if name in wanted}
        values = session.run(names, given)
        return {name: torch.from_numpy(value) for name, value in zip(names, values, strict=True)}

    return content, run


def _onnx_runtime() -> Any:
    """What runs ONNX programs; torch's exporter needs onnxscript, and would say so less plainly."""
    try:
        import_module("onnxscript")
        return import_module("onnxruntime")
    except ImportError as error:
        raise UserError(
            f"export: the format onnx needs {error.name}; pip install 'hanformer[onnx]'"
        ) from None
