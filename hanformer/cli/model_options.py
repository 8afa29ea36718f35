"""Options of the commands that open a checkpoint. 打开检查点的命令的公共选项。"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Checkpoint = Annotated[
    str,
    typer.Argument(
        help="A folder, a .safetensors, .bin or .npz file, a TensorFlow prefix, a run folder or a hub id. "
        "文件夹、权重文件、TensorFlow 前缀、运行目录或 hub 名称。"
    ),
]
Family = Annotated[
    str | None,
    typer.Option(
        help="bert, albert, nezha, roformer, ... where it is not recognised. 模型家族，一般可省略。"
    ),
]
Application = Annotated[str | None, typer.Option(help="lm or unilm, where the file does not say. 应用方式。")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="The JSON config, where it lies elsewhere. 不在权重旁边的 JSON 配置。"),
]
TokenizerPath = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer", help="A vocab.txt, .model or folder that lies elsewhere. 不在权重旁边的词表。"
    ),
]
