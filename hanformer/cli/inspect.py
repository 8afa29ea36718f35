"""`hanformer inspect`: what a checkpoint holds, and how it would load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from hanformer.cli.model_options import Checkpoint, ConfigFile, Family

if TYPE_CHECKING:
    from hanformer.tasks.inspection import Inspection, Loaded


def inspect(
    checkpoint: Checkpoint,
    config: ConfigFile = None,
    family: Family = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every tensor and every value of the config. 列出全部张量与配置。")
    ] = False,
) -> None:
    """Show the tensors, family and config of a checkpoint, and how it would load.

    查看检查点的张量、家族与配置，以及加载时的吻合情况。

    With --family the exit code is 2 where the checkpoint does not load as that family.

    Example: hanformer inspect chinese_L-12_H-768_A-12/bert_model.ckpt
    """
    from hanformer.tasks.inspection import inspect as look

    found = look(checkpoint, family=family, config=config)
    typer.echo("\n".join([*_title(found), *_tensors(found, everything), *_loaded(found, everything)]))
    if family is not None and not found.fits:
        raise typer.Exit(2)


def _title(found: Inspection) -> Iterator[str]:
    size = f"{len(found.tensors):,} tensors, {found.numbers:,} numbers, {_size(found.bytes)}"
    yield f"{found.origin}: {found.format}, {size}"
    yield f"names  {found.dialect}"
    yield f"family {found.family or 'not recognised: name it with --family'}"


def _tensors(found: Inspection, everything: bool) -> Iterator[str]:
    from hanformer.tasks.inspection import Like, alike

    whole = (Like(info.name, info.shape, str(info.dtype).removeprefix("torch."), 1) for info in found.tensors)
    lines = list(whole) if everything else alike(found.tensors)
    width = max((len(line.name) for line in lines), default=0)
    yield "\ntensors"
    for line in lines:
        count = f"  x {line.count}" if line.count > 1 else ""
        yield f"  {line.name:<{width}}  {list(line.shape)!s:<14} {line.dtype}{count}"


def _loaded(found: Inspection, everything: bool) -> Iterator[str]:
    if found.complaint is not None:
        yield f"\nnot to be loaded like this: {' '.join(found.complaint.split())}"
    if found.loaded is None:
        return
    yield from _config(found.loaded, everything)
    heads = ", ".join(found.loaded.heads) or "none"
    yield f"\nas {found.family or 'a model of ours'}: {found.loaded.parameters:,} parameters, heads: {heads}"
    yield from (f"  {line}" for line in found.loaded.report.text().splitlines())
    yield from () if found.left_out is None else (f"  {found.left_out}",)


def _config(loaded: Loaded, everything: bool) -> Iterator[str]:
    from hanformer.tasks.inspection import DEFAULT

    yield "\nconfig"
    for choice in loaded.choices:
        if everything or choice.origin != DEFAULT:
            said = "" if choice.said is None else f", which says {choice.said}"
            yield f"  {choice.name:<24} {choice.value!s:<14} ({choice.origin}{said})"


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count:,} bytes"
