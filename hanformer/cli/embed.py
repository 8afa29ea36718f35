"""`hanformer embed`: texts of a file to vectors in a .npy file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from hanformer.cli.bar import bar
from hanformer.cli.model_options import Checkpoint, ConfigFile, Family, TokenizerPath
from hanformer.cli.options import Device, Precision, Threads, prepare_machine


def embed(
    model: Checkpoint,
    source: Annotated[
        str,
        typer.Option(
            "--input",
            help="A text a line, or JSON lines with --field; plain, .gz or .zip; - is standard input. "
            "每行一条文本，或配合 --field 的 JSON 行；- 为标准输入。",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The .npy file to write, float32 [n, C]. 输出文件。")],
    field: Annotated[
        str | None, typer.Option(help="The field of the JSON records that holds the text. 文本字段名。")
    ] = None,
    pooling: Annotated[str, typer.Option(help="cls, mean, pooled or last. 池化方式。")] = "cls",
    normalise: Annotated[
        bool, typer.Option("--normalise", help="Make every vector one of length 1. 归一化到单位长度。")
    ] = False,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Tokens run together. 每批词元数。")] = 2048,
    maximum_length: Annotated[
        int | None, typer.Option(min=2, help="Cut texts to so many tokens. 最大词元数，超出则截断。")
    ] = None,
    family: Family = None,
    config: ConfigFile = None,
    tokenizer: TokenizerPath = None,
    dtype: Precision = "auto",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Write the vector of every text of a file, in order.

    把文件中的每条文本编码为向量，按原顺序写入 .npy。

    Example: hanformer embed bert --input texts.txt --out vectors.npy --pooling mean
    """
    from hanformer import runtime
    from hanformer.models.checkpoint import open_checkpoint
    from hanformer.similarity.encode import complaints, open_encoder
    from hanformer.similarity.vector_files import read_texts, summary, write_vectors
    from hanformer.tasks.opening import tokenizer_of

    target = prepare_machine(device, threads)
    texts = read_texts(source, field)
    words = tokenizer_of(open_checkpoint(model, family=family, config=config), tokenizer)
    stages = open_encoder(
        model,
        words,
        family=family,
        config=config,
        pooling=pooling,
        token_budget=batch_tokens,
        maximum_length=maximum_length,
        normalise=normalise,
        dtype=runtime.inference_dtype(dtype, target),
        device=target,
    )
    start = time.perf_counter()
    with bar("texts", len(texts)) as progress:
        blocks = write_vectors(out, stages, texts, progress)
    line = summary(out, stages, blocks, len(texts), time.perf_counter() - start)
    for complaint in complaints(blocks, len(texts)):
        typer.echo(f"warning: {complaint}", err=True)
    typer.echo(line)
