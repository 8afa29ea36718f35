"""`hanformer parse`: the tree of a sentence, from the gates of an ON-LSTM that never saw a tree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hanformer.cli.options import Device, Threads, prepare_machine


def parse(
    model: Annotated[
        Path, typer.Option(help="A run of `hanformer train recurrent`. `train recurrent` 的运行目录。")
    ],
    text: Annotated[
        list[str] | None, typer.Argument(help="Sentences, one an argument. 句子，每个参数一句。")
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(help="Draw the tree of one sentence into this file. 把一句的树画成 SVG。")
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(
            help="The layer to read, from 0; default: the middle one. 取哪一层，从 0 起，默认中间层。"
        ),
    ] = None,
    rule: Annotated[
        str, typer.Option(help="How distances are cut: paper or unbiased. 切分规则：paper 或 unbiased。")
    ] = "paper",
    brackets: Annotated[
        bool, typer.Option("--brackets", help="Print brackets on one line. 只输出一行括号。")
    ] = False,
    treebank: Annotated[
        Path | None,
        typer.Option(help="Score on this treebank (.mrg files, a folder, a zip). 在树库上计算 F1。"),
    ] = None,
    longest: Annotated[
        int | None,
        typer.Option(min=1, help="Score sentences of at most so many words. 只评测不超过此长度的句子。"),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Print the trees of sentences, or score a model on a treebank.

    输出句子的句法树，或在树库上评测。

    Example: hanformer parse --model runs/onlstm "the cat sat on the mat" --svg tree.svg
    """
    from hanformer.errors import UserError
    from hanformer.parsing.drawing import as_svg, as_text
    from hanformer.parsing.parser import load_parser, score_table
    from hanformer.parsing.treebank import read_treebank
    from hanformer.weights.atomic import write_text

    if not text and treebank is None:
        raise UserError("give a sentence to parse, or --treebank to score on")
    if longest is not None and treebank is None:
        raise UserError("--longest chooses sentences of a --treebank; name one, or leave it out")
    if svg is not None and len(text or []) != 1:
        raise UserError(f"--svg draws the tree of one sentence, got {len(text or [])}")
    parser = load_parser(model, layer=layer, rule=rule, device=prepare_machine(device, threads))
    trees = [parser.parse(sentence) for sentence in text or []]
    for tree in trees:
        typer.echo(tree.text() if brackets else as_text(tree))
        if unknown := parser.words.unknown(tree.words):
            typer.echo(f"note: the model does not know {', '.join(unknown)}", err=True)
    if svg is not None:
        write_text(svg, as_svg(trees[0]))
    if treebank is not None:
        typer.echo(score_table(parser, read_treebank(treebank, longest=longest)))
