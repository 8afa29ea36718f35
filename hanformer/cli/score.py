"""`hanformer score`: how near generated texts come to their references."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def score(
    hypotheses: Annotated[
        str,
        typer.Argument(
            help="Generated texts: one a line, what `hanformer generate --out` wrote (first results), or JSON lines "
            "with --field; plain, .gz or .zip; - is standard input. "
            "生成的文本：每行一条、generate --out 的结果文件，或配合 --field 的 JSON 行；- 为标准输入。"
        ),
    ],
    references: Annotated[
        str, typer.Argument(help="The texts that they should have been, line by line. 逐行对应的参考文本。")
    ],
    field: Annotated[
        str | None, typer.Option(help="The field of the JSON records that holds the text. 生成文本的字段名。")
    ] = None,
    reference_field: Annotated[
        str | None, typer.Option(help="The same of the references. 参考文本的字段名。")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the scores as JSON too. 同时把得分写成 JSON 文件。")
    ] = None,
) -> None:
    """Score generated Chinese by character: ROUGE, BLEU, chrF, and how much it repeats itself.

    按字为生成的中文评分：ROUGE、BLEU、chrF 与重复率。

    ROUGE and sentence BLEU are means over texts with the conventions of the posts on title generation; corpus BLEU
    and chrF are sacrebleu's, each with its signature. All are printed in hundredths.

    Examples: hanformer score written.txt references.txt; hanformer score records.jsonl references.txt --field text
    """
    import json

    from hanformer.errors import UserError
    from hanformer.similarity.vector_files import read_texts
    from hanformer.tasks.generation_files import read_written
    from hanformer.tasks.scoring import score_texts
    from hanformer.weights.atomic import write_text

    if out is not None and not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}; make it first, or choose another place")
    scores = score_texts(read_written(hypotheses, field), read_texts(references, reference_field))
    typer.echo(f"{scores.texts:,} texts\n{scores.table()}")
    if out is not None:
        write_text(out, json.dumps(scores.to_dict(), ensure_ascii=False, indent=2) + "\n")
