"""`hanformer chat`: a conversation in the terminal, or through a pipe, one utterance a line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hanformer.cli.lines import lines
from hanformer.cli.model_options import Family
from hanformer.cli.options import Device, Precision, Threads, prepare_machine

if TYPE_CHECKING:
    from hanformer.chat.session import Session

#: An option of the panel of replies.
_reply = partial(typer.Option, rich_help_panel="Replies · 回复")


def chat(
    context: typer.Context,
    run: Annotated[
        str,
        typer.Argument(help="A run of `hanformer train chat`, or a model folder. 运行目录或模型文件夹。"),
    ],
    load: Annotated[
        Path | None, typer.Option(help="Go on with a saved conversation. 继续保存过的对话。")
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="alternating or speakers, for a model folder. 模型文件夹的对话布局。")
    ] = None,
    family: Family = None,
    rule: Annotated[str | None, _reply(help="sample (default), greedy, beam, diverse. 解码规则。")] = None,
    maximum_length: Annotated[
        int | None, _reply(min=1, help="Tokens of a reply at most. 回复长度上限。")
    ] = None,
    minimum_length: Annotated[
        int | None, _reply(min=0, help="Tokens of a reply at least. 回复长度下限。")
    ] = None,
    beams: Annotated[int | None, _reply(help="Width of the beam. 束宽。")] = None,
    temperature: Annotated[float | None, _reply(help="Divides the logits. 温度。")] = None,
    top_p: Annotated[float | None, _reply(help="Nucleus sampling, 0.9 by default. 核采样。")] = None,
    top_k: Annotated[int | None, _reply(help="Keep the k best instead. 保留前 k 个。")] = None,
    repetition_penalty: Annotated[
        float | None, _reply(help="Divides logits of old tokens. 重复惩罚。")
    ] = None,
    no_repeat_ngram: Annotated[
        int | None, _reply(min=0, help="No n-gram twice in a reply: 3; 0 allows it. 禁止重复 n 元组。")
    ] = None,
    penalise_prompt: Annotated[
        bool | None, _reply("--penalise-prompt", help="Penalties count the history too. 惩罚计入历史。")
    ] = None,
    seed: Annotated[int | None, _reply(help="Seed of the draws. 随机种子。")] = None,
    plain: Annotated[
        bool,
        _reply("--plain", help="Without the remedies that are on by default. 不用默认的防重复措施。"),
    ] = False,
    precision: Precision = "auto",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Talk with a trained chat model; /help lists the commands, Ctrl-C ends a reply.

    与训练好的对话模型聊天；/help 列出命令，Ctrl-C 中断回复。

    Examples: hanformer chat runs/chat; echo 你好 | hanformer chat runs/chat --rule greedy
    """
    from hanformer import runtime
    from hanformer.chat.conversation import open_conversation
    from hanformer.chat.opening import open_chat
    from hanformer.chat.session import Session

    target = prepare_machine(device, threads)
    conversation = None if load is None else open_conversation(load)
    dtype = runtime.inference_dtype(precision, target)
    opened = open_chat(run, layout=layout, family=family, device=target, dtype=dtype)
    session = Session(opened.replier(opened.options(context.params, plain=plain)), conversation)
    if sys.stdin.isatty():
        _talk(session)
    else:
        _pipe(session)


def _talk(session: Session) -> None:
    """A terminal: mistakes are told, an interrupt ends what is being said."""
    from hanformer.errors import UserError

    typer.echo("Say something; /help lists the commands. 请开始对话，/help 查看命令。", err=True)
    for line in _typed():
        try:
            _turn(session, line)
        except UserError as error:
            typer.echo(f"hanformer: {error}", err=True)
        except KeyboardInterrupt:
            typer.echo("(cut short · 已中断)", err=True)
        if session.over:
            return


def _typed() -> Iterator[str]:
    """Lines as they are typed; an interrupt drops the line."""
    with suppress(ImportError):  # the line can then be edited
        import readline  # noqa: F401
    while True:
        try:
            line = input("> ")
        except EOFError:
            typer.echo()
            return
        except KeyboardInterrupt:
            typer.echo("\n/quit or Ctrl-D leaves · 输入 /quit 或按 Ctrl-D 退出", err=True)
            continue
        if line.strip():
            yield line


def _pipe(session: Session) -> None:
    """A pipe: a reply a line, and the first mistake ends it."""
    for line in filter(str.strip, lines()):
        _turn(session, line)
        if session.over:
            return


def _turn(session: Session, line: str) -> None:
    from hanformer.chat.session import is_command, said

    if is_command(line):
        told = session.command(line)
        if told:
            typer.echo(told, err=True)
        return
    with closing(session.say(said(line))) as pieces:  # type: ignore[type-var]
        _show(pieces)


def _show(pieces: Iterator[str]) -> None:
    shown = False
    try:
        for piece in pieces:
            shown = True
            sys.stdout.write(piece)
            sys.stdout.flush()
    finally:  # an interrupt too leaves a whole line
        if shown:
            sys.stdout.write("\n")
            sys.stdout.flush()
