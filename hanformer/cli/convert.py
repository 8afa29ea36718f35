"""`hanformer convert`: a checkpoint in another format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hanformer.cli.model_options import Checkpoint, ConfigFile, Family

if TYPE_CHECKING:
    import torch


def convert(
    source: Checkpoint,
    target: Annotated[Path, typer.Argument(help="The folder to write. 输出文件夹。")],
    to: Annotated[
        str, typer.Option(help="safetensors (ours), transformers or tensorflow. 输出格式。")
    ] = "safetensors",
    family: Family = None,
    application: Annotated[
        str | None, typer.Option(help="encoder, lm or unilm. 用途，默认由家族决定。")
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option(
            help="lm (or mlm), pool, nsp, with commas; default: all there are. 输出头，默认全部保留。"
        ),
    ] = None,
    config: ConfigFile = None,
    dtype: Annotated[
        str | None, typer.Option(help="bf16, fp16 or fp32; default: as it is. 数值类型，默认不变。")
    ] = None,
    keep_tokens: Annotated[
        Path | None,
        typer.Option(
            help="A JSON list of the ids to keep, in their new order. 要保留的词元编号（JSON 列表）。"
        ),
    ] = None,
    unshare: Annotated[
        bool,
        typer.Option(
            "--unshare", help="Give every layer of an ALBERT weights of its own. 取消 ALBERT 的层间共享。"
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder that is not empty. 允许写入非空文件夹。")
    ] = False,
) -> None:
    """Write a checkpoint of any format as a folder of another, with its tokenizer.

    转换检查点格式，分词器一并带上。

    Example: hanformer convert chinese_L-12_H-768_A-12/bert_model.ckpt bert --to transformers
    """
    from hanformer.tasks.conversion import convert as write
    from hanformer.text.trimming import read_keep_tokens

    found = write(
        source,
        target,
        to=to,
        family=family,
        application=application,
        heads=None if heads is None else [name.strip() for name in heads.split(",") if name.strip()],
        config=config,
        dtype=None if dtype is None else _dtype(dtype),
        keep_tokens=None if keep_tokens is None else read_keep_tokens(keep_tokens),
        unshare=unshare,
        force=force,
    )
    typer.echo(
        f"{target}: {found.family}, {found.parameters:,} parameters, heads: {', '.join(found.heads) or 'none'}\n"
        f"tokenizer: {', '.join(found.tokenizer) or 'none lay beside the weights'}"
    )


def _dtype(word: str) -> torch.dtype:
    import torch

    from hanformer.errors import UserError

    known = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if word not in known:
        raise UserError(f"--dtype: expected one of {', '.join(known)}, got {word!r}")
    return known[word]
