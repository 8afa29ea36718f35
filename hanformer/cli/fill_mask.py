"""`hanformer fill-mask`: what a masked language model would write."""

from __future__ import annotations

from typing import Annotated

import typer

from hanformer.cli.model_options import Checkpoint, ConfigFile, Family, TokenizerPath
from hanformer.cli.options import Device, Threads, prepare_machine


def fill_mask(
    model: Checkpoint,
    text: Annotated[str, typer.Argument(help="A text with one [MASK] or more. 含 [MASK] 的文本。")],
    top: Annotated[int, typer.Option(min=1, help="How many candidates for each mask. 每处候选数。")] = 5,
    family: Family = None,
    config: ConfigFile = None,
    tokenizer: TokenizerPath = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Print the likeliest tokens for every [MASK] of a text, with their probabilities.

    列出文本中每个 [MASK] 处最可能的词元及概率。

    Example: hanformer fill-mask bert "今天天气[MASK]错"
    """
    from hanformer.models import load
    from hanformer.models.checkpoint import open_checkpoint
    from hanformer.tasks.fill_mask import fill_mask as fill
    from hanformer.tasks.opening import tokenizer_of

    target = prepare_machine(device, threads)
    words = tokenizer_of(open_checkpoint(model, family=family, config=config), tokenizer)
    opened = load(model, family=family, config=config, heads=("mlm",), device=target)
    for number, candidates in enumerate(fill(opened, words, text, top=top), start=1):
        typer.echo(f"{words.vocabulary.specials.mask} {number}")
        for candidate in candidates:
            typer.echo(f"  {candidate.probability:8.4f}  {candidate.token}")
